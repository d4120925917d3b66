// anchor_sums on tensor cores, for embeddings in bfloat16: what its three kernels share. A block of threads multiplies
// tiles in shared memory,
//
//   S [64 mixes, 32 anchors] = Z [64, d] X^T [d, 32]          X = high + low, both bfloat16: 16 bits of a float
//
//             anchors  0..7   8..15  16..23  24..31
//   mixes  0..15       warp 0   4       8      12             a warp has 16 x 8 similarities, a lane 4 of them:
//         16..31            1   5       9      13             rows g and g + 8, columns 2 t and 2 t + 1 of its part
//         32..47            2   6      10      14             (g = lane / 4, t = lane % 4)
//         48..63            3   7      11      15
//
// A row of shared memory is a row of d elements and 16 bytes that are left free, so that the 8 rows that a warp reads
// at a time lie in different banks. Which product stays and which comes by is up to the kernel:
//
//                            stays                     comes by, while the one before it is multiplied
//   tile_sums, tile_anchor_  32 anchors, high and low  64 uses of the examples of their classes      walk_uses()
//   gradients
//   tile_mixed_gradients     64 mixes                  32 anchors of the classes of their examples
#pragma once

#include "class_groups.cuh"
#include "cuda/common/memory.cuh"
#include "cuda/common/tensor_core.cuh"
#include "cuda/rho/families.cuh"
#include "inverse_norms.cuh"

namespace metrix::cuda {

using Bf16 = __nv_bfloat16;

constexpr int kTileMixes = 64, kTileAnchors = 32;
constexpr int kTileRows = 64;  // of shared memory: 64 mixes, or 32 anchors twice
constexpr int kTileWarps = 16, kTileThreads = kTileWarps * kWarp;
constexpr int kRowParts = kTileThreads / kTileRows;  // threads that copy one row
constexpr int kMixParts = kTileMixes / 16;           // warps that have the same anchors
constexpr int64_t kMostTileSize = 512;
constexpr int kPieceElements = 8;  // 16 bytes

// What the kernels are told.
struct TileArgs {
  AnchorSumsArgs<float> args;
  DeviceRho<float> rho;
  int stages;                           // tiles that come by have room for so many: 1 or 2
  int64_t chunks;                       // of 64 uses, for each block of walk_uses()
  const Bf16* split;                    // [2, m, d] the anchors' high and low parts, place by place
  const float* flaw;                    // [m] NaN for an anchor that is not finite, of which the parts are 0; else 0
  const AnchorFactors<float>* factors;  // [m] by anchor; backward only
};

// A mix as a row of a tile.
struct TileRow {
  int first, second;  // examples; -1: there is no mix
  int own;            // the one whose class's anchors take the row, or -1: anchors of both do
  float lambda, inverse;
};

// An anchor as a column of a tile.
struct TileColumn {
  int anchor;  // -1: there is none
  OwnRelations relations;
  float flaw;
  AnchorFactors<float> factors;
};

// ---- shared memory -----------------------------------------------------------------------------------------------

// Rows of slopes, [anchor][mix] or [mix][anchor], with the same space between them.
constexpr int kMixesStride = kTileMixes + kPieceElements, kAnchorsStride = kTileAnchors + kPieceElements;
constexpr int kSlopeElements = 2 * std::max(kTileAnchors * kMixesStride, kTileMixes* kAnchorsStride);

struct TileMemory {
  Bf16* tiles;   // [1 + stages][64][stride]: the one that stays, then those that come by
  Bf16* slopes;  // d loss / d s, high and low parts
  char* labels;
  int stride;

  __host__ __device__ static int stride_of(int64_t size) { return int(size) + kPieceElements; }

  static int64_t bytes(int64_t size, int stages) {
    return (1 + stages) * kTileRows * stride_of(size) * int64_t(sizeof(Bf16)) + kSlopeElements * int64_t(sizeof(Bf16)) +
           2 * (kTileAnchors * int64_t(sizeof(TileColumn)) + kTileMixes * int64_t(sizeof(TileRow)));
  }

  __device__ __forceinline__ TileMemory(int64_t size, int stages)
      : tiles(reinterpret_cast<Bf16*>(dynamic_shared_memory())), stride(stride_of(size)) {
    slopes = tiles + (1 + stages) * kTileRows * stride;
    labels = reinterpret_cast<char*>(slopes + kSlopeElements);
  }

  __device__ __forceinline__ Bf16* fixed() const { return tiles; }
  __device__ __forceinline__ Bf16* moving(int stage) const { return tiles + (1 + stage) * kTileRows * stride; }
  // What the tiles' rows and columns are, twice: of the tile that is multiplied and of the one that comes.
  __device__ __forceinline__ TileColumn* columns(int which) const {
    return reinterpret_cast<TileColumn*>(labels) + which * kTileAnchors;
  }
  __device__ __forceinline__ TileRow* rows(int which) const {
    return reinterpret_cast<TileRow*>(labels + 2 * kTileAnchors * sizeof(TileColumn)) + which * kTileMixes;
  }
};

// Begins to copy a row of d elements, or zeros, by kRowParts threads.
__device__ __forceinline__ void copy_row(Bf16* to, const Bf16* from, int64_t size, bool exists) {
  const SharedAddress address(to);
  for (int64_t at = int64_t(threadIdx.x) % kRowParts * kPieceElements; at < size; at += kRowParts * kPieceElements)
    address.copy_16_bytes_or_zeros(int(at * int64_t(sizeof(Bf16))), exists ? from + at : from, exists);
}

// The anchors at places [place, end), of which 32 fit; high parts in rows 0 to 31, low parts below.
__device__ __forceinline__ void load_anchors(const TileArgs& tile, const TileMemory& memory, Bf16* to,
                                             TileColumn* columns, int64_t place, int64_t end) {
  const AnchorSumsArgs<float>& args = tile.args;
  const int row = int(threadIdx.x) / kRowParts;
  const int64_t of_row = place + row % kTileAnchors;
  const Bf16* const parts = tile.split + row / kTileAnchors * args.relations.anchors * args.size;
  const bool exists = of_row < end;
  copy_row(to + row * memory.stride, parts + (exists ? of_row : 0) * args.size, args.size, exists);
  if (threadIdx.x >= kTileAnchors) return;
  TileColumn column{};
  column.anchor = -1;
  if (const int64_t own = place + threadIdx.x; own < end) {
    const int64_t anchor = args.anchor_order == nullptr ? own : args.anchor_order[own];
    column.anchor = int(anchor);
    column.relations = {int(args.relations.positives[2 * anchor]), int(args.relations.positives[2 * anchor + 1]),
                        int(args.relations.self[anchor])};
    column.flaw = tile.flaw[own];
    if (tile.factors != nullptr) column.factors = tile.factors[anchor];
  }
  columns[threadIdx.x] = column;
}

// A mix, or none (-1), as the row of kRowParts threads. Of a mix that is not finite zeros are multiplied, so that
// anchors that do not use it stay as they are; it is NaN by its inverse norm.
__device__ __forceinline__ void load_mix(const TileArgs& tile, const TileMemory& memory, Bf16* to, TileRow* rows,
                                         int64_t mix, bool is_second_use, bool both) {
  const AnchorSumsArgs<float>& args = tile.args;
  const int row = int(threadIdx.x) / kRowParts;
  const float inverse = mix < 0 ? 0.f : args.inverse_norms[mix];
  const Bf16* const mixed = static_cast<const Bf16*>(args.mixed);
  copy_row(to + row * memory.stride, mixed + (mix < 0 ? 0 : mix) * args.size, args.size,
           mix >= 0 && inverse - inverse == 0.f);
  if (threadIdx.x % kRowParts != 0) return;
  TileRow loaded{-1, -1, -1, 0.f, inverse};
  if (mix >= 0) {
    loaded.first = int(args.mixes.first[mix]);
    loaded.second = int(args.mixes.second[mix]);
    loaded.lambda = args.mixes.lambda[mix];
    if (!both) loaded.own = is_second_use ? loaded.second : loaded.first;
  }
  rows[row] = loaded;
}

// ---- similarities and terms --------------------------------------------------------------------------------------

// The 16 x 8 similarities of a warp, before they are divided by norms.
__device__ __forceinline__ void inner_products(const TileMemory& memory, const Bf16* mixes, const Bf16* anchors,
                                               int64_t size, SumFragment& product) {
  const int warp = int(threadIdx.x) / kWarp, row = warp % kMixParts * 16, column = warp / kMixParts * 8;
  SumFragment of_low = {};
  METRIX_UNROLL
  for (int k = 0; k < 4; ++k) product[k] = 0.f;
#pragma unroll 4
  for (int k = 0; k < int(size); k += 16) {
    LeftFragment mix;
    RightFragment high, low;
    load_left(mix, mixes, memory.stride, row, k);
    load_right(high, anchors, memory.stride, column, k);
    load_right(low, anchors, memory.stride, kTileAnchors + column, k);
    multiply_add(product, mix, high);
    multiply_add(of_low, mix, low);
  }
  METRIX_UNROLL
  for (int k = 0; k < 4; ++k) product[k] += of_low[k];
}

// Row and column of similarity k of a lane.
__device__ __forceinline__ int row_of(int k) {
  return int(threadIdx.x) / kWarp % kMixParts * 16 + int(threadIdx.x) % kWarp / 4 + k / 2 * 8;
}
__device__ __forceinline__ int column_of(int k) {
  return int(threadIdx.x) / kWarp / kMixParts * 8 + int(threadIdx.x) % 4 * 2 + k % 2;
}

// One similarity and its two weights; weights of 0 where the anchor does not use the mix.
struct TileTerm {
  bool is_used;
  float weight[2];
  float s;  // NaN unless it is finite

  template <bool kByClass>
  __device__ __forceinline__ static TileTerm of(const AnchorSumsArgs<float>& args, const TileRow& row,
                                                const TileColumn& column, float product) {
    float label = -1.f;
    if (row.first >= 0 && column.anchor >= 0) {
      const OwnRelations& own = column.relations;
      const auto is_in_class = [&](int example) { return own.begin <= example && example < own.end; };
      // A mix of two examples of the class is taken once, by its first.
      const bool is_taken =
          !kByClass || row.own < 0 || (is_in_class(row.own) && !(row.own == row.second && is_in_class(row.first)));
      if (is_taken)
        label = kByClass ? mixed_label(own, args.pairs, args.both_orders, 0, row.first, row.second, row.lambda)
                         : mixed_label(args.relations, args.pairs, args.both_orders, column.anchor, row.first,
                                       row.second, row.lambda);
    }
    const bool is_used = label != -1.f;
    const float s = product * row.inverse + column.flaw;
    return {is_used, {is_used ? label : 0.f, is_used ? 1.f - label : 0.f}, s - s == 0.f ? s : kNaN<float>};
  }
};

template <class Family>
__device__ __forceinline__ float slope_of(const TileArgs& tile, const TileTerm& term, const TileColumn& column) {
  if (!term.is_used) return 0.f;
  return Family::template Gradient<float, Sides::kBoth>::template of_term<true, 0>(tile.rho, term.s, term.weight,
                                                                                   column.factors);
}

// ---- the walk over uses ------------------------------------------------------------------------------------------

// Uses are sorted by example, and examples by class: 64 uses in a row belong to one class or a few, whose anchors are
// one range of places. A block takes so many chunks of uses, and the anchors of their classes 32 at a time.
// visit has begin(), then chunk(product, rows, columns, mixes) for every chunk, then end(place, last place) of a tile.
template <bool kByClass, class Visit>
__device__ __forceinline__ void walk_uses(const TileArgs& tile, const TileMemory& memory, Visit& visit) {
  const AnchorSumsArgs<float>& args = tile.args;
  const Mixes<float>& mixes = args.mixes;
  const int64_t total = kByClass ? 2 * mixes.count : mixes.count;
  const int64_t begin = int64_t(blockIdx.x) * tile.chunks * kTileMixes;
  const int64_t end = begin + tile.chunks * kTileMixes < total ? begin + tile.chunks * kTileMixes : total;
  const int chunks = int(ceil_div(end - begin, kTileMixes));

  int64_t place = 0, last_place = args.relations.anchors;
  if (kByClass) {
    const auto example = [&](int64_t use) {
      const int64_t which = mixes.uses[use];
      return which < mixes.count ? mixes.first[which] : mixes.second[which - mixes.count];
    };
    place = args.anchors_of[2 * example(begin)];
    last_place = args.anchors_of[2 * example(end - 1) + 1];
  }
  const auto use_of = [&](int chunk) {  // that of this thread's row; -1 past the end
    const int64_t use = begin + int64_t(chunk) * kTileMixes + threadIdx.x / kRowParts;
    if (use >= end) return int64_t(-1);
    return kByClass ? mixes.uses[use] : use;
  };
  const auto load = [&](int chunk, int64_t use) {
    const int stage = chunk % tile.stages;
    const bool is_second_use = use >= mixes.count;
    int64_t mix = is_second_use ? use - mixes.count : use;
    if (is_second_use && !args.both_orders) mix = -1;
    load_mix(tile, memory, memory.moving(stage), memory.rows(chunk % 2), mix, is_second_use, !kByClass);
  };
  for (; place < last_place; place += kTileAnchors) {
    load_anchors(tile, memory, memory.fixed(), memory.columns(0), place, last_place);
    load(0, use_of(0));
    __pipeline_commit();
    int64_t next_use = 1 < chunks ? use_of(1) : -1;  // read a chunk ahead: where the rows are depends on it
    visit.begin();
    for (int chunk = 0; chunk < chunks; ++chunk) {
      if (tile.stages == 2) {
        if (chunk + 1 < chunks) load(chunk + 1, next_use);
        __pipeline_commit();
        if (chunk + 2 < chunks) next_use = use_of(chunk + 2);
        __pipeline_wait_prior(1);
      } else {
        __pipeline_wait_prior(0);
      }
      __syncthreads();
      const Bf16* const chunk_mixes = memory.moving(chunk % tile.stages);
      SumFragment product;
      inner_products(memory, chunk_mixes, memory.fixed(), args.size, product);
      visit.chunk(product, memory.rows(chunk % 2), memory.columns(0), chunk_mixes);
      __syncthreads();
      if (tile.stages == 1 && chunk + 1 < chunks) {
        load(chunk + 1, use_of(chunk + 1));
        __pipeline_commit();
      }
    }
    __pipeline_wait_prior(0);
    visit.end(place, last_place);
    __syncthreads();
  }
}

// The blocks of walk_uses() with uses of an anchor's class, from and to.
template <bool kByClass>
__device__ __forceinline__ void blocks_of_anchor(const TileArgs& tile, int64_t anchor, int64_t& from, int64_t& to) {
  const Mixes<float>& mixes = tile.args.mixes;
  int64_t begin = 0, end = mixes.count;
  if (kByClass) {
    const int64_t* const positives = tile.args.relations.positives;
    begin = mixes.begin[positives[2 * anchor]];
    end = mixes.begin[positives[2 * anchor + 1]];
  }
  const int64_t uses = tile.chunks * kTileMixes;
  from = begin / uses;
  to = begin < end ? (end - 1) / uses + 1 : from;
}

// ---- what is made before -----------------------------------------------------------------------------------------

constexpr int kSplitWarps = 8;

// The anchors' high and low parts, a warp for each.
static __global__ void __launch_bounds__(kSplitWarps* kWarp)
    split_anchors(const AnchorSumsArgs<float> args, Bf16* __restrict__ split, float* __restrict__ flaw) {
  const int64_t place = int64_t(blockIdx.x) * kSplitWarps + threadIdx.x / kWarp, m = args.relations.anchors;
  if (place >= m) return;
  const int64_t anchor = args.anchor_order == nullptr ? place : args.anchor_order[place];
  const float* const row = args.anchors + anchor * args.size;
  float none = 0.f;
  for (int64_t k = threadIdx.x % kWarp; k < args.size; k += kWarp) none += 0.f * row[k];
  none = warp_sum(none);
  const bool is_finite = none == 0.f;
  for (int64_t k = threadIdx.x % kWarp; k < args.size; k += kWarp) {
    const SplitNumber parts(is_finite ? row[k] : 0.f);
    split[place * args.size + k] = parts.high;
    split[(m + place) * args.size + k] = parts.low;
  }
  if (threadIdx.x % kWarp == 0) flaw[place] = none;
}

// ---- plan --------------------------------------------------------------------------------------------------------

// Whether these kernels can take the embeddings; what else a device has to have is for tile_stages().
inline bool is_for_tiles(const AnchorSumsArgs<float>& args) {
  return args.element == Element::kBFloat16 && args.size % 16 == 0 && args.size > 0 && args.size <= kMostTileSize &&
         uintptr_t(args.mixed) % 16 == 0 && args.mixes.examples < (int64_t(1) << 31) && args.mixes.count > 0 &&
         args.relations.anchors > 0;
}

// As many stages as the shared memory of a block has room for; 0 if there is not even room for one.
inline int tile_stages(int64_t size, int device) {
  const int64_t most = most_shared_bytes(device);
  return TileMemory::bytes(size, 2) <= most ? 2 : TileMemory::bytes(size, 1) <= most ? 1 : 0;
}

#ifdef METRIX_TINY_BLOCKS
constexpr int64_t kTileBlocks = 3;
#else
constexpr int64_t kTileBlocks =
    4 * 132;  // a multiple of the multiprocessors of an H100, each of which has room for one
#endif
constexpr int64_t kPartialBytes = int64_t(256) << 20;

inline bool is_by_class(const AnchorSumsArgs<float>& args) { return args.anchor_order != nullptr; }

inline int64_t tile_chunks(const AnchorSumsArgs<float>& args) {
  return ceil_div(is_by_class(args) ? 2 * args.mixes.count : args.mixes.count, kTileMixes);
}

// Pieces of the workspace that every kernel needs, and the arguments that point to them.
struct TilePieces {
  float* inverse;
  Bf16* split;
  float* flaw;

  TilePieces(const AnchorSumsArgs<float>& args, Workspace& space)
      : inverse(space.take<float>(args.mixes.count)),
        split(space.take<Bf16>(2 * args.relations.anchors * args.size)),
        flaw(space.take<float>(args.relations.anchors)) {}

  TileArgs prepare(const AnchorSumsArgs<float>& args, int stages, void* stream) const {
    launch("anchor_sums, anchors", split_anchors, dim3(unsigned(ceil_div(args.relations.anchors, kSplitWarps))),
           kSplitWarps * kWarp, stream, args, split, flaw);
    return {with_inverse_norms(args, inverse, stream), DeviceRho<float>(args.rho), stages, 0, split, flaw, nullptr};
  }
};

// Calls with the family of rho and whether anchors are found by class, as constants of the compiler.
template <class Call>
void with_tile_kind(const AnchorSumsArgs<float>& args, const Call& call) {
  with_family(args.rho, [&](auto family) {
    is_by_class(args) ? call(family, std::true_type{}) : call(family, std::false_type{});
  });
}

inline Grid tile_grid(int64_t blocks, const TileArgs& tile) {
  return {dim3(unsigned(blocks)), kTileThreads, TileMemory::bytes(tile.args.size, tile.stages)};
}

}  // namespace metrix::cuda
