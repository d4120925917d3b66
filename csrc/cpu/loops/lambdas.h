// The inner loop of pair_lambda, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "pair_lambda.h"

namespace metrix::cpu {

// Pairs that go through every step together: four vectors of the eight doubles of AVX-512, whose chains of dependent
// operations overlap.
constexpr int64_t kLambdaPad = 32;

// lambda_ij and lambda_ji of the listed pairs; count is a multiple of kLambdaPad.
template <class T>
struct LambdaKernels {
  void (*pair_lambda)(uint64_t seed, const BetaQuantile&, int64_t count, const int64_t* i, const int64_t* j, T* ij,
                      T* ji);
};

// The kernel of the instruction set that row_kernels() has.
template <class T>
const LambdaKernels<T>& lambda_kernels();

}  // namespace metrix::cpu
