// Products on tensor cores: D += A B of 16 x 16 and 16 x 8 elements of bfloat16, added up in float, by a warp.
//
// Lane l holds, with g = l / 4 and t = l % 4, pairs of neighbours that are one register each:
//
//   A  row g, k = 2t     row g + 8, k = 2t     row g, k = 2t + 8     row g + 8, k = 2t + 8
//   B  k = 2t, column g      k = 2t + 8, column g
//   D  row g, column 2t      row g, column 2t + 1      row g + 8, column 2t      row g + 8, column 2t + 1
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "warp.cuh"

namespace metrix::cuda {

using LeftFragment = uint32_t[4];
using RightFragment = uint32_t[2];
using SumFragment = float[4];

__device__ __forceinline__ float low_half(uint32_t pair) { return bit_cast<float>(pair << 16); }
__device__ __forceinline__ float high_half(uint32_t pair) { return bit_cast<float>(pair & 0xffff0000u); }

__device__ __forceinline__ void multiply_add(SumFragment& sum, const LeftFragment& left, const RightFragment& right) {
#ifdef __CUDA_ARCH__
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
#else
  const int lane = int(threadIdx.x) % kWarp, row = lane / 4 * 4, column = lane % 4 * 8;
  for (int k = 0; k < 4; ++k) {
    for (int half = 0; half < 2; ++half) {
      const uint32_t upper = __shfl_sync(kAllLanes, left[2 * half], row + k);
      const uint32_t lower = __shfl_sync(kAllLanes, left[2 * half + 1], row + k);
      for (int c = 0; c < 2; ++c) {
        const uint32_t factor = __shfl_sync(kAllLanes, right[half], column + 4 * c + k);
        sum[c] += low_half(upper) * low_half(factor) + high_half(upper) * high_half(factor);
        sum[2 + c] += low_half(lower) * low_half(factor) + high_half(lower) * high_half(factor);
      }
    }
  }
#endif
}

// Two neighbours, the first in the lower half.
__device__ __forceinline__ uint32_t load_pair(const __nv_bfloat16* elements) {
  return *reinterpret_cast<const uint32_t*>(elements);
}

// A of rows [row, row + 16) and k in [k, k + 16) of a matrix in shared memory, row by row.
__device__ __forceinline__ void load_left(LeftFragment& fragment, const __nv_bfloat16* matrix, int stride, int row,
                                          int k) {
  const int lane = int(threadIdx.x) % kWarp;
  const __nv_bfloat16* const at = matrix + (row + lane / 4) * stride + k + lane % 4 * 2;
  fragment[0] = load_pair(at);
  fragment[1] = load_pair(at + 8 * stride);
  fragment[2] = load_pair(at + 8);
  fragment[3] = load_pair(at + 8 * stride + 8);
}

// B of a matrix whose rows are B's columns: [column, column + 8) and k in [k, k + 16).
__device__ __forceinline__ void load_right(RightFragment& fragment, const __nv_bfloat16* matrix, int stride, int column,
                                           int k) {
  const int lane = int(threadIdx.x) % kWarp;
  const __nv_bfloat16* const at = matrix + (column + lane / 4) * stride + k + lane % 4 * 2;
  fragment[0] = load_pair(at);
  fragment[1] = load_pair(at + 8);
}

// B of a matrix whose rows are B's rows: k in [k, k + 16) and columns [column, column + 8). Neighbours in k are not
// neighbours in memory; lanes get them from those that load the rows.
__device__ __forceinline__ void load_right_transposed(RightFragment& fragment, const __nv_bfloat16* matrix, int stride,
                                                      int k, int column) {
  const int lane = int(threadIdx.x) % kWarp;
#ifdef __CUDA_ARCH__
  const unsigned row = unsigned(__cvta_generic_to_shared(matrix + (k + lane % 16) * stride + column));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(fragment[0]), "=r"(fragment[1])
               : "r"(row)
               : "memory");
#else
  for (int half = 0; half < 2; ++half) {
    const __nv_bfloat16* const at = matrix + (k + 8 * half + lane % 4 * 2) * stride + column + lane / 4;
    uint16_t low, high;
    memcpy(&low, at, sizeof(low));
    memcpy(&high, at + stride, sizeof(high));
    fragment[half] = uint32_t(high) << 16 | low;
  }
#endif
}

// x as the sum of two elements of bfloat16: 16 bits of its significand.
struct SplitNumber {
  __nv_bfloat16 high, low;

  __device__ __forceinline__ explicit SplitNumber(float x)
      : high(__float2bfloat16_rn(x)), low(__float2bfloat16_rn(x - __bfloat162float(high))) {}
};

}  // namespace metrix::cuda
