// mix_pool, forward. A warp takes 16 consecutive mixes and a tile of channels and walks the positions. Where the mixes
// are a grid of 4 x 4 examples, 8 rows of features serve all 16; otherwise 4 mixes go at a time, with 2 rows each.
//
// The warps of a block have the same channels. In a list that comes tile by tile 16 of them mix 16 x 16 examples, whose
// rows the warps after the first find in the first-level cache.
#pragma once

#include "../mix_pool.h"
#include "lanes.cuh"
#include "launch.h"
#include "plan.h"

namespace metrix::cuda {

constexpr int kWarpMixes = 16;  // of 4 x 4 examples
constexpr int kSide = 4;
template <class T>
constexpr int kPoolWarps = sizeof(T) == 4 ? 16 : 8;

// Positions that are in registers at a time: they hide the latency of their loads, and share the test which of a mix's
// examples has the larger weight. As many as there are registers for.
template <class L, bool kAdjacent, bool kArgmax>
__host__ __device__ constexpr int positions_ahead() {
  if (!kAdjacent) return 1;
  if (sizeof(typename L::Vector) == 8) return kArgmax ? 2 : 1;
  return kArgmax ? 3 : 5;
}

// The same address, of which the compiler forgets how it came about. Otherwise it computes every address of the inner
// loop from the beginning of the features, with six instructions instead of one.
template <class E>
__device__ __forceinline__ const E* as_given(const E* address) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(address));
#endif
  return address;
}

// Mix lane % 16 of a warp.
template <class T>
struct LaneMix {
  int64_t first, second;
  T lambda;
  LargerWeight<T> larger;
};

// The channels of a lane: of those beyond the last it repeats some, and nobody writes them.
template <class L>
struct LaneChannels {
  int64_t first, count;
  int64_t offset, next;  // in a feature map: of the first, and from there to the second

  template <class T>
  __device__ __forceinline__ explicit LaneChannels(const MixPoolArgs<T>& args) {
    first = (int64_t(blockIdx.y) * kWarp + threadIdx.x % kWarp) * L::kChannels;
    count = args.channels - first;
    const int64_t last = (args.channels - 1) / L::kChannels * L::kChannels;
    if (first > last) first = last;
    offset = first * args.channel_stride;
    next = first + 1 < args.channels ? args.channel_stride : 0;
  }
};

// The first position where the mix is NaN. Comparisons pass it by, so that the loop over positions need not ask.
template <class T, class E, bool kAdjacent>
__device__ __forceinline__ int first_nan(const MixPoolArgs<T>& args, const E* features, int64_t mix,
                                         const LaneChannels<Lane<E>>& channels, int which) {
  using L = Lane<E>;
  const LargerWeight<T> larger = larger_weight(args.mixes.lambda[mix]);
  const int64_t first = args.mixes.first[mix], second = args.mixes.second[mix];
  const E* x = features + args.order[larger.swapped ? second : first] * args.image_stride + channels.offset;
  const E* y = features + args.order[larger.swapped ? first : second] * args.image_stride + channels.offset;
  int position = 0;
  for (; position + 1 < args.positions; ++position) {
    const auto value = L::channel(L::mix(L::broadcast(larger.ratio), L::template load<kAdjacent>(y, channels.next),
                                         L::template load<kAdjacent>(x, channels.next)),
                                  which);
    if (value != value) break;
    x += args.position_stride;
    y += args.position_stride;
  }
  return position;
}

// 16 mixes of a grid, or 4 that begin with that of lane from.
template <class T, class E, bool kAdjacent, bool kArgmax, bool kGrid>
__device__ __forceinline__ void pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input,
                                     const MixPoolOutput& output, const LaneMix<T>& lane_mix, int64_t begin, int from,
                                     const LaneChannels<Lane<E>>& channels) {
  using L = Lane<E>;
  constexpr int kMixes = kGrid ? kWarpMixes : kSide;
  constexpr int kAhead = positions_ahead<L, kAdjacent, kArgmax>();
  const E* const features = static_cast<const E*>(input.features);
  const auto image_of = [&](int row) {
    const int lane = !kGrid ? from + row % kSide : row < kSide ? row * kSide : row - kSide;
    return args.order[__shfl_sync(kAllLanes, row < kSide ? lane_mix.first : lane_mix.second, lane)];
  };
  const E* row[2 * kSide];
  METRIX_UNROLL
  for (int k = 0; k < 2 * kSide; ++k) row[k] = as_given(features + image_of(k) * args.image_stride + channels.offset);
  const auto first_of = [](int m) { return kGrid ? m / kSide : m; };
  const auto second_of = [](int m) { return kSide + m % kSide; };

  const unsigned swapped = __ballot_sync(kAllLanes, lane_mix.larger.swapped) >> from;
  typename L::Vector ratio[kMixes], best[kMixes];
  typename L::Index index[kMixes];
  METRIX_UNROLL
  for (int m = 0; m < kMixes; ++m) {
    ratio[m] = L::broadcast(__shfl_sync(kAllLanes, lane_mix.larger.ratio, from + m));
    best[m] = L::least();
    index[m] = 0;
  }
  const int positions = int(args.positions);
  const unsigned position_stride = unsigned(args.position_stride);
  for (int x = 0; x < positions; x += kAhead) {
    typename L::Vector value[2 * kSide][kAhead];
    METRIX_UNROLL
    for (int ahead = 0; ahead < kAhead; ++ahead) {
      // Past the end the last position comes again, and changes no maximum.
      const unsigned offset = unsigned(x + ahead < positions ? ahead : positions - 1 - x) * position_stride;
      METRIX_UNROLL
      for (int k = 0; k < 2 * kSide; ++k) value[k][ahead] = L::template load<kAdjacent>(row[k] + offset, channels.next);
    }
    METRIX_UNROLL
    for (int m = 0; m < kMixes; ++m) {
      const auto take = [&](const auto& larger, const auto& smaller) {
        METRIX_UNROLL
        for (int ahead = 0; ahead < kAhead; ++ahead) {
          const auto mixed = L::mix(ratio[m], smaller[ahead], larger[ahead]);
          if (kArgmax) index[m] = L::index_of_larger(index[m], mixed, best[m], x + ahead);
          best[m] = L::larger(best[m], mixed);
        }
      };
      if (swapped >> m & 1)
        take(value[second_of(m)], value[first_of(m)]);
      else
        take(value[first_of(m)], value[second_of(m)]);
    }
    METRIX_UNROLL
    for (int k = 0; k < 2 * kSide; ++k) row[k] += kAhead * args.position_stride;
  }

  T average[2 * kSide][L::kChannels] = {};
  if (input.averages != nullptr) {
    METRIX_UNROLL
    for (int k = 0; k < 2 * kSide; ++k) {
      const T* const from_image = input.averages + image_of(k) * args.channels + channels.first;
      METRIX_UNROLL
      for (int which = 0; which < L::kChannels; ++which)
        if (which < channels.count) average[k][which] = from_image[which];
    }
  }
  unsigned is_nan = 0;  // a bit for every mix and channel
  METRIX_UNROLL
  for (int m = 0; m < kMixes; ++m) {
    const T weight = __shfl_sync(kAllLanes, lane_mix.larger.weight, from + m);
    const T lambda = __shfl_sync(kAllLanes, lane_mix.lambda, from + m);
    const int64_t mix = begin + from + m, at = mix * args.channels + channels.first;
    if (mix >= args.mixes.count) continue;
    E pooled[L::kChannels];
    METRIX_UNROLL
    for (int which = 0; which < L::kChannels; ++which) {
      const T maximum = L::channel(best[m], which);
      if (which < channels.count) is_nan |= unsigned(maximum != maximum) << (m * L::kChannels + which);
      const T mean = fused(lambda, average[first_of(m)][which], (T(1) - lambda) * average[second_of(m)][which]);
      round_to(input.averages == nullptr ? weight * maximum : fused(weight, maximum, mean), pooled[which]);
    }
    L::template store<kAdjacent>(static_cast<E*>(output.pooled) + at, pooled, channels.count);
    if (kArgmax) L::template store_index<kAdjacent>(output.argmax + at, index[m], channels.count);
  }
  if (kArgmax) {
    for (; is_nan != 0; is_nan &= is_nan - 1) {
      const int bit = __ffs(int(is_nan)) - 1, which = bit % L::kChannels;
      const int64_t mix = begin + from + bit / L::kChannels;
      output.argmax[mix * args.channels + channels.first + which] =
          int16_t(first_nan<T, E, kAdjacent>(args, features, mix, channels, which));
    }
  }
}

template <class T, class E, bool kAdjacent, bool kArgmax>
__global__ void __launch_bounds__(kPoolWarps<T>* kWarp)
    pool_mixes(const MixPoolArgs<T> args, const MixPoolInput<T> input, const MixPoolOutput output) {
  const int lane = int(threadIdx.x) % kWarp;
  const int64_t begin = (int64_t(blockIdx.x) * kPoolWarps<T> + threadIdx.x / kWarp) * kWarpMixes;
  if (begin >= args.mixes.count) return;
  const int64_t last = args.mixes.count - 1, own = begin + lane % kWarpMixes, mix = own < last ? own : last;
  const T lambda = args.mixes.lambda[mix];
  const LaneMix<T> lane_mix{args.mixes.first[mix], args.mixes.second[mix], lambda, larger_weight(lambda)};
  const int64_t row_first = __shfl_sync(kAllLanes, lane_mix.first, lane % kWarpMixes / kSide * kSide);
  const int64_t column_second = __shfl_sync(kAllLanes, lane_mix.second, lane % kSide);
  const bool is_grid =
      begin + kWarpMixes <= args.mixes.count && lane_mix.first == row_first && lane_mix.second == column_second;
  const LaneChannels<Lane<E>> channels(args);
  if (__all_sync(kAllLanes, is_grid)) {
    pool<T, E, kAdjacent, kArgmax, true>(args, input, output, lane_mix, begin, 0, channels);
  } else {
    for (int from = 0; from < kWarpMixes && begin + from < args.mixes.count; from += kSide)
      pool<T, E, kAdjacent, kArgmax, false>(args, input, output, lane_mix, begin, from, channels);
  }
}

// So that 32 bits hold the offset of every position that is loaded ahead.
constexpr int64_t kLargestPositionStride = int64_t(1) << 28;

// Whether pairs of neighbouring channels can be loaded as one.
template <class T>
bool has_adjacent_channels(const MixPoolArgs<T>& args, const void* features) {
  return args.channel_stride == 1 && (args.channels | args.image_stride | args.position_stride) % 2 == 0 &&
         uintptr_t(features) % 4 == 0;
}

template <class T>
void mix_pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, int device,
              void* stream) {
  if (args.mixes.count == 0 || args.channels == 0) return;
  if (args.position_stride > kLargestPositionStride)
    throw std::invalid_argument("metrix_ext, CUDA: positions of a feature map must be less than 2^28 elements apart");
  const DeviceGuard guard(device);
  with_element<T>(input.element, [&](auto element) {
    using E = decltype(element);
    const auto run = [&](auto* kernel) {
      const dim3 grid(unsigned(ceil_div(args.mixes.count, kPoolWarps<T> * kWarpMixes)),
                      unsigned(ceil_div(args.channels, kWarp * Lane<E>::kChannels)));
      launch("mix_pool", kernel, grid, kPoolWarps<T> * kWarp, stream, args, input, output);
    };
    const bool with_argmax = output.argmax != nullptr;
    if (Lane<E>::kChannels == 1 || has_adjacent_channels(args, input.features))
      run(with_argmax ? pool_mixes<T, E, true, true> : pool_mixes<T, E, true, false>);
    else if constexpr (Lane<E>::kChannels > 1)
      run(with_argmax ? pool_mixes<T, E, false, true> : pool_mixes<T, E, false, false>);
  });
}

}  // namespace metrix::cuda
