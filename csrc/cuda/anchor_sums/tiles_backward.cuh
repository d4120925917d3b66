// anchor_sums on tensor cores, backward. Both kernels take the similarities again and make of them d loss / d s, in two
// parts of bfloat16 as the anchors are, which they multiply:
//
//   tile_anchor_gradients   dX [32 anchors, d] += dS^T [32, 64] Z [64, d]    a block's uses; blocks are added in order
//   tile_mixed_gradients    dZ [64 mixes, d]   += dS [64, 32] X [32, d]      all anchors of the mixes' classes
//
// 8 columns of d are one product of a tensor core. Those of a warp:
//
//   columns    0..7   8..15   ...               dX: warp 0     1    ...   15    0    1 ...     both rows of 16 anchors
//                                               dZ: warp 0..3  4..7 ... 12..15  0..3 ...       rows as in tiles.cuh
#pragma once

#include "backward.cuh"
#include "tiles.cuh"

namespace metrix::cuda {

constexpr int kColumns = 8;
constexpr int kAnchorProducts = kMostTileSize / (kColumns * kTileWarps);               // of 8 columns, a warp: dX
constexpr int kMixedProducts = kMostTileSize / (kColumns * (kTileWarps / kMixParts));  // dZ

// ---- the gradient of the anchors -----------------------------------------------------------------------------------

template <class Family, bool kByClass>
struct TileAnchorGradients {
  const TileArgs& tile;
  const TileMemory& memory;
  float* partial;  // of this block: [m, d] by place
  SumFragment sum[2][kAnchorProducts];

  __device__ __forceinline__ void begin() {
    METRIX_UNROLL
    for (int part = 0; part < 2; ++part) {
      METRIX_UNROLL
      for (int c = 0; c < kAnchorProducts; ++c) {
        METRIX_UNROLL
        for (int k = 0; k < 4; ++k) sum[part][c][k] = 0.f;
      }
    }
  }

  __device__ __forceinline__ static int column(int c) { return (int(threadIdx.x) / kWarp + c * kTileWarps) * kColumns; }

  __device__ __forceinline__ void chunk(const SumFragment& product, int which, const Bf16* mixes) {
    Bf16 *const high = memory.slopes, *const low = high + kTileAnchors * kMixesStride;
    METRIX_UNROLL
    for (int k = 0; k < 4; ++k) {
      const TileRow& row = memory.rows(which)[row_of(k)];
      const TileColumn& of_anchor = memory.columns(0)[column_of(k)];
      const TileTerm term =
          TileTerm::of<kByClass>(tile.args, row, memory.uses(which)[row_of(k)], of_anchor, product[k]);
      const float slope = slope_of<Family>(tile, term, of_anchor);
      const SplitNumber parts(term.is_used ? row.inverse * slope : 0.f);
      high[column_of(k) * kMixesStride + row_of(k)] = parts.high;
      low[column_of(k) * kMixesStride + row_of(k)] = parts.low;
    }
    __syncthreads();
    METRIX_UNROLL
    for (int k = 0; k < kTileMixes; k += 16) {
      LeftFragment slopes[2][2];  // rows of 16 anchors; high, low
      METRIX_UNROLL
      for (int part = 0; part < 2; ++part) {
        load_left(slopes[part][0], high, kMixesStride, part * 16, k);
        load_left(slopes[part][1], low, kMixesStride, part * 16, k);
      }
      METRIX_UNROLL
      for (int c = 0; c < kAnchorProducts; ++c) {
        if (column(c) >= int(tile.args.size)) continue;
        RightFragment of_mixes;
        load_right_transposed(of_mixes, mixes, memory.stride, k, column(c));
        METRIX_UNROLL
        for (int part = 0; part < 2; ++part) {
          multiply_add(sum[part][c], slopes[part][0], of_mixes);
          multiply_add(sum[part][c], slopes[part][1], of_mixes);
        }
      }
    }
  }

  __device__ __forceinline__ void end(int64_t place, int64_t last_place) {
    const int lane = int(threadIdx.x) % kWarp;
    METRIX_UNROLL
    for (int part = 0; part < 2; ++part) {
      METRIX_UNROLL
      for (int c = 0; c < kAnchorProducts; ++c) {
        if (column(c) >= int(tile.args.size)) continue;
        METRIX_UNROLL
        for (int k = 0; k < 4; ++k) {
          const int64_t own = place + part * 16 + lane / 4 + k / 2 * 8;
          if (own < last_place) partial[own * tile.args.size + column(c) + lane % 4 * 2 + k % 2] = sum[part][c][k];
        }
      }
    }
  }
};

template <class Family, bool kByClass>
__global__ void __launch_bounds__(kTileThreads) tile_anchor_gradients(const TileArgs tile, float* partial) {
  const TileMemory memory(tile.args.size, tile.stages);
  TileAnchorGradients<Family, kByClass> visit{
      tile, memory, partial + int64_t(blockIdx.x) * tile.args.relations.anchors * tile.args.size};
  walk_uses<kByClass>(tile, memory, visit);
}

// blockIdx.x is the anchor's place.
template <bool kByClass>
__global__ void __launch_bounds__(kTermThreads)
    add_tile_gradients(const TileArgs tile, const float* __restrict__ partial, float* gradient) {
  const int64_t place = blockIdx.x, anchor = kByClass ? tile.args.anchor_order[place] : place;
  const int64_t size = tile.args.size, m = tile.args.relations.anchors;
  int64_t from, to;
  blocks_of_anchor<kByClass>(tile, anchor, from, to);
  for (int64_t k = threadIdx.x; k < size; k += kTermThreads) {
    float total = 0.f;
    for (int64_t block = from; block < to; ++block) total += partial[(block * m + place) * size + k];
    gradient[anchor * size + k] += total;
  }
}

// ---- the gradient of the mixes --------------------------------------------------------------------------------------

// The places of the anchors that may use one of 64 mixes in a row: those of the classes of their firsts, and of their
// seconds. Where the two overlap or touch they are one.
struct TilePlaces {
  int begin[2] = {0, 0}, end[2] = {0, 0};

  template <bool kByClass>
  __device__ __forceinline__ static TilePlaces of(const AnchorSumsArgs<float>& args, int64_t first_mix) {
    TilePlaces places;
    if constexpr (!kByClass) {
      places.end[0] = int(args.relations.anchors);
    } else {
      METRIX_UNROLL
      for (int who = 0; who < 2; ++who) {
        if (who == 1 && !args.both_orders) break;
        const int64_t* const examples = who == 0 ? args.mixes.first : args.mixes.second;
        int least = int(args.relations.anchors), most = 0;
        for (int row = int(threadIdx.x) % kWarp; row < kTileMixes && first_mix + row < args.mixes.count; row += kWarp) {
          const int64_t example = examples[first_mix + row];
          const int begin = int(args.anchors_of[2 * example]), end = int(args.anchors_of[2 * example + 1]);
          least = begin < least ? begin : least;
          most = end > most ? end : most;
        }
        places.begin[who] = -warp_max(-least);
        places.end[who] = warp_max(most);
      }
      const bool touch = places.begin[1] <= places.end[0] && places.begin[0] <= places.end[1];
      if (args.both_orders && touch) {
        places.begin[0] = places.begin[1] < places.begin[0] ? places.begin[1] : places.begin[0];
        places.end[0] = places.end[1] > places.end[0] ? places.end[1] : places.end[0];
        places.begin[1] = places.end[1] = 0;
      }
    }
    return places;
  }

  __device__ __forceinline__ int tiles(int who) const {
    const int count = who == 0 ? end[0] - begin[0] : end[1] - begin[1];
    return count > 0 ? int(ceil_div(count, kTileAnchors)) : 0;
  }

  // The first place of a tile, and one past the last of its range.
  __device__ __forceinline__ int place(int tile) const {
    return tile < tiles(0) ? begin[0] + tile * kTileAnchors : begin[1] + (tile - tiles(0)) * kTileAnchors;
  }
  __device__ __forceinline__ int last(int tile) const { return tile < tiles(0) ? end[0] : end[1]; }
};

template <class Family, bool kByClass>
__global__ void __launch_bounds__(kTileThreads) tile_mixed_gradients(const TileArgs tile, Bf16* __restrict__ gradient) {
  const AnchorSumsArgs<float>& args = tile.args;
  const TileMemory memory(args.size, tile.stages);
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp, size = int(args.size);
  const int64_t first_mix = int64_t(blockIdx.x) * kTileMixes;
  Bf16 *const high = memory.slopes, *const low = high + kTileMixes * kAnchorsStride;
  const TileRow* const rows = memory.rows(0);

  const int64_t own_mix = first_mix + threadIdx.x / kRowParts;
  MixAhead own;
  if (own_mix < args.mixes.count) own = {own_mix, RowUse::kOfBoth, 0.f};
  own.read_inverse(tile);
  load_mix(tile, memory, memory.fixed(), memory.rows(0), memory.uses(0), own);
  const TilePlaces places = TilePlaces::of<kByClass>(args, first_mix);
  const int tiles = places.tiles(0) + places.tiles(1);
  const auto load = [&](int at) {
    load_anchors(tile, memory, memory.moving(at % tile.stages), memory.columns(at % 2), places.place(at),
                 places.last(at));
  };
  if (tiles > 0) load(0);
  __pipeline_commit();

  SumFragment sum[kMixedProducts];
  METRIX_UNROLL
  for (int c = 0; c < kMixedProducts; ++c) {
    METRIX_UNROLL
    for (int k = 0; k < 4; ++k) sum[c][k] = 0.f;
  }
  const auto column = [&](int c) { return (warp / kMixParts + c * (kTileWarps / kMixParts)) * kColumns; };
  float along[2] = {0.f, 0.f};  // the gradient by the unit vector, along that vector: rows g and g + 8
  for (int at = 0; at < tiles; ++at) {
    if (tile.stages == 2) {
      if (at + 1 < tiles) load(at + 1);
      __pipeline_commit();
      __pipeline_wait_prior(1);
    } else {
      __pipeline_wait_prior(0);
    }
    __syncthreads();
    const Bf16* const anchors = memory.moving(at % tile.stages);
    const TileColumn* const columns = memory.columns(at % 2);
    SumFragment product;
    inner_products(memory, memory.fixed(), anchors, args.size, product);
    METRIX_UNROLL
    for (int k = 0; k < 4; ++k) {
      const TileTerm term =
          TileTerm::of<kByClass>(args, rows[row_of(k)], memory.uses(0)[row_of(k)], columns[column_of(k)], product[k]);
      const float slope = slope_of<Family>(tile, term, columns[column_of(k)]);
      if (term.is_used) along[k / 2] += slope * term.s;
      const SplitNumber parts(slope);
      high[row_of(k) * kAnchorsStride + column_of(k)] = parts.high;
      low[row_of(k) * kAnchorsStride + column_of(k)] = parts.low;
    }
    __syncthreads();
    METRIX_UNROLL
    for (int k = 0; k < kTileAnchors; k += 16) {
      LeftFragment slopes[2];
      load_left(slopes[0], high, kAnchorsStride, warp % kMixParts * 16, k);
      load_left(slopes[1], low, kAnchorsStride, warp % kMixParts * 16, k);
      METRIX_UNROLL
      for (int c = 0; c < kMixedProducts; ++c) {
        if (column(c) >= size) continue;
        RightFragment of_high, of_low;
        load_right_transposed(of_high, anchors, memory.stride, k, column(c));
        load_right_transposed(of_low, anchors, memory.stride, kTileAnchors + k, column(c));
        multiply_add(sum[c], slopes[0], of_high);
        multiply_add(sum[c], slopes[0], of_low);
        multiply_add(sum[c], slopes[1], of_high);
      }
    }
    __syncthreads();
    if (tile.stages == 1 && at + 1 < tiles) {
      load(at + 1);
      __pipeline_commit();
    }
  }
  __pipeline_wait_prior(0);

  // Lanes of one mix, then the warps that have other anchors of the same mixes.
  float* const along_of_warps = reinterpret_cast<float*>(memory.slopes);  // [4][64]
  METRIX_UNROLL
  for (int half = 0; half < 2; ++half) {
    METRIX_UNROLL
    for (int lanes = 1; lanes < 4; lanes *= 2) along[half] += __shfl_xor_sync(kAllLanes, along[half], lanes);
    if (lane % 4 == 0) along_of_warps[warp / kMixParts * kTileMixes + row_of(2 * half)] = along[half];
  }
  __syncthreads();
  METRIX_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int row = row_of(2 * half);
    if (first_mix + row >= args.mixes.count) continue;
    const float inverse = rows[row].inverse;
    float along_unit = 0.f;
    // At its floor the norm is a constant.
    if (args.normalize && !(inverse >= float(1. / kSmallestNorm))) {
      METRIX_UNROLL
      for (int part = 0; part < kTileWarps / kMixParts; ++part) along_unit += along_of_warps[part * kTileMixes + row];
      along_unit *= inverse;
    }
    METRIX_UNROLL
    for (int c = 0; c < kMixedProducts; ++c) {
      if (column(c) >= size) continue;
      const int at = column(c) + lane % 4 * 2;
      const uint32_t z = load_pair(memory.fixed() + row * memory.stride + at);
      const auto bits = [](float x) { return uint32_t(bit_cast<uint16_t>(__float2bfloat16_rn(x))); };
      const uint32_t first = bits(inverse * (sum[c][2 * half] - low_half(z) * along_unit));
      const uint32_t second = bits(inverse * (sum[c][2 * half + 1] - high_half(z) * along_unit));
      *reinterpret_cast<uint32_t*>(gradient + (first_mix + row) * args.size + at) = second << 16 | first;
    }
  }
}

// ---- launches -------------------------------------------------------------------------------------------------------

struct TileBackwardPlan {
  int64_t chunks, blocks, workspace;
  AnchorFactors<float>* factors;  // [m]
  float* partial;                 // [blocks, m, d]
  TilePieces pieces;

  TileBackwardPlan(const AnchorSumsArgs<float>& args, Workspace space) : pieces(args, space) {
    const int64_t total = tile_chunks(args), elements = args.relations.anchors * args.size;
    const int64_t most = kPartialBytes / (elements * int64_t(sizeof(float)));
    chunks = ceil_div(total, std::clamp<int64_t>(most, 1, kTileBlocks));
    blocks = ceil_div(total, chunks);
    factors = space.take<AnchorFactors<float>>(args.relations.anchors);
    partial = space.take<float>(blocks * elements);
    workspace = space.used();
  }
};

inline void tile_backward(const AnchorSumsArgs<float>& args, const AnchorSumsGradient<float>& gradient, void* workspace,
                          int stages, void* stream) {
  const TileBackwardPlan plan(args, Workspace(workspace));
  launch_prepare_anchors(args, gradient, plan.factors, stream);
  const TileArgs tile = plan.pieces.prepare(args, plan.factors, stages, plan.chunks, stream);
  with_tile_kind(args, [&](auto family, auto by_class) {
    using Family = decltype(family);
    constexpr bool kByClass = decltype(by_class)::value;
    launch("anchor_sums_backward, mixes", tile_mixed_gradients<Family, kByClass>,
           tile_grid(ceil_div(args.mixes.count, kTileMixes), tile), stream, tile, static_cast<Bf16*>(gradient.mixed));
    launch("anchor_sums_backward, anchors", tile_anchor_gradients<Family, kByClass>, tile_grid(plan.blocks, tile),
           stream, tile, plan.partial);
    launch("anchor_sums_backward, blocks", add_tile_gradients<kByClass>, dim3(unsigned(args.relations.anchors)),
           kTermThreads, stream, tile, plan.partial, gradient.anchors);
  });
}

}  // namespace metrix::cuda
