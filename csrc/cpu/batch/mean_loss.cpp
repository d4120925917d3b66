#include "mean_loss.h"

namespace metrix::cpu {
namespace {

template <class T>
double total(const MeanLossArgs& args, const T* sums) {
  double total = 0;
  for (int64_t a = 0; a < args.anchors; ++a) total += anchor_loss(args, sums[2 * a], sums[2 * a + 1]).value;
  return total;
}

template <class T>
void gradient_of(const MeanLossArgs& args, const T* sums, double factor, T* grad_sums) {
  for (int64_t a = 0; a < args.anchors; ++a) {
    const AnchorLoss loss = anchor_loss(args, sums[2 * a], sums[2 * a + 1]);
    for (int side = 0; side < 2; ++side) grad_sums[2 * a + side] = T(factor * loss.slopes[side]);
  }
}

}  // namespace

template <class T>
void mean_loss(const MeanLossArgs& args, const MeanLossSums<T>& sums, T* loss) {
  double both = total(args, sums.clean);
  if (sums.mixed != nullptr) both += args.strength * total(args, sums.mixed);
  *loss = T(share(args) * both);
}

template <class T>
void mean_loss_backward(const MeanLossArgs& args, const MeanLossSums<T>& sums, const MeanLossGradient<T>& gradient) {
  const double factor = share(args) * double(*gradient.loss);
  gradient_of(args, sums.clean, factor, gradient.clean);
  if (sums.mixed != nullptr) gradient_of(args, sums.mixed, args.strength * factor, gradient.mixed);
}

template void mean_loss<float>(const MeanLossArgs&, const MeanLossSums<float>&, float*);
template void mean_loss<double>(const MeanLossArgs&, const MeanLossSums<double>&, double*);
template void mean_loss_backward<float>(const MeanLossArgs&, const MeanLossSums<float>&,
                                        const MeanLossGradient<float>&);
template void mean_loss_backward<double>(const MeanLossArgs&, const MeanLossSums<double>&,
                                         const MeanLossGradient<double>&);

}  // namespace metrix::cpu
