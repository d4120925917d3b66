// mean_loss: from the two sums of every anchor to the loss, sigma and tau of Eq. (3) and the means of Eq. (10).
#pragma once

#include <cmath>
#include <cstdint>

#include "compiler.h"

namespace metrix {

// Sums of exponentials arrive as logarithms L: kLog is scale * L, kLog1p is scale * log(1 + e^L).
enum class Sigma { kIdentity, kLog, kLog1p };

struct MeanLossArgs {
  int64_t anchors;   // m
  Sigma sigma;       // of both sides
  double scales[2];  // of the positive and the negative side
  bool relu;         // tau
  double strength;   // w of the mixed sums
};

// The loss of one anchor, and its derivatives by the two sums. All are NaN where the loss is not finite: then the
// gradients show it, too, which is what scales a loss down.
struct AnchorLoss {
  double value, slopes[2];
};

METRIX_FN AnchorLoss anchor_loss(const MeanLossArgs& args, double positive, double negative) {
  const double sums[2] = {positive, negative};
  // An undefined logarithm: the anchor counts 0.
  if (args.sigma == Sigma::kLog && (positive == -HUGE_VAL || negative == -HUGE_VAL)) return {};
  AnchorLoss loss{};
  for (int side = 0; side < 2; ++side) {
    const double sum = sums[side], scale = args.scales[side];
    if (args.sigma == Sigma::kLog1p) {
      const double power = ::exp(-::fabs(sum));
      loss.value += scale * (::log1p(power) + (sum < 0 ? 0 : sum));
      loss.slopes[side] = scale * (sum < 0 ? power : 1) / (1 + power);
    } else {
      loss.value += scale * sum;
      loss.slopes[side] = scale;
    }
  }
  if (args.relu && loss.value <= 0) return {};
  const double zero_or_nan = 0 * loss.value;
  return {loss.value + zero_or_nan, {loss.slopes[0] + zero_or_nan, loss.slopes[1] + zero_or_nan}};
}

// What the mean over m anchors multiplies each by; the mean of nobody is 0.
METRIX_FN double share(const MeanLossArgs& args) { return 1. / double(args.anchors > 0 ? args.anchors : 1); }

template <class T>
struct MeanLossSums {
  const T* clean;  // [m, 2] positive, negative
  const T* mixed;  // [m, 2] likewise, or null
};

// Every element of clean, and of mixed where there are such sums, is written.
template <class T>
struct MeanLossGradient {
  const T* loss;  // [1]
  T* clean;       // [m, 2]
  T* mixed;       // [m, 2]
};

namespace cpu {
// loss [1]: the mean over the anchors of tau(sigma+ + sigma-) of the clean sums, plus strength times that of the mixed
// ones.
template <class T>
void mean_loss(const MeanLossArgs& args, const MeanLossSums<T>& sums, T* loss);

template <class T>
void mean_loss_backward(const MeanLossArgs& args, const MeanLossSums<T>& sums, const MeanLossGradient<T>& gradient);
}  // namespace cpu

namespace cuda {
template <class T>
void mean_loss(const MeanLossArgs& args, const MeanLossSums<T>& sums, T* loss, int device, void* stream);

template <class T>
void mean_loss_backward(const MeanLossArgs& args, const MeanLossSums<T>& sums, const MeanLossGradient<T>& gradient,
                        int device, void* stream);
}  // namespace cuda

}  // namespace metrix
