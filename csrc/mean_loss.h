// mean_loss: from the two sums of every anchor to the loss, sigma and tau of Eq. (3) and the mean of Eq. (10).
#pragma once

#include <cstdint>

namespace metrix {

// Sums of exponentials arrive as logarithms L: kLog is scale * L, kLog1p is scale * log(1 + e^L).
enum class Sigma { kIdentity, kLog, kLog1p };

struct MeanLossArgs {
  int64_t anchors;   // m
  Sigma sigma;       // of both sides
  double scales[2];  // of the positive and the negative side
  bool relu;         // tau
};

namespace cpu {
// The mean over the anchors of tau(sigma+ + sigma-) for sums [m, 2]; an anchor with an undefined logarithm counts 0.
template <class T>
T mean_loss(const MeanLossArgs& args, const T* sums);

// grad_sums [m, 2], every element.
template <class T>
void mean_loss_backward(const MeanLossArgs& args, const T* sums, T grad, T* grad_sums);
}  // namespace cpu

}  // namespace metrix
