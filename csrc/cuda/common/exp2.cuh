// 2^x as the device evaluates it. Two units can: the special-function unit, 16 results a clock and multiprocessor,
// and by a polynomial the FMA units. The kernels are bound by the first, so a share of the terms goes to the second.
#pragma once

#include <cuda_runtime.h>

#include "math.h"

// Of the 16 exponentials of eight anchors, how many are polynomials (docs/cuda.md predicts the best number).
#ifndef METRIX_POLYNOMIAL_SHARE
#define METRIX_POLYNOMIAL_SHARE 0
#endif

namespace metrix::cuda {

// Relative error below 2^-22; 0 below the normal range, so also at minus infinity.
__device__ __forceinline__ float special_exp2(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return x < -126.f ? 0.f : metrix::exp2(x);
#endif
}

__device__ __forceinline__ float at_least_or_nan(float x, float low) {
#ifdef __CUDA_ARCH__
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(low));
  return y;
#else
  return at_least(x, low);
#endif
}

// For x <= 127; the smallest normal number below the normal range. Degree 5 is minimax in relative error (9e-8) on
// [-1/2, 1/2]. The constant added to round carries the exponent's bias, so that its low bits are the result's
// exponent.
__device__ __forceinline__ float polynomial_exp2(float x) {
  constexpr float kRound = 12582912.f + 127.f;
  x = at_least_or_nan(x, -126.f);
  const float shifted = x + kRound;
  const float f = x - (shifted - kRound);
  float p = 1.3264720366e-3f * f + 9.6715130223e-3f;
  p = p * f + 5.5507337777e-2f;
  p = p * f + 2.4022242077e-1f;
  p = p * f + 6.9314697756e-1f;
  p = p * f + 1.f;
  return p * bit_cast<float>(bit_cast<uint32_t>(shifted) << 23);
}

// The exponential of one place in a block of terms: the place decides the unit.
template <int place>
__device__ __forceinline__ float exp2_of_place(float x) {
  return place % 16 < METRIX_POLYNOMIAL_SHARE ? polynomial_exp2(x) : special_exp2(x);
}

template <int place>
__device__ __forceinline__ double exp2_of_place(double x) {
  return metrix::exp2(x);
}

// To move a sum to another exponent: what is too small for that is 0.
__device__ __forceinline__ float rescaling_exp2(float x) { return special_exp2(x); }
__device__ __forceinline__ double rescaling_exp2(double x) { return metrix::exp2(x); }

// Of a normal number.
__device__ __forceinline__ float inverse_square_root(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.f / SquareRoot<float>::of(x);
#endif
}

__device__ __forceinline__ double inverse_square_root(double x) { return 1. / SquareRoot<double>::of(x); }

}  // namespace metrix::cuda
