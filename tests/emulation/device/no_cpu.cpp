// The CPU kernels that bindings/ names and the emulation does not need.
#include <stdexcept>

#include "anchor_sums.h"
#include "class_order.h"
#include "cpu/loops/rows.h"
#include "gram.h"
#include "mean_loss.h"
#include "mix_pool.h"
#include "pair_lambda.h"
#include "pair_sums.h"
#include "unit_rows.h"

namespace metrix::cpu {

const char* instruction_set() { return "emulated device"; }

template <class T>
void gram(int64_t, int64_t, const T*, T*, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void gram_backward(int64_t, int64_t, const T*, const T*, T*, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

void class_order(int64_t, const int64_t*, const ClassOrder&) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void mean_loss(const MeanLossArgs&, const MeanLossSums<T>&, T*) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void mean_loss_backward(const MeanLossArgs&, const MeanLossSums<T>&, const MeanLossGradient<T>&) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void pair_lambda(const PairLambdaArgs&, T*, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void pair_sums(const PairSumsArgs<T>&, const PairSumsOutput<T>&, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void pair_sums_backward(const PairSumsArgs<T>&, const PairSumsGradient<T>&, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void unit_rows(const UnitRowsArgs<T>&, const T*, T*, T*, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void unit_rows_backward(const UnitRowsArgs<T>&, const T*, const T*, const T*, T*, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void mix_pool(const MixPoolArgs<T>&, const MixPoolInput<T>&, const MixPoolOutput&, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void mix_pool_backward(const MixPoolArgs<T>&, const MixPoolGradient<T>&, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void anchor_sums(const AnchorSumsArgs<T>&, const AnchorSumsOutput<T>&, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template <class T>
void anchor_sums_backward(const AnchorSumsArgs<T>&, const AnchorSumsGradient<T>&, int) {
  throw std::logic_error("the emulation has no CPU kernels");
}

template void gram<float>(int64_t, int64_t, const float*, float*, int);
template void gram<double>(int64_t, int64_t, const double*, double*, int);
template void gram_backward<float>(int64_t, int64_t, const float*, const float*, float*, int);
template void gram_backward<double>(int64_t, int64_t, const double*, const double*, double*, int);
template void mean_loss<float>(const MeanLossArgs&, const MeanLossSums<float>&, float*);
template void mean_loss<double>(const MeanLossArgs&, const MeanLossSums<double>&, double*);
template void mean_loss_backward<float>(const MeanLossArgs&, const MeanLossSums<float>&,
                                        const MeanLossGradient<float>&);
template void mean_loss_backward<double>(const MeanLossArgs&, const MeanLossSums<double>&,
                                         const MeanLossGradient<double>&);
template void pair_lambda<float>(const PairLambdaArgs&, float*, int);
template void pair_lambda<double>(const PairLambdaArgs&, double*, int);
template void pair_sums<float>(const PairSumsArgs<float>&, const PairSumsOutput<float>&, int);
template void pair_sums<double>(const PairSumsArgs<double>&, const PairSumsOutput<double>&, int);
template void pair_sums_backward<float>(const PairSumsArgs<float>&, const PairSumsGradient<float>&, int);
template void pair_sums_backward<double>(const PairSumsArgs<double>&, const PairSumsGradient<double>&, int);
template void unit_rows<float>(const UnitRowsArgs<float>&, const float*, float*, float*, int);
template void unit_rows<double>(const UnitRowsArgs<double>&, const double*, double*, double*, int);
template void unit_rows_backward<float>(const UnitRowsArgs<float>&, const float*, const float*, const float*, float*,
                                        int);
template void unit_rows_backward<double>(const UnitRowsArgs<double>&, const double*, const double*, const double*,
                                         double*, int);
template void mix_pool<float>(const MixPoolArgs<float>&, const MixPoolInput<float>&, const MixPoolOutput&, int);
template void mix_pool<double>(const MixPoolArgs<double>&, const MixPoolInput<double>&, const MixPoolOutput&, int);
template void mix_pool_backward<float>(const MixPoolArgs<float>&, const MixPoolGradient<float>&, int);
template void mix_pool_backward<double>(const MixPoolArgs<double>&, const MixPoolGradient<double>&, int);
template void anchor_sums<float>(const AnchorSumsArgs<float>&, const AnchorSumsOutput<float>&, int);
template void anchor_sums<double>(const AnchorSumsArgs<double>&, const AnchorSumsOutput<double>&, int);
template void anchor_sums_backward<float>(const AnchorSumsArgs<float>&, const AnchorSumsGradient<float>&, int);
template void anchor_sums_backward<double>(const AnchorSumsArgs<double>&, const AnchorSumsGradient<double>&, int);

}  // namespace metrix::cpu
