// What becomes of the maxima of mixes, however a warp came by them.
#pragma once

#include "../mix_pool.h"
#include "lanes.cuh"
#include "plan.h"

namespace metrix::cuda {

// The same address, of which the compiler forgets how it came about. Otherwise it computes every address of the inner
// loop from the beginning of the features, with six instructions instead of one.
template <class E>
__device__ __forceinline__ const E* as_given(const E* address) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(address));
#endif
  return address;
}

// Whether the weight of the first can be taken out, though it be the smaller one.
template <class T>
__device__ __forceinline__ bool can_take_out(T lambda) {
  constexpr int kMostRatio = 1024;
  return T(1) - lambda <= T(kMostRatio) * lambda;
}

// The channels of a lane in a slab, which a warp takes at once and which begins with one: of those beyond the last it
// repeats some, and nobody writes them.
template <class L>
struct LaneChannels {
  static constexpr int kSlab = kWarp * L::kChannels;

  int64_t first, count;
  int64_t offset, next;  // in a feature map: of the first, and from there to the second

  template <class T>
  __device__ __forceinline__ LaneChannels(const MixPoolArgs<T>& args, int from) {
    first = from + int(threadIdx.x) % kWarp * L::kChannels;
    count = args.channels - first;
    const int64_t last = (args.channels - 1) / L::kChannels * L::kChannels;
    if (first > last) first = last;
    offset = first * args.channel_stride;
    next = first + 1 < args.channels ? args.channel_stride : 0;
  }
};

// The averages of an image in the channels of a lane; 0 where none are added.
template <class T, class L>
struct Averages {
  T of[L::kChannels];

  __device__ __forceinline__ Averages(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, int64_t image,
                                      const LaneChannels<L>& channels) {
    METRIX_UNROLL
    for (int which = 0; which < L::kChannels; ++which)
      of[which] = input.averages != nullptr && which < channels.count
                      ? input.averages[image * args.channels + channels.first + which]
                      : T(0);
  }
};

// Writes weight * maximum + lambda * average_i + (1 - lambda) * average_j of a mix, and where the maximum is. Returns
// whether every channel of the lane is finite.
template <class T, class L, bool kArgmax>
__device__ __forceinline__ bool write_mix(const MixPoolArgs<T>& args, const MixPoolInput<T>& input,
                                          const MixPoolOutput& output, int64_t mix, T weight, T lambda,
                                          const typename L::Vector& best, const typename L::Index& index,
                                          const Averages<T, L>& first, const Averages<T, L>& second,
                                          const LaneChannels<L>& channels) {
  using E = typename L::Element;
  const int64_t at = mix * args.channels + channels.first;
  bool is_finite = true;
  E pooled[L::kChannels];
  METRIX_UNROLL
  for (int which = 0; which < L::kChannels; ++which) {
    const T maximum = L::channel(best, which);
    is_finite = is_finite && maximum - maximum == T(0);
    const T mean = fused(lambda, first.of[which], (T(1) - lambda) * second.of[which]);
    round_to(input.averages == nullptr ? weight * maximum : fused(weight, maximum, mean), pooled[which]);
  }
  L::store(static_cast<E*>(output.pooled) + at, pooled, channels.count);
  if (kArgmax) {
    int16_t argmax[L::kChannels];
    METRIX_UNROLL
    for (int which = 0; which < L::kChannels; ++which) argmax[which] = L::position(index, which);
    L::store(output.argmax + at, argmax, channels.count);
  }
  return is_finite;
}

// The first position where the mix is NaN. Comparisons pass it by, so that the loop over positions need not ask.
template <class T, class L>
__device__ __forceinline__ int first_nan(const MixPoolArgs<T>& args, const typename L::Element* features, int64_t mix,
                                         const LaneChannels<L>& channels, int which) {
  using E = typename L::Element;
  const LargerWeight<T> larger = larger_weight(args.mixes.lambda[mix]);
  const int64_t first = args.mixes.first[mix], second = args.mixes.second[mix];
  const E* x = features + args.order[larger.swapped ? second : first] * args.image_stride + channels.offset;
  const E* y = features + args.order[larger.swapped ? first : second] * args.image_stride + channels.offset;
  int position = 0;
  for (; position + 1 < args.positions; ++position) {
    const auto value =
        L::channel(L::mix(L::broadcast(larger.ratio), L::load(y, channels.next), L::load(x, channels.next)), which);
    if (value != value) break;
    x += args.position_stride;
    y += args.position_stride;
  }
  return position;
}

}  // namespace metrix::cuda
