#include "../mean_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace metrix::cpu {
namespace {

struct Side {
  double value, slope;
};

Side sigma(Sigma kind, double scale, double sum) {
  if (kind != Sigma::kLog1p) return {scale * sum, scale};
  const double power = std::exp(-std::abs(sum));
  const double slope = sum < 0 ? power / (1 + power) : 1 / (1 + power);
  return {scale * (std::log1p(power) + (sum < 0 ? 0 : sum)), scale * slope};
}

// Calls body(anchor, loss, slopes) for every anchor, slopes being those of the loss by the two sums.
template <class T, class Body>
void for_each_anchor(const MeanLossArgs& args, const T* sums, const Body& body) {
  for (int64_t a = 0; a < args.anchors; ++a) {
    const T* both = sums + 2 * a;
    constexpr T kEmpty = -std::numeric_limits<T>::infinity();
    if (args.sigma == Sigma::kLog && (both[0] == kEmpty || both[1] == kEmpty)) {
      body(a, 0., 0., 0.);
      continue;
    }
    const Side positive = sigma(args.sigma, args.scales[0], both[0]);
    const Side negative = sigma(args.sigma, args.scales[1], both[1]);
    const double loss = positive.value + negative.value;
    if (args.relu && loss <= 0)
      body(a, 0., 0., 0.);
    else
      body(a, loss, positive.slope, negative.slope);
  }
}

double share(const MeanLossArgs& args) { return 1. / double(std::max<int64_t>(1, args.anchors)); }

}  // namespace

template <class T>
T mean_loss(const MeanLossArgs& args, const T* sums) {
  double total = 0;
  for_each_anchor(args, sums, [&](int64_t, double loss, double, double) { total += loss; });
  return T(total * share(args));
}

template <class T>
void mean_loss_backward(const MeanLossArgs& args, const T* sums, T grad, T* grad_sums) {
  const double factor = double(grad) * share(args);
  for_each_anchor(args, sums, [&](int64_t a, double, double positive, double negative) {
    grad_sums[2 * a] = T(factor * positive);
    grad_sums[2 * a + 1] = T(factor * negative);
  });
}

template float mean_loss<float>(const MeanLossArgs&, const float*);
template double mean_loss<double>(const MeanLossArgs&, const double*);
template void mean_loss_backward<float>(const MeanLossArgs&, const float*, float, float*);
template void mean_loss_backward<double>(const MeanLossArgs&, const double*, double, double*);

}  // namespace metrix::cpu
