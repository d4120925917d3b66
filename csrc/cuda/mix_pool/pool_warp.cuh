// Mixes of one warp, which walks the positions and reads features where they are. Where 16 mixes are a grid of 4 x 4
// examples, 8 rows of features serve them all; otherwise 4 mixes go at a time, with 2 rows each.
//
//                   F_j0  F_j1  F_j2  F_j3      8 loads a position, of the same lane's channels
//     F_i0           m0    m1    m2    m3
//     F_i1           m4    m5    m6    m7       16 maxima of mixes in the registers of a lane
//     F_i2           m8    m9    m10   m11
//     F_i3           m12   m13   m14   m15
#pragma once

#include "cuda/common/memory.cuh"
#include "epilogue.cuh"

namespace metrix::cuda {

constexpr int kWarpMixes = 16;  // of 4 x 4 examples
constexpr int kSide = 4;
#ifdef METRIX_TINY_BLOCKS
template <class T>
constexpr int kPoolWarps = 4;
#else
template <class T>
constexpr int kPoolWarps = sizeof(T) == 4 ? 16 : 8;
#endif
template <class T>
constexpr int kBlockMixes = kPoolWarps<T> * kWarpMixes;

// Whether the weight of the first can be taken out, though it be the smaller one.
template <class T>
__device__ __forceinline__ bool can_take_out(T lambda) {
  constexpr int kMostRatio = 1024;
  return T(1) - lambda <= T(kMostRatio) * lambda;
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

// 16 mixes of a grid, with the weight of the first taken out of all of them; returns whether every channel of the lane
// is finite, and otherwise leaves them to the other way: 4 that begin with that of lane from, with the larger weight
// taken out of each.
template <class T, Channels C, bool kArgmax, bool kGrid>
__device__ __forceinline__ bool pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input,
                                     const MixPoolOutput& output, int64_t begin, int from,
                                     const OwnChannels<C>& channels) {
  using E = typename C::Element;
  constexpr int kMixes = kGrid ? kWarpMixes : kSide;
  constexpr int kAhead = C::kAhead[kArgmax];
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

  const E* rows[2 * kSide];
  unsigned swapped;
  typename C::Two ratio[kMixes / 2];
  typename C::Vector best[kMixes];
  typename C::Index index[kMixes];
  {
    const LaneMix<T> mix(args.mixes, begin);
    METRIX_UNROLL
    for (int k = 0; k < 2 * kSide; ++k)
      rows[k] = as_given(features + image_of(mix, k) * args.image_stride + channels.offset);
    const LargerWeight<T> larger = taken_out(mix.lambda);
    swapped = __ballot_sync(kAllLanes, larger.swapped) >> from;
    METRIX_UNROLL
    for (int m = 0; m < kMixes; m += 2)
      ratio[m / 2] =
          C::two(__shfl_sync(kAllLanes, larger.ratio, from + m), __shfl_sync(kAllLanes, larger.ratio, from + m + 1));
    METRIX_UNROLL
    for (int m = 0; m < kMixes; ++m) {
      best[m] = C::least();
      index[m] = {};
    }
  }
  const int positions = int(args.positions);
  const unsigned last = unsigned(positions - 1), position_stride = unsigned(args.position_stride);
#pragma unroll 1
  for (int x = 0; x < positions; x += kAhead) {
    typename C::Vector value[2 * kSide][kAhead];
    METRIX_UNROLL
    for (int ahead = 0; ahead < kAhead; ++ahead) {
      // Past the end the last position comes again, and changes no maximum.
      const unsigned offset = (unsigned(x + ahead) < last ? unsigned(x + ahead) : last) * position_stride;
      METRIX_UNROLL
      for (int k = 0; k < 2 * kSide; ++k) value[k][ahead] = C::load(rows[k] + offset, channels.next);
    }
    METRIX_UNROLL
    for (int m = 0; m < kMixes; ++m) {
      const auto take = [&](const auto& larger, const auto& smaller) {
        METRIX_UNROLL
        for (int ahead = 0; ahead < kAhead; ++ahead) {
          const auto mixed = C::mix(C::one_of(ratio[m / 2], m % 2), smaller[ahead], larger[ahead]);
          if (kArgmax) index[m] = C::index_of_larger(index[m], mixed, best[m], x + ahead);
          best[m] = C::larger(best[m], mixed);
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
  Averages<T, C> average[2 * kSide];
  METRIX_UNROLL
  for (int k = 0; k < 2 * kSide; ++k) average[k] = Averages<T, C>(args, input, image_of(lane_mix, k), channels);
  FiniteCheck<C> check;
  unsigned is_nan = 0;  // a bit for every mix and channel
  METRIX_UNROLL
  for (int m = 0; m < kMixes; ++m) {
    const T weight = __shfl_sync(kAllLanes, lane_weight, from + m);
    const T lambda = __shfl_sync(kAllLanes, lane_mix.lambda, from + m);
    const int64_t mix = begin + from + m, at = mix * args.channels + channels.first;
    check.add(best[m]);
    if (!kGrid && mix >= args.mixes.count) continue;
    write_pooled<T, C>(static_cast<E*>(output.pooled) + at, weight, lambda, best[m], average[first_of(m)],
                       average[second_of(m)], channels);
    if (kArgmax) write_argmax<C>(output.argmax + at, index[m], channels);
    if (kArgmax && !kGrid) {
      METRIX_UNROLL
      for (int which = 0; which < C::kChannels; ++which) {
        const auto maximum = C::channel(best[m], which);
        if (which < channels.count) is_nan |= unsigned(maximum != maximum) << (m * C::kChannels + which);
      }
    }
  }
  if (kArgmax && !kGrid) {
    for (; is_nan != 0; is_nan &= is_nan - 1) {
      const int bit = __ffs(int(is_nan)) - 1, which = bit % C::kChannels;
      const int64_t mix = begin + from + bit / C::kChannels;
      output.argmax[mix * args.channels + channels.first + which] =
          int16_t(first_nan<T, C>(args, features, mix, channels, which));
    }
  }
  return check.is_passed();
}

// 16 mixes from begin on, in the slab of channels that begins with one.
template <class T, Channels C, bool kArgmax>
__device__ __forceinline__ void pool_warp(const MixPoolArgs<T>& args, const MixPoolInput<T>& input,
                                          const MixPoolOutput& output, int64_t begin, int channel) {
  if (begin >= args.mixes.count) return;
  const int lane = int(threadIdx.x) % kWarp;
  const LaneMix<T> mix(args.mixes, begin);
  const int64_t row_first = __shfl_sync(kAllLanes, mix.first, lane % kWarpMixes / kSide * kSide);
  const int64_t column_second = __shfl_sync(kAllLanes, mix.second, lane % kSide);
  const bool is_grid = begin + kWarpMixes <= args.mixes.count && mix.first == row_first && mix.second == column_second;
  const OwnChannels<C> channels(args, channel);
  // Nearly always the first's weight can be taken out, though it be the smaller one, and the inner loop does not
  // branch.
  if (__all_sync(kAllLanes, is_grid && can_take_out(mix.lambda))) {
    const bool is_finite = pool<T, C, kArgmax, true>(args, input, output, begin, 0, channels);
    if (__all_sync(kAllLanes, is_finite)) return;  // a ratio above 1 has not left the range of the elements
  }
  for (int from = 0; from < kWarpMixes && begin + from < args.mixes.count; from += kSide)
    pool<T, C, kArgmax, false>(args, input, output, begin, from, channels);
}

}  // namespace metrix::cuda
