// Compiled once per instruction set, as rows.cpp is.
#include "lambdas.h"

#include <type_traits>

#include "simd.h"

namespace metrix::cpu {
namespace {

// One step after the other: the long chains of several vectors then overlap.
template <class T>
void pair_lambda(uint64_t seed, const BetaQuantile& quantile, int64_t count, const int64_t* i, const int64_t* j, T* ij,
                 T* ji) {
  constexpr int64_t kStep = kLanes<double>, kVectors = kLambdaPad / kStep;
  typedef T Numbers __attribute__((vector_size(kStep * sizeof(T))));
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Mask __attribute__((vector_size(kStep * sizeof(T))));
  for (int64_t begin = 0; begin < count; begin += kLambdaPad) {
    U64 first[kVectors], second[kVectors], words[kVectors];
    F64 values[kVectors];
    __builtin_memcpy(first, i + begin, sizeof(first));
    __builtin_memcpy(second, j + begin, sizeof(second));
    for (int64_t k = 0; k < kVectors; ++k) words[k] = word_of_pair(seed, first[k], second[k]);
    for (int64_t k = 0; k < kVectors; ++k) values[k] = quantile_variable<F64>(words[k], quantile);
    for (int64_t k = 0; k < kVectors; ++k) values[k] = beta_quantile(words[k], values[k], quantile);
    for (int64_t k = 0; k < kVectors; ++k) {
      const Numbers lambda = __builtin_convertvector(values[k], Numbers);
      const Mask same = __builtin_convertvector(first[k] == second[k], Mask);
      const Mask ordered = __builtin_convertvector(first[k] < second[k], Mask);
      const Numbers weights[2] = {weight_of_first(lambda, same, ordered), weight_of_first(lambda, same, ~ordered)};
      __builtin_memcpy(ij + begin + k * kStep, &weights[0], sizeof(Numbers));
      __builtin_memcpy(ji + begin + k * kStep, &weights[1], sizeof(Numbers));
    }
  }
}

template <class T>
constexpr LambdaKernels<T> kTable = {pair_lambda<T>};

}  // namespace

extern const LambdaKernels<float> METRIX_OF_ISA(kLambdasF32_) = kTable<float>;
extern const LambdaKernels<double> METRIX_OF_ISA(kLambdasF64_) = kTable<double>;

}  // namespace metrix::cpu
