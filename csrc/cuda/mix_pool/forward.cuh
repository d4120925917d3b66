// mix_pool, forward: max over positions x of lambda F_i[c, x] + (1 - lambda) F_j[c, x], for every mix (i, j) of a list.
//
//   index       whether 1,024 mixes are a tile of 32 x 32 examples, or 256 one of 16 x 16 (is_tile), 16 of a warp a
//   grid
//               of 4 x 4 (pool_warp); the slab of channels that a warp takes             channels.cuh, OwnChannels
//   load        lambda -> ratio = (1 - lambda) / lambda: max(l x + (1 - l) y) = l max(x + ratio y)
//   for every position x:
//     load        F_i[c, x], F_j[c, x] of the rows and columns of the grid: tiles by asynchronous copies through shared
//                 memory (pool_tile.cuh), others straight into registers (pool_warp.cuh)
//     mix         ratio F_j + F_i, one fused multiply-add                                channels.cuh, mix()
//     accumulate  maximum, and if asked for its position                                 larger(), index_of_larger()
//   merge       nothing: a lane owns its channels. lambda times the maximum, averages, rounding, store: epilogue.cuh
//   again       4 mixes at a time with the larger weight taken out, where a ratio is above 1024 or a maximum infinite
//
// Of half maps many mixes go tile by tile (pool_tiles, and pool_others for what is in no tile); all other lists warp by
// warp (pool_mixes).
#pragma once

#include "cuda/common/launch.h"
#include "pool_tile.cuh"
#include "pool_warp.cuh"

namespace metrix::cuda {

// Those of a block, which has so many: from one to before another.
struct BlockChannels {
  int from, end;

  template <class T>
  __device__ __forceinline__ BlockChannels(const MixPoolArgs<T>& args, int channels)
      : from(int(blockIdx.y) * channels), end(from + channels < args.channels ? from + channels : int(args.channels)) {}
};

// A block takes the mixes of a tile, if that is one, in some channels: whole slabs.
template <class T, class Tile, bool kArgmax>
__global__ void __launch_bounds__(kTileThreads)
    pool_tiles(const MixPoolArgs<T> args, const MixPoolInput<T> input, const MixPoolOutput output, int channels) {
  using C = typename Tile::LaneChannels;
  const int64_t begin = int64_t(blockIdx.x) * Tile::kMixes;
  if (!is_tile(args.mixes, begin, Tile::kMixes)) return;
  const BlockChannels own_channels(args, channels);
  const uint64_t left = pool_tile<T, Tile, kArgmax>(args, input, output, begin, own_channels.from, own_channels.end);
  if (left == 0) return;
  const int64_t own = begin + own_warp() * Tile::kWarpMixes;
  for (int channel = own_channels.from; channel < own_channels.end; channel += OwnChannels<C>::kSlab)
    for (int k = 0; k < Tile::kWarpMixes; k += kSide)
      if (left >> k & 0xf)
        pool<T, C, kArgmax, false>(args, input, output, own + k / kWarpMixes * kWarpMixes, k % kWarpMixes,
                                   OwnChannels<C>(args, channel));
}

// Those mixes that are in no tile. A block takes 16 for each of its warps, in some channels.
template <class T, Channels C, class Tile, bool kArgmax>
__global__ void __launch_bounds__(kPoolWarps<T>* kWarp)
    pool_others(const MixPoolArgs<T> args, const MixPoolInput<T> input, const MixPoolOutput output, int channels) {
  static_assert(Tile::kMixes % kBlockMixes<T> == 0, "all mixes of a block are in one tile, or all in none");
  const int64_t begin = int64_t(blockIdx.x) * kBlockMixes<T>;
  if (is_tile(args.mixes, begin / Tile::kMixes * Tile::kMixes, Tile::kMixes)) return;
  const int64_t own = begin + own_warp() * kWarpMixes;
  const BlockChannels own_channels(args, channels);
  if constexpr (kArgmax) {  // a block has one slab: what a loop carries along finds no registers
    pool_warp<T, C, true>(args, input, output, own, own_channels.from);
  } else {
    for (int channel = own_channels.from; channel < own_channels.end; channel += OwnChannels<C>::kSlab)
      pool_warp<T, C, false>(args, input, output, own, channel);
  }
}

// A block takes 16 mixes for each of its warps, in a slab of channels.
template <class T, Channels C, bool kArgmax>
__global__ void __launch_bounds__(kPoolWarps<T>* kWarp)
    pool_mixes(const MixPoolArgs<T> args, const MixPoolInput<T> input, const MixPoolOutput output) {
  const int64_t own = int64_t(blockIdx.x) * kBlockMixes<T> + own_warp() * kWarpMixes;
  pool_warp<T, C, kArgmax>(args, input, output, own, int(blockIdx.y) * OwnChannels<C>::kSlab);
}

// So that 32 bits hold the offset of every position.
constexpr int64_t kLargestOffset = int64_t(1) << 31;

// Whether channels are side by side, in vectors of so many elements that are aligned.
template <class E, class T>
bool are_aligned(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, int elements) {
  return args.channel_stride == 1 && (args.channels | args.image_stride | args.position_stride) % elements == 0 &&
         uintptr_t(input.features) % (elements * sizeof(E)) == 0;
}

// Blocks that fill a device several times over, and so many that a further part of the channels would only repeat what
// a block begins with.
#ifdef METRIX_TINY_BLOCKS
constexpr int64_t kFewBlocks = 1, kManyBlocks = 2;
#else
constexpr int64_t kFewBlocks = 512, kManyBlocks = 2048;
#endif

// So many blocks share all mixes, and as many the channels of these as there is work for, in whole slabs.
template <class T, Channels C, class... Parameters>
void launch_shares(void (*kernel)(Parameters...), int64_t blocks, int threads, void* stream, const MixPoolArgs<T>& args,
                   const MixPoolInput<T>& input, const MixPoolOutput& output) {
  const int64_t slabs = ceil_div(args.channels, OwnChannels<C>::kSlab);
  const int64_t slabs_of_block = ceil_div(slabs, std::min(slabs, ceil_div(kManyBlocks, blocks)));
  const dim3 grid(unsigned(blocks), unsigned(ceil_div(slabs, slabs_of_block)));
  launch("mix_pool", kernel, grid, threads, stream, args, input, output, int(slabs_of_block) * OwnChannels<C>::kSlab);
}

// Whether many mixes of half maps can go tile by tile, in whole slabs of channels.
template <class E, class Tile, class T>
bool are_worth_tiles(const MixPoolArgs<T>& args, const MixPoolInput<T>& input) {
  constexpr int kSlab = OwnChannels<typename Tile::LaneChannels>::kSlab;
  return are_aligned<E>(args, input, kPieceBytes / sizeof(E)) && args.channels % kSlab == 0 &&
         args.mixes.count / Tile::kMixes * (args.channels / kSlab) >= kFewBlocks;
}

template <class E, bool kArgmax, class T>
void launch_pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, void* stream) {
  using Any = typename ChannelsOf<E>::Any;
  using Wide = typename ChannelsOf<E>::Neighbours;
  const int64_t blocks = ceil_div(args.mixes.count, kBlockMixes<T>);
  const auto launch_mixes = [&](auto kernel, int slab) {
    const dim3 grid(unsigned(blocks), unsigned(ceil_div(args.channels, slab)));
    launch("mix_pool", kernel, grid, kPoolWarps<T> * kWarp, stream, args, input, output);
  };
  if (!are_aligned<E>(args, input, Wide::kChannels) || uintptr_t(input.averages) % (Wide::kChannels * sizeof(T)) != 0)
    return launch_mixes(pool_mixes<T, Any, kArgmax>, OwnChannels<Any>::kSlab);
  if constexpr (sizeof(E) == 2) {
    using Own = AlignedChannels<std::conditional_t<kArgmax, Wide, Any>>;
    using Halves = Tile<Own, kArgmax ? 4 : 8>;
    if (are_worth_tiles<E, Halves>(args, input)) {
      const int64_t tiles = args.mixes.count / Halves::kMixes;
      launch_shares<T, Own>(pool_tiles<T, Halves, kArgmax>, tiles, kTileThreads, stream, args, input, output);
      const auto others = pool_others<T, Wide, Halves, kArgmax>;
      if constexpr (kArgmax) {
        constexpr int kSlab = OwnChannels<Wide>::kSlab;
        const dim3 grid(unsigned(blocks), unsigned(ceil_div(args.channels, kSlab)));
        launch("mix_pool", others, grid, kPoolWarps<T> * kWarp, stream, args, input, output, kSlab);
      } else {
        launch_shares<T, Wide>(others, blocks, kPoolWarps<T> * kWarp, stream, args, input, output);
      }
      return;
    }
  }
  launch_mixes(pool_mixes<T, Wide, kArgmax>, OwnChannels<Wide>::kSlab);
}

template <class T>
void mix_pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, int device,
              void* stream) {
  if (args.mixes.count == 0 || args.channels == 0) return;
  if (args.positions * args.position_stride > kLargestOffset)
    throw std::invalid_argument("metrix_ext, CUDA: a feature map must span fewer than 2^31 elements");
  const DeviceGuard guard(device);
  with_element<T>(input.element, [&](auto element) {
    using E = decltype(element);
    output.argmax == nullptr ? launch_pool<E, false>(args, input, output, stream)
                             : launch_pool<E, true>(args, input, output, stream);
  });
}

}  // namespace metrix::cuda
