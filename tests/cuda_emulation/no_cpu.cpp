// The CPU kernels that bindings.cpp names and the emulation does not need.
#include <stdexcept>

#include "../../csrc/cpu/rows.h"
#include "../../csrc/pair_sums.h"

namespace metrix::cpu {

const char* instruction_set() { return "emulated device"; }

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

template void pair_lambda<float>(const PairLambdaArgs&, float*, int);
template void pair_lambda<double>(const PairLambdaArgs&, double*, int);
template void pair_sums<float>(const PairSumsArgs<float>&, const PairSumsOutput<float>&, int);
template void pair_sums<double>(const PairSumsArgs<double>&, const PairSumsOutput<double>&, int);
template void pair_sums_backward<float>(const PairSumsArgs<float>&, const PairSumsGradient<float>&, int);
template void pair_sums_backward<double>(const PairSumsArgs<double>&, const PairSumsGradient<double>&, int);

}  // namespace metrix::cpu
