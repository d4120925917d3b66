// The epilogue of a mix, however its warp came by the maxima: the weight that was taken out, the averages, rounding,
// stores; and what is done again where a maximum is not finite.
#pragma once

#include "channels.cuh"

namespace metrix::cuda {

// The averages of an image in the channels of a lane; 0 where none are added.
template <class T, Channels C>
struct Averages {
  T of[C::kChannels] = {};

  Averages() = default;
  __device__ __forceinline__ Averages(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, int64_t image,
                                      const OwnChannels<C>& channels) {
    if (input.averages != nullptr)
      C::load_numbers(input.averages + image * args.channels + channels.first, of, channels.count);
  }
};

// weight * maximum + lambda * average_i + (1 - lambda) * average_j of the channels of a lane, to its first one.
template <class T, Channels C>
__device__ __forceinline__ void write_pooled(typename C::Element* to, T weight, T lambda,
                                             const typename C::Vector& best, const Averages<T, C>& first,
                                             const Averages<T, C>& second, const OwnChannels<C>& channels) {
  typename C::Element pooled[C::kChannels];
  METRIX_UNROLL
  for (int which = 0; which < C::kChannels; ++which) {
    const T mean = fused(lambda, first.of[which], (T(1) - lambda) * second.of[which]);
    round_to(fused(weight, T(C::channel(best, which)), mean), pooled[which]);
  }
  C::store(to, pooled, channels.count);
}

template <Channels C>
__device__ __forceinline__ void write_argmax(int16_t* to, const typename C::Index& index,
                                             const OwnChannels<C>& channels) {
  int16_t argmax[C::kChannels];
  METRIX_UNROLL
  for (int which = 0; which < C::kChannels; ++which) argmax[which] = C::position(index, which);
  C::store(to, argmax, channels.count);
}

// Whether maxima are finite: a sum of their products with 0 is.
template <Channels C>
class FiniteCheck {
 public:
  __device__ __forceinline__ void add(const typename C::Vector& best) {
    products_ = C::mix(best, C::broadcast(0), products_);
  }
  __device__ __forceinline__ bool is_passed() const {
    bool is_zero = true;
    METRIX_UNROLL
    for (int which = 0; which < C::kChannels; ++which) is_zero = is_zero && C::channel(products_, which) == 0;
    return is_zero;
  }

 private:
  typename C::Vector products_ = C::broadcast(0);
};

// The first position where the mix is NaN. Comparisons pass it by, so that the loop over positions need not ask.
template <class T, Channels C>
__device__ __forceinline__ int first_nan(const MixPoolArgs<T>& args, const typename C::Element* features, int64_t mix,
                                         const OwnChannels<C>& channels, int which) {
  using E = typename C::Element;
  const LargerWeight<T> larger = larger_weight(args.mixes.lambda[mix]);
  const int64_t first = args.mixes.first[mix], second = args.mixes.second[mix];
  const E* x = features + args.order[larger.swapped ? second : first] * args.image_stride + channels.offset;
  const E* y = features + args.order[larger.swapped ? first : second] * args.image_stride + channels.offset;
  int position = 0;
  for (; position + 1 < args.positions; ++position) {
    const auto value =
        C::channel(C::mix(C::broadcast(larger.ratio), C::load(y, channels.next), C::load(x, channels.next)), which);
    if (value != value) break;
    x += args.position_stride;
    y += args.position_stride;
  }
  return position;
}

}  // namespace metrix::cuda
