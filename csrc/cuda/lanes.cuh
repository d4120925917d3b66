// What a lane of a warp holds of one position of a feature map: one channel, or two neighbouring ones of a half type,
// which the packed instructions mix and compare at once.
#pragma once

#include "elements.cuh"
#include "sums.cuh"

namespace metrix::cuda {

template <class E>
struct Lane {
  static constexpr int kChannels = 1;
  using Vector = E;
  using Index = int;  // of the maximum

  template <bool kAdjacent>
  __device__ __forceinline__ static Vector load(const E* x, int64_t) {
    return __ldg(x);
  }
  __device__ __forceinline__ static Vector broadcast(E x) { return x; }
  __device__ __forceinline__ static Vector least() { return -kInfinity<E>; }
  __device__ __forceinline__ static Vector mix(Vector ratio, Vector y, Vector x) { return fused(ratio, y, x); }

  // The larger one; NaN if either is.
  __device__ __forceinline__ static Vector larger(float x, float y) {
#ifdef __CUDA_ARCH__
    float z;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
#else
    return x > y || x != x ? x : y;
#endif
  }
  __device__ __forceinline__ static Vector larger(double x, double y) { return x > y || x != x ? x : y; }

  // position where x > best, index elsewhere.
  __device__ __forceinline__ static Index index_of_larger(Index index, Vector x, Vector best, int position) {
    return x > best ? position : index;
  }
  __device__ __forceinline__ static E channel(Vector x, int) { return x; }

  // Of count channels, which may be none.
  template <bool kAdjacent>
  __device__ __forceinline__ static void store(E* to, const E (&from)[1], int64_t count) {
    if (count > 0) *to = from[0];
  }
  template <bool kAdjacent>
  __device__ __forceinline__ static void store_index(int16_t* to, Index index, int64_t count) {
    if (count > 0) *to = int16_t(index);
  }
};

// V packs two E.
template <class E, class V>
struct PackedLane {
  static constexpr int kChannels = 2;
  using Vector = V;
  using Index = unsigned;

  template <bool kAdjacent>
  __device__ __forceinline__ static Vector load(const E* x, int64_t channel_stride) {
    if (kAdjacent) return __ldg(reinterpret_cast<const V*>(x));
    V both;
    both.x = __ldg(x);
    both.y = __ldg(x + channel_stride);
    return both;
  }
  __device__ __forceinline__ static Vector broadcast(float x) {
    V both;
    round_to(x, both.x);
    both.y = both.x;
    return both;
  }
  __device__ __forceinline__ static Vector least() { return broadcast(-kInfinity<float>); }
  __device__ __forceinline__ static Vector mix(Vector ratio, Vector y, Vector x) { return __hfma2(ratio, y, x); }
  __device__ __forceinline__ static Vector larger(Vector x, Vector y) { return __hmax2_nan(x, y); }
  __device__ __forceinline__ static Index index_of_larger(Index index, Vector x, Vector best, int position) {
    const unsigned is_larger = __hgt2_mask(x, best);
    return (index & ~is_larger) | (unsigned(position) * 0x10001u & is_larger);
  }
  __device__ __forceinline__ static float channel(Vector x, int which) { return to_number(which == 0 ? x.x : x.y); }

  template <bool kAdjacent>
  __device__ __forceinline__ static void store(E* to, const E (&from)[2], int64_t count) {
    if (kAdjacent) {
      V both;
      both.x = from[0];
      both.y = from[1];
      if (count > 0) *reinterpret_cast<V*>(to) = both;
    } else {
      if (count > 0) to[0] = from[0];
      if (count > 1) to[1] = from[1];
    }
  }
  template <bool kAdjacent>
  __device__ __forceinline__ static void store_index(int16_t* to, Index index, int64_t count) {
    if (kAdjacent) {
      if (count > 0) *reinterpret_cast<Index*>(to) = index;
    } else {
      if (count > 0) to[0] = int16_t(index);
      if (count > 1) to[1] = int16_t(index >> 16);
    }
  }
};

template <>
struct Lane<__half> : PackedLane<__half, __half2> {};
template <>
struct Lane<__nv_bfloat16> : PackedLane<__nv_bfloat16, __nv_bfloat162> {};

}  // namespace metrix::cuda
