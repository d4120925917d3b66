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

// How large the ratio of two weights may be whose smaller one is taken out.
constexpr int kMostRatio = 1024;

// The same address, of which the compiler forgets how it came about. Otherwise it computes every address of the inner
// loop from the beginning of the features, with six instructions instead of one.
template <class E>
__device__ __forceinline__ const E* as_given(const E* address) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(address));
#endif
  return address;
}

// Whether the addresses of a warp's rows lie in shared memory. Before sm_90 bfloat16 is compared as float, which leaves
// no registers for them beside the positions of the maxima.
template <class L, bool kArgmax>
__device__ constexpr bool rows_are_shared() {
#if (defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900) || defined(METRIX_TINY_BLOCKS)
  return kArgmax && L::kChannels == 4;
#else
  return false;
#endif
}

// Mix lane % 16 of the 16 that begin with one; past the end of the list the last again.
template <class T>
struct LaneMix {
  int64_t first, second;
  T lambda;

  // What is read again after the loop over positions takes no registers in it.
  __device__ __forceinline__ LaneMix(const Mixes<T>& mixes, int64_t begin) {
    const int64_t own = begin + threadIdx.x % kWarpMixes, mix = own < mixes.count ? own : mixes.count - 1;
    first = as_given(mixes.first)[mix];
    second = as_given(mixes.second)[mix];
    lambda = as_given(mixes.lambda)[mix];
  }
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

// 16 mixes of a grid, with the weight of the first taken out of all of them; returns whether every channel of the lane is
// finite, and otherwise leaves them to the other way: 4 that begin with that of lane from, with the larger weight taken out
// of each.
template <class T, class L, bool kArgmax, bool kGrid>
__device__ __forceinline__ bool pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input,
                                     const MixPoolOutput& output, int64_t begin, int from,
                                     const LaneChannels<L>& channels) {
  using E = typename L::Element;
  constexpr int kMixes = kGrid ? kWarpMixes : kSide;
  constexpr int kAhead = L::kAhead[kArgmax];
  const E* const features = static_cast<const E*>(input.features);
  const auto image_of = [&](const LaneMix<T>& mix, int row) {
    const int lane = !kGrid ? from + row % kSide : row < kSide ? row * kSide : row - kSide;
    return args.order[__shfl_sync(kAllLanes, row < kSide ? mix.first : mix.second, lane)];
  };
  const auto taken_out = [](T lambda) {
    return kGrid ? LargerWeight<T>{lambda, (T(1) - lambda) / lambda, false} : larger_weight(lambda);
  };
  const auto first_of = [](int m) { return kGrid ? m / kSide : m; };
  const auto second_of = [](int m) { return kSide + m % kSide; };

  constexpr bool kShared = rows_are_shared<L, kArgmax>();
  __shared__ const E* shared_rows[kShared ? kPoolWarps<T> : 1][2 * kSide];
  const E* own_rows[2 * kSide];
  const E* volatile* const shared_row = shared_rows[kShared ? threadIdx.x / kWarp : 0];
  unsigned swapped;
  typename L::Vector ratio[kMixes], best[kMixes];
  typename L::Index index[kMixes];
  {
    const LaneMix<T> mix(args.mixes, begin);
    METRIX_UNROLL
    for (int k = 0; k < 2 * kSide; ++k) {
      const E* const row = features + image_of(mix, k) * args.image_stride;
      if (kShared)
        shared_row[k] = row;
      else
        own_rows[k] = as_given(row + channels.offset);
    }
    if (kShared) __syncwarp();
    const LargerWeight<T> larger = taken_out(mix.lambda);
    swapped = __ballot_sync(kAllLanes, larger.swapped) >> from;
    METRIX_UNROLL
    for (int m = 0; m < kMixes; ++m) {
      ratio[m] = L::broadcast(__shfl_sync(kAllLanes, larger.ratio, from + m));
      best[m] = L::least();
      index[m] = {};
    }
  }
  const int positions = int(args.positions);
  const unsigned last = unsigned(positions - 1), position_stride = unsigned(args.position_stride);
#pragma unroll 1
  for (int x = 0; x < positions; x += kAhead) {
    typename L::Vector value[2 * kSide][kAhead];
    METRIX_UNROLL
    for (int ahead = 0; ahead < kAhead; ++ahead) {
      // Past the end the last position comes again, and changes no maximum.
      const unsigned offset = (unsigned(x + ahead) < last ? unsigned(x + ahead) : last) * position_stride;
      METRIX_UNROLL
      for (int k = 0; k < 2 * kSide; ++k)
        value[k][ahead] = L::load((kShared ? shared_row[k] + channels.offset : own_rows[k]) + offset, channels.next);
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
      if (!kGrid && (swapped >> m & 1))
        take(value[second_of(m)], value[first_of(m)]);
      else
        take(value[first_of(m)], value[second_of(m)]);
    }
  }

  const LaneMix<T> lane_mix(args.mixes, begin);
  const T lane_weight = taken_out(lane_mix.lambda).weight;
  T average[2 * kSide][L::kChannels] = {};
  const auto load_average = [&](int k) {
    if (input.averages == nullptr) return;
    const T* const from_image = input.averages + image_of(lane_mix, k) * args.channels + channels.first;
    METRIX_UNROLL
    for (int which = 0; which < L::kChannels; ++which)
      if (which < channels.count) average[k][which] = from_image[which];
  };
  METRIX_UNROLL
  for (int k = kSide; k < 2 * kSide; ++k) load_average(k);
  unsigned is_nan = 0;  // a bit for every mix and channel
  bool is_finite = true;
  METRIX_UNROLL
  for (int m = 0; m < kMixes; ++m) {
    if (m == 0 || first_of(m) != first_of(m - 1)) load_average(first_of(m));
    const T weight = __shfl_sync(kAllLanes, lane_weight, from + m);
    const T lambda = __shfl_sync(kAllLanes, lane_mix.lambda, from + m);
    const int64_t mix = begin + from + m, at = mix * args.channels + channels.first;
    if (mix >= args.mixes.count) continue;
    E pooled[L::kChannels];
    METRIX_UNROLL
    for (int which = 0; which < L::kChannels; ++which) {
      const T maximum = L::channel(best[m], which);
      is_finite = is_finite && maximum - maximum == T(0);
      if (!kGrid && which < channels.count) is_nan |= unsigned(maximum != maximum) << (m * L::kChannels + which);
      const T mean = fused(lambda, average[first_of(m)][which], (T(1) - lambda) * average[second_of(m)][which]);
      round_to(input.averages == nullptr ? weight * maximum : fused(weight, maximum, mean), pooled[which]);
    }
    L::store(static_cast<E*>(output.pooled) + at, pooled, channels.count);
    if (kArgmax) {
      int16_t argmax[L::kChannels];
      METRIX_UNROLL
      for (int which = 0; which < L::kChannels; ++which) argmax[which] = L::position(index[m], which);
      L::store(output.argmax + at, argmax, channels.count);
    }
  }
  if (kArgmax && !kGrid) {
    for (; is_nan != 0; is_nan &= is_nan - 1) {
      const int bit = __ffs(int(is_nan)) - 1, which = bit % L::kChannels;
      const int64_t mix = begin + from + bit / L::kChannels;
      output.argmax[mix * args.channels + channels.first + which] =
          int16_t(first_nan<T, L>(args, features, mix, channels, which));
    }
  }
  return is_finite;
}

template <class T, class L, bool kArgmax>
__global__ void __launch_bounds__(kPoolWarps<T>* kWarp)
    pool_mixes(const MixPoolArgs<T> args, const MixPoolInput<T> input, const MixPoolOutput output) {
  const int lane = int(threadIdx.x) % kWarp;
  const int64_t begin = (int64_t(blockIdx.x) * kPoolWarps<T> + threadIdx.x / kWarp) * kWarpMixes;
  if (begin >= args.mixes.count) return;
  const LaneMix<T> mix(args.mixes, begin);
  const int64_t row_first = __shfl_sync(kAllLanes, mix.first, lane % kWarpMixes / kSide * kSide);
  const int64_t column_second = __shfl_sync(kAllLanes, mix.second, lane % kSide);
  const bool is_grid = begin + kWarpMixes <= args.mixes.count && mix.first == row_first && mix.second == column_second;
  const LaneChannels<L> channels(args);
  // Nearly always the first's weight can be taken out, though it be the smaller one, and the inner loop does not
  // branch.
  if (__all_sync(kAllLanes, is_grid && T(1) - mix.lambda <= T(kMostRatio) * mix.lambda)) {
    const bool is_finite = pool<T, L, kArgmax, true>(args, input, output, begin, 0, channels);
    if (__all_sync(kAllLanes, is_finite)) return;  // a ratio above 1 has not left the range of the elements
  }
  for (int from = 0; from < kWarpMixes && begin + from < args.mixes.count; from += kSide)
    pool<T, L, kArgmax, false>(args, input, output, begin, from, channels);
}

// So that 32 bits hold the offset of every position.
constexpr int64_t kLargestOffset = int64_t(1) << 31;

// Whether the channels of a lane are side by side, in vectors that are aligned.
template <class L, class T>
bool are_neighbours(const MixPoolArgs<T>& args, const void* features) {
  return args.channel_stride == 1 && (args.channels | args.image_stride | args.position_stride) % L::kChannels == 0 &&
         uintptr_t(features) % (L::kChannels * sizeof(typename L::Element)) == 0;
}

template <class T, class L>
void launch_pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, void* stream) {
  const dim3 grid(unsigned(ceil_div(args.mixes.count, kPoolWarps<T> * kWarpMixes)),
                  unsigned(ceil_div(args.channels, kWarp * L::kChannels)));
  launch("mix_pool", output.argmax == nullptr ? pool_mixes<T, L, false> : pool_mixes<T, L, true>, grid,
         kPoolWarps<T> * kWarp, stream, args, input, output);
}

template <class T>
void mix_pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, int device,
              void* stream) {
  if (args.mixes.count == 0 || args.channels == 0) return;
  if (args.positions * args.position_stride > kLargestOffset)
    throw std::invalid_argument("metrix_ext, CUDA: a feature map must span fewer than 2^31 elements");
  const DeviceGuard guard(device);
  with_element<T>(input.element, [&](auto element) {
    using L = Lanes<decltype(element)>;
    if (are_neighbours<typename L::Neighbours>(args, input.features))
      launch_pool<T, typename L::Neighbours>(args, input, output, stream);
    else
      launch_pool<T, typename L::Any>(args, input, output, stream);
  });
}

}  // namespace metrix::cuda
