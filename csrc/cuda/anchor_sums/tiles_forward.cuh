// anchor_sums on tensor cores, forward: blocks take uses in a row and the anchors of their classes (tiles.cuh), and
// leave a cell for every anchor and side; cells of an anchor are merged in order.
#pragma once

#include "tiles.cuh"

namespace metrix::cuda {

// The sums that a lane keeps: of its 2 anchors, over the rows that come by.
template <class Family, bool kByClass>
struct TileSums {
  using Sum = typename Family::template Sum<float, 1, Sides::kBoth>;
  const TileArgs& tile;
  const TileMemory& memory;
  PartialSum<float>* of_warps;  // shared: [warp][8 anchors][side]
  PartialSum<float>* cells;     // of this block: [m, 2] by place
  Sum sum[2];

  __device__ __forceinline__ void begin() { sum[0] = sum[1] = Sum(); }

  __device__ __forceinline__ void chunk(const SumFragment& product, int which, const Bf16*) {
    METRIX_UNROLL
    for (int k = 0; k < 4; ++k) {
      const TileTerm term =
          TileTerm::of<kByClass>(tile.args, memory.rows(which)[row_of(k)], memory.uses(which)[row_of(k)],
                                 memory.columns(0)[column_of(k)], product[k]);
      const float s[1] = {term.argument(tile.rho)};
      sum[k % 2].template add<true>(tile.rho, s, term.weight, !term.is_used);
    }
  }

  // Lanes of one anchor, then the warps that have the same anchors.
  __device__ __forceinline__ void end(int64_t place, int64_t last_place) {
    const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
    METRIX_UNROLL
    for (int c = 0; c < 2; ++c) {
      METRIX_UNROLL
      for (int side = 0; side < 2; ++side) {
        PartialSum<float> partial = sum[c].partial(side, 0);
        METRIX_UNROLL
        for (int lanes = 4; lanes < kWarp; lanes *= 2) {
          const PartialSum<float> other{__shfl_xor_sync(kAllLanes, partial.shift, lanes),
                                        __shfl_xor_sync(kAllLanes, partial.sum, lanes)};
          partial = Sum::merge(partial, other);
        }
        if (lane < 4) of_warps[(warp * 8 + 2 * lane + c) * 2 + side] = partial;
      }
    }
    __syncthreads();
    const int column = int(threadIdx.x) / 2, side = int(threadIdx.x) % 2;
    if (column >= kTileAnchors || place + column >= last_place) return;
    PartialSum<float> total = Sum::empty();
    for (int part = 0; part < kMixParts; ++part)
      total = Sum::merge(total, of_warps[((column / 8 * kMixParts + part) * 8 + column % 8) * 2 + side]);
    cells[(place + column) * 2 + side] = total;
  }
};

template <class Family, bool kByClass>
__global__ void __launch_bounds__(kTileThreads) tile_sums(const TileArgs tile, PartialSum<float>* cells) {
  const TileMemory memory(tile.args.size, tile.stages);
  TileSums<Family, kByClass> visit{tile, memory, reinterpret_cast<PartialSum<float>*>(memory.slopes),
                                   cells + int64_t(blockIdx.x) * tile.args.relations.anchors * 2};
  walk_uses<kByClass>(tile, memory, visit);
}

constexpr int kTileMergeThreads = 64;

template <class Family, bool kByClass>
__global__ void __launch_bounds__(kTileMergeThreads)
    merge_tile_sums(const TileArgs tile, const Rho rho, const PartialSum<float>* __restrict__ cells,
                    const AnchorSumsOutput<float> output) {
  using Sum = typename TileSums<Family, kByClass>::Sum;
  const int64_t k = int64_t(blockIdx.x) * kTileMergeThreads + threadIdx.x, m = tile.args.relations.anchors;
  if (k >= 2 * m) return;
  const int64_t place = k / 2, anchor = kByClass ? tile.args.anchor_order[place] : place;
  int64_t from, to;
  blocks_of_anchor<kByClass>(tile, anchor, from, to);
  PartialSum<float> sum = Sum::empty();
  for (int64_t block = from; block < to; ++block) sum = Sum::merge(sum, cells[block * 2 * m + k]);
  float rest;
  const int64_t at = 2 * anchor + k % 2;
  Sum::write(sum, k % 2 == 0 ? rho.positive : rho.negative, output.sums[at], rest);
  output.nonzero[at] = Sum::kCountsTerms ? rest : 0.f;
}

struct TileForwardPlan {
  int64_t chunks, blocks, workspace;
  PartialSum<float>* cells;  // [blocks, m, 2]
  TilePieces pieces;

  TileForwardPlan(const AnchorSumsArgs<float>& args, Workspace space) : pieces(args, space) {
    const int64_t total = tile_chunks(args);
    chunks = ceil_div(total, kTileBlocks);
    blocks = ceil_div(total, chunks);
    cells = space.take<PartialSum<float>>(blocks * args.relations.anchors * 2);
    workspace = space.used();
  }
};

inline void tile_forward(const AnchorSumsArgs<float>& args, const AnchorSumsOutput<float>& output, void* workspace,
                         int stages, void* stream) {
  const TileForwardPlan plan(args, Workspace(workspace));
  const TileArgs tile = plan.pieces.prepare(args, nullptr, stages, plan.chunks, stream);
  with_tile_kind(args, [&](auto family, auto by_class) {
    using Family = decltype(family);
    constexpr bool kByClass = decltype(by_class)::value;
    launch("anchor_sums", tile_sums<Family, kByClass>, tile_grid(plan.blocks, tile), stream, tile, plan.cells);
    launch("anchor_sums, merge", merge_tile_sums<Family, kByClass>,
           dim3(unsigned(ceil_div(2 * args.relations.anchors, kTileMergeThreads))), kTileMergeThreads, stream, tile,
           args.rho, plan.cells, output);
  });
}

}  // namespace metrix::cuda
