// Mixes of a tile of examples, which a block of threads takes together. The features of its examples come into shared
// memory once, a few positions at a time, while the warps work on those that came before; every warp mixes its own rows
// and columns of the tile.
//
//     one stage in shared memory:  2 positions x (32 rows i + 32 columns j) x 64 channels
//     stage        at work   on its way   on its way       one barrier a stage: a thread uses what others have copied
//     positions    x, x+1    x+2, x+3     x+4, x+5
//
//                   columns 0-7     8-15     16-23    24-31
//     rows 0-7        warp 0       warp 1    warp 4   warp 5      a warp has 8 x 8 mixes, a lane 2 channels of each:
//     rows 8-15       warp 2       warp 3    warp 6   warp 7      64 maxima and, two in a register, 64 ratios
//     rows 16-23      warp 8       warp 9    warp 12  warp 13
//     rows 24-31      warp 10      warp 11   warp 14  warp 15
//
// With the positions of the maxima a warp has 4 x 4 mixes and a lane 4 channels of each, a tile 16 + 16 examples:
// 32 registers of maxima and 32 of positions. A byte of shared memory or L2 serves 4 times as many mixes as without.
#pragma once

#include "cuda/common/memory.cuh"
#include "pool_warp.cuh"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kTileWarps = 4;
#else
constexpr int kTileWarps = 16;
#endif
constexpr int kTileThreads = kTileWarps * kWarp;

constexpr int kPieceBytes = 16;  // of a copy
constexpr int kStages = 3;       // of which one is at work, and the others are on their way
constexpr int kPositions = 2;    // of a stage: two at once make maxima of three operands

// The order of a list's mixes within a tile of 32 x 32, 16 x 16 or 8 x 8 (mixes.py): quarters of quarters, and in them
// 4 x 4 row by row.
__host__ __device__ constexpr int row_of(int mix) {
  return (mix >> 2 & 3) | (mix >> 5 & 1) << 2 | (mix >> 7 & 1) << 3 | (mix >> 9 & 1) << 4;
}
__host__ __device__ constexpr int column_of(int mix) {
  return (mix & 3) | (mix >> 4 & 1) << 2 | (mix >> 6 & 1) << 3 | (mix >> 8 & 1) << 4;
}
__host__ __device__ constexpr int mix_at(int row, int column) {
  return (column & 3) | (row & 3) << 2 | (column >> 2 & 1) << 4 | (row >> 2 & 1) << 5 | (column >> 3 & 1) << 6 |
         (row >> 3 & 1) << 7 | (column >> 4 & 1) << 8 | (row >> 4 & 1) << 9;
}

// A tile: every warp takes kSide x kSide examples in the channels of its lanes C.
template <Channels C, int kSide>
struct Tile {
  using LaneChannels = C;
  static constexpr int kWarpSide = kSide, kWarpMixes = kSide * kSide, kMixes = kTileWarps * kWarpMixes;
  static constexpr int kExamples = row_of(kMixes - 1) + 1;  // firsts, and as many seconds
};

// The number of the warp, of which the compiler knows that all lanes have the same.
__device__ __forceinline__ int own_warp() { return __shfl_sync(kAllLanes, int(threadIdx.x) / kWarp, 0); }

// Whether so many mixes from begin on are a tile, all of some firsts with all of some seconds. The whole block asks.
template <class T>
__device__ __forceinline__ bool is_tile(const Mixes<T>& mixes, int64_t begin, int count) {
  bool is_other = begin + count > mixes.count;
  for (int mix = int(threadIdx.x); mix < count && !is_other; mix += int(blockDim.x))
    is_other = mixes.first[begin + mix] != mixes.first[begin + mix_at(row_of(mix), 0)] ||
               mixes.second[begin + mix] != mixes.second[begin + mix_at(0, column_of(mix))];
  return __syncthreads_or(is_other) == 0;
}

// What a thread copies of the features of a tile: pieces of 16 bytes, the same ones at every position.
template <class T, class Tile>
class TileCopies {
  using C = typename Tile::LaneChannels;
  using E = typename C::Element;
  using V = typename C::Vector;
  static constexpr int kRows = 2 * Tile::kExamples;
  static constexpr int kRowPieces = kWarp * sizeof(V) / kPieceBytes;
  static constexpr int kPieces = kRows * kRowPieces / kTileThreads;
  static_assert(kPieces * kTileThreads == kRows * kRowPieces);

 public:
  struct alignas(kPieceBytes) Stage {
    V at[kPositions][kRows][kWarp];
  };

  __device__ __forceinline__ TileCopies(const MixPoolArgs<T>& args, const void* features, int64_t begin, Stage* stages)
      : to_(reinterpret_cast<char*>(stages) + int(threadIdx.x) * kPieceBytes) {
    const int piece = int(threadIdx.x) % kRowPieces * int(kPieceBytes / sizeof(E));
    METRIX_UNROLL
    for (int k = 0; k < kPieces; ++k) {
      const int row = (int(threadIdx.x) + k * kTileThreads) / kRowPieces;
      const int64_t example = row < Tile::kExamples ? args.mixes.first[begin + mix_at(row, 0)]
                                                    : args.mixes.second[begin + mix_at(0, row - Tile::kExamples)];
      from_[k] = as_given(static_cast<const E*>(features) + args.order[example] * args.image_stride + piece);
    }
  }

  // Begins to copy a stage: the positions from x on, of which those past the last are that again, in the slab of
  // channels that begins with one. There is nothing to copy from end on.
  __device__ __forceinline__ void begin(const MixPoolArgs<T>& args, int stage, int x, int channel, int end) const {
    METRIX_UNROLL
    for (int p = 0; p < kPositions; ++p) {
      const int position = x + p < int(args.positions) ? x + p : int(args.positions) - 1;
      const unsigned offset = unsigned(channel) + unsigned(position) * unsigned(args.position_stride);
      METRIX_UNROLL
      for (int k = 0; k < kPieces; ++k) {
        const int behind = stage * int(sizeof(Stage)) + (p * kPieces + k) * kTileThreads * kPieceBytes;
        if (channel < end) to_.copy_16_bytes(behind, from_[k] + offset);
      }
    }
    __pipeline_commit();
  }

 private:
  const SharedAddress to_;
  const E* from_[kPieces];
};

// The ratios of the second's weight to the first's of a warp's mixes, in the order of the list, two by two. Returns
// those mixes, a bit for each, whose first's weight cannot be taken out.
template <Channels C, class T, int kMixes>
__device__ __forceinline__ uint64_t load_ratios(const T* lambdas, typename C::Two (&ratio)[kMixes / 2]) {
  constexpr int kOfLane = (kMixes + kWarp - 1) / kWarp;
  T of_lane[kOfLane];  // of mixes lane and lane + 32, or of lane % 16
  uint64_t bad = 0;
  METRIX_UNROLL
  for (int k = 0; k < kOfLane; ++k) {
    const T lambda = as_given(lambdas)[(k * kWarp + int(threadIdx.x) % kWarp) % kMixes];
    of_lane[k] = (T(1) - lambda) / lambda;
    bad |= uint64_t(__ballot_sync(kAllLanes, !can_take_out(lambda))) << (k * kWarp);
  }
  const auto ratio_of = [&](int mix) { return __shfl_sync(kAllLanes, of_lane[mix / kWarp], mix % kWarp); };
  METRIX_UNROLL
  for (int mix = 0; mix < kMixes; mix += 2) ratio[mix / 2] = C::two(ratio_of(mix), ratio_of(mix + 1));
  return kMixes < 64 ? bad & ((uint64_t(1) << kMixes % 64) - 1) : bad;
}

// The epilogue of a warp's mixes, which begin with own, in the slab that begins with a channel. Returns those that are
// not finite, a bit for each.
template <class T, class Tile, bool kArgmax>
__device__ __forceinline__ uint64_t
write_tile(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, int64_t own,
           int channel, const typename Tile::LaneChannels::Vector (&best)[Tile::kWarpMixes],
           const typename Tile::LaneChannels::Index (&index)[kArgmax ? Tile::kWarpMixes : 1]) {
  using C = typename Tile::LaneChannels;
  constexpr int kSide = Tile::kWarpSide, kMixes = Tile::kWarpMixes;
  const int lane = int(threadIdx.x) % kWarp;
  uint64_t left = 0;
  const OwnChannels<C> channels(args, channel);
  // Lane k has the image of row k, and after the rows those of the columns.
  const int64_t* const examples = as_given(lane % (2 * kSide) < kSide ? args.mixes.first : args.mixes.second);
  const int of_lane = lane % (2 * kSide) < kSide ? mix_at(lane % kSide, 0) : mix_at(0, lane % kSide);
  const int image = int(args.order[examples[own + of_lane]]);
  const auto average_of = [&](int row) {
    return Averages<T, C>(args, input, __shfl_sync(kAllLanes, image, row), channels);
  };
  typename C::Element* to = static_cast<typename C::Element*>(output.pooled) + own * args.channels + channels.first;
  METRIX_UNROLL
  for (int quarter = 0; quarter < kMixes; quarter += 16) {
    Averages<T, C> first[4], second[4];
    METRIX_UNROLL
    for (int k = 0; k < 4; ++k) {
      first[k] = average_of(row_of(quarter) + k);
      second[k] = average_of(kSide + column_of(quarter) + k);
    }
    METRIX_UNROLL
    for (int r = 0; r < 4; ++r) {
      T lambda[4];
      METRIX_UNROLL
      for (int c = 0; c < 4; ++c) lambda[c] = args.mixes.lambda[own + quarter + 4 * r + c];
      FiniteCheck<C> check;
      METRIX_UNROLL
      for (int c = 0; c < 4; ++c, to += args.channels) {
        const int m = quarter + 4 * r + c;
        write_pooled<T, C>(to, lambda[c], lambda[c], best[m], first[r], second[c], channels);
        if constexpr (kArgmax)
          write_argmax<C>(output.argmax + (own + m) * args.channels + channels.first, index[m], channels);
        check.add(best[m]);
      }
      if (!__all_sync(kAllLanes, check.is_passed())) left |= uint64_t(0xf) << (quarter + 4 * r);
    }
  }
  return left;
}

// Takes the positions of one stage, from x on, into the maxima of a warp's mixes, whose rows and columns begin with
// those.
template <class T, class Tile, bool kArgmax, int kMixes = Tile::kWarpMixes>
__device__ __forceinline__ void mix_stage(const typename TileCopies<T, Tile>::Stage& stage, int row, int column, int x,
                                          const typename Tile::LaneChannels::Two (&ratio)[kMixes / 2],
                                          typename Tile::LaneChannels::Vector (&best)[kMixes],
                                          typename Tile::LaneChannels::Index (&index)[kArgmax ? kMixes : 1]) {
  using C = typename Tile::LaneChannels;
  using V = typename C::Vector;
  constexpr int kSide = Tile::kWarpSide;
  const int lane = int(threadIdx.x) % kWarp;
  const auto& staged = stage.at;
  V second[kSide][kPositions];
  METRIX_UNROLL
  for (int k = 0; k < kSide * kPositions; ++k)
    second[k / kPositions][k % kPositions] = staged[k % kPositions][column + k / kPositions][lane];
  METRIX_UNROLL
  for (int r = 0; r < kSide; ++r) {
    const V first[kPositions] = {staged[0][row + r][lane], staged[1][row + r][lane]};
    METRIX_UNROLL
    for (int c = 0; c < kSide; ++c) {
      const int m = mix_at(r, c);
      const V weight = C::one_of(ratio[m / 2], m % 2);
      METRIX_UNROLL
      for (int p = 0; p < kPositions; ++p) {
        const V mixed = C::mix(weight, second[c][p], first[p]);
        if constexpr (kArgmax) index[m] = C::index_of_larger(index[m], mixed, best[m], x + p);
        best[m] = C::larger(best[m], mixed);
      }
    }
  }
}

// The mixes of a tile in channels [channel, end). The first's weight is taken out of all of them; returns where that is
// no good, a few times: a bit for every mix of the warp, the same in all lanes.
template <class T, class Tile, bool kArgmax>
__device__ __forceinline__ uint64_t pool_tile(const MixPoolArgs<T>& args, const MixPoolInput<T>& input,
                                              const MixPoolOutput& output, int64_t begin, int channel, int end) {
  using C = typename Tile::LaneChannels;
  using V = typename C::Vector;
  constexpr int kMixes = Tile::kWarpMixes, kExamples = Tile::kExamples;
  __shared__ typename TileCopies<T, Tile>::Stage shared_stages[kStages];
  const int warp = own_warp();
  const int row = row_of(warp * kMixes), column = kExamples + column_of(warp * kMixes);
  const int64_t own = begin + warp * kMixes;

  const TileCopies<T, Tile> copies(args, input.features, begin, shared_stages);
  METRIX_UNROLL
  for (int k = 0; k < kStages - 1; ++k) copies.begin(args, k, k * kPositions, channel, end);

  constexpr int kAhead = (kStages - 1) * kPositions;
  int positions = int(args.positions + kPositions - 1) / kPositions * kPositions;
  if (positions < kAhead) positions = kAhead;  // so that copies are never more than a slab ahead
  uint64_t left = 0;
  int stage = 0;
#pragma unroll 1
  for (; channel < end; channel += OwnChannels<C>::kSlab) {
    // Loaded again for every slab, so that what follows the loop over positions has their registers.
    typename C::Two ratio[kMixes / 2];
    left |= load_ratios<C, T, kMixes>(args.mixes.lambda + own, ratio);
    V best[kMixes];
    METRIX_UNROLL
    for (int m = 0; m < kMixes; ++m) best[m] = C::least();
    typename C::Index index[kArgmax ? kMixes : 1] = {};
#pragma unroll 1
    for (int x = 0; x < positions; x += kPositions) {
      // What this stage needs has come for all threads, and nobody reads the one before any more.
      __pipeline_wait_prior(kStages - 2);
      __syncthreads();
      const int ahead = x + kAhead, free = stage == 0 ? kStages - 1 : stage - 1;
      const bool is_next = ahead >= positions;
      copies.begin(args, free, is_next ? ahead - positions : ahead, is_next ? channel + OwnChannels<C>::kSlab : channel,
                   end);
      mix_stage<T, Tile, kArgmax>(shared_stages[stage], row, column, x, ratio, best, index);
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    left |= write_tile<T, Tile, kArgmax>(args, input, output, own, channel, best, index);
  }
  return left;
}

}  // namespace metrix::cuda
