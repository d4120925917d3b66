// The 32 threads of a warp (its lanes): numbers that kernels share, and sums over lanes by exchange of registers.
#pragma once

#include <cuda_runtime.h>

#include "math.h"

namespace metrix::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;  // the mask of an exchange in which every lane takes part

template <class T>
constexpr T kInfinity = T(__builtin_huge_val());

template <class T>
constexpr T kNaN = T(__builtin_nan(""));

// x * y + z with one rounding, also where the compiler would share the product with something else.
__device__ __forceinline__ float fused(float x, float y, float z) { return ::fmaf(x, y, z); }
__device__ __forceinline__ double fused(double x, double y, double z) { return ::fma(x, y, z); }

// The larger of two numbers; of a NaN and a number, the number.
__device__ __forceinline__ float larger_number(float x, float y) { return ::fmaxf(x, y); }
__device__ __forceinline__ double larger_number(double x, double y) { return ::fmax(x, y); }

// The sum over the lanes, in all of them.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
  METRIX_UNROLL
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAllLanes, x, lanes);
  return x;
}

template <class T>
__device__ __forceinline__ T warp_max(T x) {
  METRIX_UNROLL
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, lanes);
    x = other > x ? other : x;
  }
  return x;
}

// The sums of kValues values over the lanes: lane l gets that of value l / (32 / kValues). Half of the values change
// hands in every step, so that it takes about kValues exchanges instead of 5 kValues.
template <class T, int kValues>
__device__ __forceinline__ T warp_sums(T (&values)[kValues]) {
  METRIX_UNROLL
  for (int step = 1; kValues >> step > 0; ++step) {
    const int half = kValues >> step, distance = kWarp >> step;
    const bool upper = threadIdx.x & unsigned(distance);
    METRIX_UNROLL
    for (int k = 0; k < kValues / 2; ++k) {
      if (k >= half) continue;  // a bound that the compiler knows keeps the values in registers
      const T kept = upper ? values[k + half] : values[k], given = upper ? values[k] : values[k + half];
      values[k] = kept + __shfl_xor_sync(kAllLanes, given, distance);
    }
  }
  METRIX_UNROLL
  for (int lanes = kWarp / 2 / kValues; lanes > 0; lanes /= 2)
    values[0] += __shfl_xor_sync(kAllLanes, values[0], lanes);
  return values[0];
}

// How many lanes before this one voted yes: the place of a lane's element when those of the voters are packed.
__device__ __forceinline__ int votes_before(unsigned votes) { return __popc(votes & ((1u << threadIdx.x) - 1)); }

}  // namespace metrix::cuda
