// What a lane of a warp holds of one position of a feature map, a few channels, and what it does with them: load, mix,
// maximum, position of the maximum, store. Four types, named C in the kernels:
//   ScalarChannels    one channel of float or double                       32 channels a warp
//   PackedChannels    two channels of half or bfloat16, in 4 bytes         64
//   WideChannels      two of another, side by side, loaded as 8 bytes      64 of float, 128 of a half type
//   AlignedChannels   another whose numbers and results are aligned, so that they too are loaded and stored as one
#pragma once

#include <concepts>
#include <cstring>

#include "cuda/common/elements.cuh"
#include "cuda/common/warp.cuh"
#include "mix_pool.h"

namespace metrix::cuda {

// What they have.
template <class C>
concept Channels = requires(typename C::Vector x, typename C::Index index, typename C::Two two, int which, int64_t next,
                            const typename C::Element* from, typename C::Element* to,
                            const typename C::Element (&elements)[C::kChannels],
                            typename C::Element (&numbers)[C::kChannels], int64_t count) {
  // How many channels: a warp takes 32 times as many, a slab.
  { C::kChannels } -> std::convertible_to<int>;
  // Positions that are in registers at a time, without and with an argmax: they hide the latency of their loads, as
  // many as there are registers for.
  { C::kAhead[0] + C::kAhead[1] } -> std::convertible_to<int>;
  // One position; channels that are not side by side are next elements apart.
  { C::load(from, next) } -> std::same_as<typename C::Vector>;
  // Minus infinity, where a maximum begins, and the same number in every channel.
  { C::least() } -> std::same_as<typename C::Vector>;
  { C::broadcast(0) } -> std::same_as<typename C::Vector>;
  // ratio * y + x with one rounding.
  { C::mix(x, x, x) } -> std::same_as<typename C::Vector>;
  // The maximum; NaN if either is.
  { C::larger(x, x) } -> std::same_as<typename C::Vector>;
  // position where x > best, index elsewhere.
  { C::index_of_larger(index, x, x, which) } -> std::same_as<typename C::Index>;
  // Two numbers that every lane has in one register where they fit, and one of them for every channel: the ratios.
  { C::one_of(two, which) } -> std::same_as<typename C::Vector>;
  // One channel's number and position.
  C::channel(x, which);
  { C::position(index, which) } -> std::same_as<int16_t>;
  // Loads and stores a number for every channel, of which the first count exist.
  C::load_numbers(from, numbers, count);
  C::store(to, elements, count);
};

// One channel.
template <class E>
struct ScalarChannels {
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
struct PackedChannels {
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
using Bits =
    std::conditional_t<kBytes == 16, uint4,
                       std::conditional_t<kBytes == 8, uint2, std::conditional_t<kBytes == 4, unsigned, uint16_t>>>;

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

// Those of another type all of whose channels exist, side by side and aligned.
template <class C>
struct AlignedChannels : C {
  template <class Number>
  __device__ __forceinline__ static void load_numbers(const Number* from, Number (&to)[C::kChannels], int64_t) {
    load_whole(from, to);
  }
  template <class Number>
  __device__ __forceinline__ static void store(Number* to, const Number (&from)[C::kChannels], int64_t) {
    store_whole(to, from);
  }
};

// Two of another type side by side, loaded and stored as one, which has to be aligned: 8 bytes.
template <class C>
struct WideChannels {
  using Element = typename C::Element;
  struct Vector {
    typename C::Vector low, high;
  };
  struct Index {
    typename C::Index low, high;
  };
  using Two = typename C::Two;
  static constexpr int kChannels = 2 * C::kChannels;
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
    return {C::broadcast(x), C::broadcast(x)};
  }
  __device__ __forceinline__ static Vector least() { return {C::least(), C::least()}; }
  __device__ __forceinline__ static Vector mix(Vector ratio, Vector y, Vector x) {
    return {C::mix(ratio.low, y.low, x.low), C::mix(ratio.high, y.high, x.high)};
  }
  __device__ __forceinline__ static Vector larger(Vector x, Vector y) {
    return {C::larger(x.low, y.low), C::larger(x.high, y.high)};
  }
  __device__ __forceinline__ static Index index_of_larger(Index index, Vector x, Vector best, int position) {
    return {C::index_of_larger(index.low, x.low, best.low, position),
            C::index_of_larger(index.high, x.high, best.high, position)};
  }
  template <class Number>
  __device__ __forceinline__ static Two two(Number low, Number high) {
    return C::two(low, high);
  }
  __device__ __forceinline__ static Vector one_of(Two two, int which) {
    return {C::one_of(two, which), C::one_of(two, which)};
  }

  __device__ __forceinline__ static auto channel(Vector x, int which) {
    return which < C::kChannels ? C::channel(x.low, which) : C::channel(x.high, which - C::kChannels);
  }
  __device__ __forceinline__ static int16_t position(Index index, int which) {
    return which < C::kChannels ? C::position(index.low, which) : C::position(index.high, which - C::kChannels);
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

// The types for an element: for any channels, and for neighbouring ones in whole vectors.
template <class E>
struct ChannelsOf {
  using Any = ScalarChannels<E>;
  using Neighbours = WideChannels<Any>;
};
template <>
struct ChannelsOf<double> {
  using Any = ScalarChannels<double>;
  using Neighbours = Any;
};
template <>
struct ChannelsOf<__half> {
  using Any = PackedChannels<__half, __half2>;
  using Neighbours = WideChannels<Any>;
};
template <>
struct ChannelsOf<__nv_bfloat16> {
  using Any = PackedChannels<__nv_bfloat16, __nv_bfloat162>;
  using Neighbours = WideChannels<Any>;
};

// The channels of a lane in a slab, which a warp takes at once and which begins with one: of those beyond the last it
// repeats some, and nobody writes them.
template <Channels C>
struct OwnChannels {
  static constexpr int kSlab = kWarp * C::kChannels;

  int64_t first, count;
  int64_t offset, next;  // in a feature map: of the first, and from there to the second

  template <class T>
  __device__ __forceinline__ OwnChannels(const MixPoolArgs<T>& args, int from) {
    first = from + int(threadIdx.x) % kWarp * C::kChannels;
    count = args.channels - first;
    const int64_t last = (args.channels - 1) / C::kChannels * C::kChannels;
    if (first > last) first = last;
    offset = first * args.channel_stride;
    next = first + 1 < args.channels ? args.channel_stride : 0;
  }
};

}  // namespace metrix::cuda
