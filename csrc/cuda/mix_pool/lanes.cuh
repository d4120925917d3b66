// What a lane of a warp holds of one position of a feature map, and what it does with it.
//
// A lane type has kChannels channels of Elements in a Vector, and where their maxima are in an Index; load() may read
// next elements apart. kAhead positions, without and with an argmax, are in registers at a time: they hide the latency
// of their loads, as many as there are registers for.
#pragma once

#include <cstring>

#include "cuda/common/elements.cuh"
#include "cuda/sums/sums.cuh"

namespace metrix::cuda {

// One channel.
template <class E>
struct Single {
  using Element = E;
  using Vector = E;
  using Index = int;
  struct Two {
    E low, high;
  };
  static constexpr int kChannels = 1;
  static constexpr int kAhead[2] = {sizeof(E) == 8 ? 1 : 5, sizeof(E) == 8 ? 2 : 3};

  __device__ __forceinline__ static Vector load(const E* x, int64_t) { return __ldg(x); }
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

  // Two numbers that every lane has, and one of them for every channel.
  __device__ __forceinline__ static Two two(E low, E high) { return {low, high}; }
  __device__ __forceinline__ static Vector one_of(Two two, int which) { return which == 0 ? two.low : two.high; }

  __device__ __forceinline__ static E channel(Vector x, int) { return x; }
  __device__ __forceinline__ static int16_t position(Index index, int) { return int16_t(index); }

  // Numbers by channel, of which the first count exist.
  template <class Number>
  __device__ __forceinline__ static void load_numbers(const Number* from, Number (&to)[1], int64_t count) {
    if (count > 0) to[0] = from[0];
  }
  template <class Number>
  __device__ __forceinline__ static void store(Number* to, const Number (&from)[1], int64_t count) {
    if (count > 0) *to = from[0];
  }
};

// Two channels of a half type, which V packs: the packed instructions mix and compare them at once.
template <class E, class V>
struct Packed {
  using Element = E;
  using Vector = V;
  using Index = unsigned;
  using Two = V;
  static constexpr int kChannels = 2;
  static constexpr int kAhead[2] = {1, 1};

  __device__ __forceinline__ static Vector load(const E* x, int64_t next) {
    V both;
    both.x = __ldg(x);
    both.y = __ldg(x + next);
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
  __device__ __forceinline__ static Two two(float low, float high) {
    V both;
    round_to(low, both.x);
    round_to(high, both.y);
    return both;
  }
  __device__ __forceinline__ static Vector one_of(Two two, int which) {
    V both;
    both.x = both.y = which == 0 ? two.x : two.y;
    return both;
  }

  __device__ __forceinline__ static float channel(Vector x, int which) { return to_number(which == 0 ? x.x : x.y); }
  __device__ __forceinline__ static int16_t position(Index index, int which) {
    return int16_t(which == 0 ? index : index >> 16);
  }

  template <class Number>
  __device__ __forceinline__ static void load_numbers(const Number* from, Number (&to)[2], int64_t count) {
    if (count > 0) to[0] = from[0];
    if (count > 1) to[1] = from[1];
  }
  template <class Number>
  __device__ __forceinline__ static void store(Number* to, const Number (&from)[2], int64_t count) {
    if (count > 0) to[0] = from[0];
    if (count > 1) to[1] = from[1];
  }
};

// What is loaded and stored as one, which has to be aligned.
template <int kBytes>
using Bits = std::conditional_t<kBytes == 16, uint4, std::conditional_t<kBytes == 8, uint2, unsigned>>;

template <class Number, int kCount>
__device__ __forceinline__ void load_whole(const Number* from, Number (&to)[kCount]) {
  const Bits<sizeof(to)> bits = *reinterpret_cast<const Bits<sizeof(to)>*>(from);
  static_assert(sizeof(bits) == sizeof(to));
  std::memcpy(&to, &bits, sizeof(to));
}

template <class Number, int kCount>
__device__ __forceinline__ void store_whole(Number* to, const Number (&from)[kCount]) {
  Bits<sizeof(from)> bits;
  static_assert(sizeof(bits) == sizeof(from));
  std::memcpy(&bits, &from, sizeof(bits));
  *reinterpret_cast<Bits<sizeof(from)>*>(to) = bits;
}

// Another lane all of whose channels exist, side by side and aligned.
template <class L>
struct Whole : L {
  template <class Number>
  __device__ __forceinline__ static void load_numbers(const Number* from, Number (&to)[L::kChannels], int64_t) {
    load_whole(from, to);
  }
  template <class Number>
  __device__ __forceinline__ static void store(Number* to, const Number (&from)[L::kChannels], int64_t) {
    store_whole(to, from);
  }
};

// Two of another lane side by side, loaded and stored as one, which has to be aligned: 8 bytes.
template <class L>
struct Wide {
  using Element = typename L::Element;
  struct Vector {
    typename L::Vector low, high;
  };
  struct Index {
    typename L::Index low, high;
  };
  using Two = typename L::Two;
  static constexpr int kChannels = 2 * L::kChannels;
  static constexpr int kAhead[2] = {2, 1};
  static_assert(sizeof(Vector) == sizeof(uint2));

  __device__ __forceinline__ static Vector load(const Element* x, int64_t) {
    const uint2 bits = __ldg(reinterpret_cast<const uint2*>(x));
    Vector both;
    std::memcpy(&both, &bits, sizeof(both));
    return both;
  }
  template <class Number>
  __device__ __forceinline__ static Vector broadcast(Number x) {
    return {L::broadcast(x), L::broadcast(x)};
  }
  __device__ __forceinline__ static Vector least() { return {L::least(), L::least()}; }
  __device__ __forceinline__ static Vector mix(Vector ratio, Vector y, Vector x) {
    return {L::mix(ratio.low, y.low, x.low), L::mix(ratio.high, y.high, x.high)};
  }
  __device__ __forceinline__ static Vector larger(Vector x, Vector y) {
    return {L::larger(x.low, y.low), L::larger(x.high, y.high)};
  }
  __device__ __forceinline__ static Index index_of_larger(Index index, Vector x, Vector best, int position) {
    return {L::index_of_larger(index.low, x.low, best.low, position),
            L::index_of_larger(index.high, x.high, best.high, position)};
  }
  template <class Number>
  __device__ __forceinline__ static Two two(Number low, Number high) {
    return L::two(low, high);
  }
  __device__ __forceinline__ static Vector one_of(Two two, int which) {
    return {L::one_of(two, which), L::one_of(two, which)};
  }

  __device__ __forceinline__ static auto channel(Vector x, int which) {
    return which < L::kChannels ? L::channel(x.low, which) : L::channel(x.high, which - L::kChannels);
  }
  __device__ __forceinline__ static int16_t position(Index index, int which) {
    return which < L::kChannels ? L::position(index.low, which) : L::position(index.high, which - L::kChannels);
  }

  template <class Number>
  __device__ __forceinline__ static void load_numbers(const Number* from, Number (&to)[kChannels], int64_t count) {
    if (count > 0) load_whole(from, to);
  }
  template <class Number>
  __device__ __forceinline__ static void store(Number* to, const Number (&from)[kChannels], int64_t count) {
    if (count > 0) store_whole(to, from);
  }
};

// The lanes of an element type: any channels, and neighbouring ones in whole vectors.
template <class E>
struct Lanes {
  using Any = Single<E>;
  using Neighbours = Wide<Any>;
};
template <>
struct Lanes<double> {
  using Any = Single<double>;
  using Neighbours = Any;
};
template <>
struct Lanes<__half> {
  using Any = Packed<__half, __half2>;
  using Neighbours = Wide<Any>;
};
template <>
struct Lanes<__nv_bfloat16> {
  using Any = Packed<__nv_bfloat16, __nv_bfloat162>;
  using Neighbours = Wide<Any>;
};

}  // namespace metrix::cuda
