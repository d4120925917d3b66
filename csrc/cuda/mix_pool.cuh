// mix_pool, forward. Tiles of examples go through shared memory (pool_tile.cuh); of mixes that are no tile, and of maps
// that cannot be copied in pieces of 16 bytes, every warp takes its own (pool_warp.cuh).
#pragma once

#include "launch.h"
#include "pool_tile.cuh"
#include "pool_warp.cuh"

namespace metrix::cuda {

// A block takes the mixes of a tile, if that is one, in some channels: whole slabs of L.
template <class T, class L, class Tile>
__global__ void __launch_bounds__(kTileThreads)
    pool_tiles(const MixPoolArgs<T> args, const MixPoolInput<T> input, const MixPoolOutput output, int channels) {
  const int64_t begin = int64_t(blockIdx.x) * Tile::kMixes;
  if (!is_tile(args.mixes, begin, Tile::kMixes)) return;
  const int from = int(blockIdx.y) * channels;
  const int end = from + channels < args.channels ? from + channels : int(args.channels);
  const unsigned left = pool_tile<T, Tile>(args, input, output, begin, from, end);
  if (left == 0) return;
  const int64_t own = begin + own_warp() * Tile::kWarpMixes;
  for (int channel = from; channel < end; channel += LaneChannels<L>::kSlab)
    for (int k = 0; k < Tile::kWarpMixes; k += kSide)
      if (left >> k / kSide & 1)
        pool<T, L, false, false>(args, input, output, own + k / kWarpMixes * kWarpMixes, k % kWarpMixes,
                                 LaneChannels<L>(args, channel));
}

// A block takes 16 mixes for each of its warps, in some channels. Tiles of so many mixes are done; 0: there are none.
template <class T, class L, bool kArgmax>
__global__ void __launch_bounds__(kPoolWarps<T>* kWarp)
    pool_mixes(const MixPoolArgs<T> args, const MixPoolInput<T> input, const MixPoolOutput output, int channels,
               int tile) {
  const int64_t begin = int64_t(blockIdx.x) * kBlockMixes<T>;
  if (tile != 0 && is_tile(args.mixes, begin / tile * tile, tile)) return;
  const int64_t own = begin + own_warp() * kWarpMixes;
  const int from = int(blockIdx.y) * channels;
  const int end = from + channels < args.channels ? from + channels : int(args.channels);
#pragma unroll 1
  for (int channel = from; channel < end; channel += LaneChannels<L>::kSlab)
    pool_warp<T, L, kArgmax>(args, input, output, own, channel);
}

// So that 32 bits hold the offset of every position.
constexpr int64_t kLargestOffset = int64_t(1) << 31;

// Whether channels are side by side, in vectors of so many bytes that are aligned.
template <class E, class T>
bool are_aligned(const MixPoolArgs<T>& args, const void* features, int bytes) {
  return args.channel_stride == 1 &&
         (args.channels | args.image_stride | args.position_stride) * int64_t(sizeof(E)) % bytes == 0 &&
         uintptr_t(features) % unsigned(bytes) == 0;
}

// Blocks that fill a device several times over, and so many that a further part of the channels would only repeat what
// a block begins with.
#ifdef METRIX_TINY_BLOCKS
constexpr int64_t kFewBlocks = 1, kManyBlocks = 2;
#else
constexpr int64_t kFewBlocks = 512, kManyBlocks = 2048;
#endif

// How many channels a block takes, in whole slabs, where so many blocks share all mixes.
template <class L>
int channels_of_block(int64_t channels, int64_t blocks) {
  const int64_t slabs = ceil_div(channels, LaneChannels<L>::kSlab);
  return int(ceil_div(slabs, std::min(slabs, ceil_div(kManyBlocks, blocks)))) * LaneChannels<L>::kSlab;
}

template <class T, class L, bool kArgmax>
void launch_mixes(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, int tile,
                  void* stream) {
  const int64_t blocks = ceil_div(args.mixes.count, kBlockMixes<T>);
  const int channels = channels_of_block<L>(args.channels, blocks);
  const dim3 grid(unsigned(blocks), unsigned(ceil_div(args.channels, channels)));
  launch("mix_pool", pool_mixes<T, L, kArgmax>, grid, kPoolWarps<T> * kWarp, stream, args, input, output, channels,
         tile);
}

// Many mixes of half maps go tile by tile, in whole slabs of channels, where no positions have to be kept in registers.
template <class T, class L, class Tile>
void launch_tiles(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, void* stream) {
  const int64_t tiles = args.mixes.count / Tile::kMixes;
  const int channels = channels_of_block<L>(args.channels, tiles);
  const dim3 grid(unsigned(tiles), unsigned(ceil_div(args.channels, channels)));
  launch("mix_pool", pool_tiles<T, L, Tile>, grid, kTileThreads, stream, args, input, output, channels);
}

template <class E, bool kArgmax, class T>
void launch_pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, void* stream) {
  using Any = typename Lanes<E>::Any;
  using Wide = typename Lanes<E>::Neighbours;
  int tile = 0;
  if constexpr (sizeof(E) == 2 && !kArgmax) {
    using Halves = Tile<Any, 8>;
    if (are_aligned<E>(args, input.features, kPieceBytes) && args.channels % LaneChannels<Wide>::kSlab == 0 &&
        args.mixes.count / Halves::kMixes * args.channels / LaneChannels<Wide>::kSlab >= kFewBlocks) {
      launch_tiles<T, Wide, Halves>(args, input, output, stream);
      tile = Halves::kMixes;
    }
  }
  if (are_aligned<E>(args, input.features, sizeof(typename Wide::Vector)))
    launch_mixes<T, Wide, kArgmax>(args, input, output, tile, stream);
  else
    launch_mixes<T, Any, kArgmax>(args, input, output, tile, stream);
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
