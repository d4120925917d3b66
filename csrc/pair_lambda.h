// pair_lambda: lambda of every pair (row, column) of global indices, spec of one value in math.h.
#pragma once

#include <cstdint>

#include "math.h"

namespace metrix {

struct PairLambdaArgs {
  const int64_t* seed;     // [1], on the device for CUDA, so that a captured graph draws anew
  const int64_t* rows;     // [row_count] global indices, not negative
  const int64_t* columns;  // [column_count]
  int64_t row_count;
  int64_t column_count;
  BetaQuantile quantile;
};

namespace cpu {
// lambda [row_count, column_count]; every element is written.
template <class T>
void pair_lambda(const PairLambdaArgs& args, T* lambda, int threads);
}  // namespace cpu

namespace cuda {
// Throws std::runtime_error if the launch fails.
template <class T>
void pair_lambda(const PairLambdaArgs& args, T* lambda, int device, void* stream);
}  // namespace cuda

}  // namespace metrix
