// What becomes of the maxima of mixes, however a warp came by them.
#pragma once

#include "mix_pool.h"
#include "lanes.cuh"
#include "cuda/common/plan.h"

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
  T of[L::kChannels] = {};

  Averages() = default;
  __device__ __forceinline__ Averages(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, int64_t image,
                                      const LaneChannels<L>& channels) {
    if (input.averages != nullptr)
      L::load_numbers(input.averages + image * args.channels + channels.first, of, channels.count);
  }
};

// weight * maximum + lambda * average_i + (1 - lambda) * average_j of the channels of a lane, to its first one.
template <class T, class L>
__device__ __forceinline__ void write_pooled(typename L::Element* to, T weight, T lambda,
                                             const typename L::Vector& best, const Averages<T, L>& first,
                                             const Averages<T, L>& second, const LaneChannels<L>& channels) {
  typename L::Element pooled[L::kChannels];
  METRIX_UNROLL
  for (int which = 0; which < L::kChannels; ++which) {
    const T mean = fused(lambda, first.of[which], (T(1) - lambda) * second.of[which]);
    round_to(fused(weight, T(L::channel(best, which)), mean), pooled[which]);
  }
  L::store(to, pooled, channels.count);
}

template <class L>
__device__ __forceinline__ void write_argmax(int16_t* to, const typename L::Index& index,
                                             const LaneChannels<L>& channels) {
  int16_t argmax[L::kChannels];
  METRIX_UNROLL
  for (int which = 0; which < L::kChannels; ++which) argmax[which] = L::position(index, which);
  L::store(to, argmax, channels.count);
}

// Whether maxima are finite: a sum of their products with 0 is.
template <class L>
class FiniteCheck {
 public:
  __device__ __forceinline__ void add(const typename L::Vector& best) {
    products_ = L::mix(best, L::broadcast(0), products_);
  }
  __device__ __forceinline__ bool is_passed() const {
    bool is_zero = true;
    METRIX_UNROLL
    for (int which = 0; which < L::kChannels; ++which) is_zero = is_zero && L::channel(products_, which) == 0;
    return is_zero;
  }

 private:
  typename L::Vector products_ = L::broadcast(0);
};

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
