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
constexpr int64_t kMostIndex = int64_t(1) << 31;

// A mix as a row of a tile, and an anchor as a column, made before the kernels so that these copy them like the rest.
struct alignas(16) TileRow {
  int first, second;  // examples
  float lambda, inverse;
};

struct alignas(16) TileColumn {
  int exists;  // 0 where a tile has no column
  int anchor;
  OwnRelations relations;
  float flaw;                    // NaN for an anchor that is not finite, of which the parts are 0; else 0
  AnchorFactors<float> factors;  // backward only
};

// Which anchors take a row.
enum class RowUse : int { kNone, kOfFirst, kOfSecond, kOfBoth };  // those of the class of an example, or of both

// What the kernels are told.
struct TileArgs {
  AnchorSumsArgs<float> args;
  DeviceRho<float> rho;
  int stages;                 // tiles that come by have room for so many: 1 or 2
  int64_t chunks;             // of 64 uses, for each block of walk_uses()
  const Bf16* split;          // [2, m, d] the anchors' high and low parts, place by place
  const TileRow* rows;        // [p]
  const TileColumn* columns;  // [m] place by place
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
           2 * (kTileAnchors * int64_t(sizeof(TileColumn)) + kTileMixes * int64_t(sizeof(TileRow) + sizeof(RowUse)));
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
  __device__ __forceinline__ RowUse* uses(int which) const {
    return reinterpret_cast<RowUse*>(rows(2)) + which * kTileMixes;
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
  const int row = int(threadIdx.x) / kRowParts, part = int(threadIdx.x) % kRowParts;
  const int64_t own = place + row % kTileAnchors;
  const bool exists = own < end;
  const int64_t from = exists ? own : 0;
  copy_row(to + row * memory.stride, tile.split + (row / kTileAnchors * args.relations.anchors + from) * args.size,
           args.size, exists);
  constexpr int kPieces = sizeof(TileColumn) / 16;
  if (row < kTileAnchors && part < kPieces)
    SharedAddress(reinterpret_cast<char*>(columns + row) + part * 16)
        .copy_16_bytes_or_zeros(0, reinterpret_cast<const char*>(tile.columns + from) + part * 16, exists);
}

// What the 8 threads of a row know of it before it is copied.
struct MixAhead {
  int64_t mix = 0;
  RowUse use = RowUse::kNone;
  float inverse = 0.f;

  __device__ __forceinline__ void read_inverse(const TileArgs& tile) { inverse = tile.rows[mix].inverse; }
};

// Of a mix that is not finite zeros are multiplied, so that anchors that do not use it stay as they are; it is NaN by
// its inverse norm.
__device__ __forceinline__ void load_mix(const TileArgs& tile, const TileMemory& memory, Bf16* to, TileRow* rows,
                                         RowUse* uses, const MixAhead& ahead) {
  const int row = int(threadIdx.x) / kRowParts;
  const bool exists = ahead.use != RowUse::kNone;
  copy_row(to + row * memory.stride, static_cast<const Bf16*>(tile.args.mixed) + ahead.mix * tile.args.size,
           tile.args.size, exists && ahead.inverse - ahead.inverse == 0.f);
  if (threadIdx.x % kRowParts != 0) return;
  SharedAddress(rows + row).copy_16_bytes_or_zeros(0, tile.rows + ahead.mix, exists);
  uses[row] = ahead.use;
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

  // What rho is of.
  __device__ __forceinline__ float argument(const DeviceRho<float>& rho) const {
    return less_margin(s, rho.margin_range, weight[0]);
  }

  template <bool kByClass>
  __device__ __forceinline__ static TileTerm of(const AnchorSumsArgs<float>& args, const TileRow& row, RowUse use,
                                                const TileColumn& column, float product) {
    float label = -1.f;
    if (use != RowUse::kNone && column.exists != 0) {
      if constexpr (kByClass) {
        const OwnRelations& own = column.relations;
        const auto is_in_class = [&](int example) { return own.begin <= example && example < own.end; };
        // A mix of two examples of the class is taken once, by its first.
        const bool is_taken =
            use == RowUse::kOfBoth ||
            (use == RowUse::kOfFirst ? is_in_class(row.first) : is_in_class(row.second) && !is_in_class(row.first));
        if (is_taken) label = mixed_label(own, args.pairs, args.both_orders, 0, row.first, row.second, row.lambda);
      } else {
        label =
            mixed_label(args.relations, args.pairs, args.both_orders, column.anchor, row.first, row.second, row.lambda);
      }
    }
    const bool is_used = label != -1.f;
    const float s = product * row.inverse + column.flaw;
    return {is_used, {is_used ? label : 0.f, is_used ? 1.f - label : 0.f}, s - s == 0.f ? s : kNaN<float>};
  }
};

template <class Family>
__device__ __forceinline__ float slope_of(const TileArgs& tile, const TileTerm& term, const TileColumn& column) {
  if (!term.is_used) return 0.f;
  return Family::template Gradient<float, Sides::kBoth>::template of_term<true, 0>(tile.rho, term.argument(tile.rho),
                                                                                   term.weight, column.factors);
}

// ---- the walk over uses ------------------------------------------------------------------------------------------

// Uses are sorted by example, and examples by class: 64 uses in a row belong to one class or a few, whose anchors are
// one range of places. A block takes so many chunks of uses, and the anchors of their classes 32 at a time.
// visit has begin(), then chunk(product, which rows, mixes) for every chunk, then end(place, last place) of a tile.
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
  const auto read_mix = [&](int chunk, MixAhead& ahead) {  // that of this thread's row
    const int64_t use = begin + int64_t(chunk) * kTileMixes + threadIdx.x / kRowParts;
    ahead = MixAhead();
    if (use >= end) return;
    const int64_t which = kByClass ? mixes.uses[use] : use;
    const bool is_second = which >= mixes.count;
    ahead.mix = is_second ? which - mixes.count : which;
    ahead.use = !kByClass          ? RowUse::kOfBoth
                : !is_second       ? RowUse::kOfFirst
                : args.both_orders ? RowUse::kOfSecond
                                   : RowUse::kNone;
  };
  const auto load = [&](int chunk, const MixAhead& ahead) {
    load_mix(tile, memory, memory.moving(chunk % tile.stages), memory.rows(chunk % 2), memory.uses(chunk % 2), ahead);
  };
  for (; place < last_place; place += kTileAnchors) {
    MixAhead ahead;
    read_mix(0, ahead);
    load_anchors(tile, memory, memory.fixed(), memory.columns(0), place, last_place);
    ahead.read_inverse(tile);
    load(0, ahead);
    __pipeline_commit();
    read_mix(1, ahead);
    visit.begin();
    ahead.read_inverse(tile);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      if (tile.stages == 2) {
        if (chunk + 1 < chunks) load(chunk + 1, ahead);
        __pipeline_commit();
        read_mix(chunk + 2, ahead);
        __pipeline_wait_prior(1);
      } else {
        __pipeline_wait_prior(0);
      }
      __syncthreads();
      const Bf16* const chunk_mixes = memory.moving(chunk % tile.stages);
      SumFragment product;
      inner_products(memory, chunk_mixes, memory.fixed(), args.size, product);
      if (tile.stages == 2) ahead.read_inverse(tile);  // it comes while terms are computed
      visit.chunk(product, chunk % 2, chunk_mixes);
      __syncthreads();
      if (tile.stages == 1 && chunk + 1 < chunks) {
        load(chunk + 1, ahead);
        __pipeline_commit();
        read_mix(chunk + 2, ahead);
        ahead.read_inverse(tile);
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

constexpr int kTableWarps = 8;

// The anchors' high and low parts and columns, a warp for each.
static __global__ void __launch_bounds__(kTableWarps* kWarp)
    make_columns(const AnchorSumsArgs<float> args, const AnchorFactors<float>* factors,  // [m] by anchor, or null
                 Bf16* __restrict__ split, TileColumn* __restrict__ columns) {
  const int64_t place = int64_t(blockIdx.x) * kTableWarps + threadIdx.x / kWarp, m = args.relations.anchors;
  if (place >= m) return;
  const int64_t anchor = args.anchor_order == nullptr ? place : args.anchor_order[place];
  const float* const row = args.anchors + anchor * args.size;
  float nothing = 0.f;
  for (int64_t k = threadIdx.x % kWarp; k < args.size; k += kWarp) nothing += 0.f * row[k];
  nothing = warp_sum(nothing);
  const bool is_finite = nothing == 0.f;
  for (int64_t k = threadIdx.x % kWarp; k < args.size; k += kWarp) {
    const SplitNumber parts(is_finite ? row[k] : 0.f);
    split[place * args.size + k] = parts.high;
    split[(m + place) * args.size + k] = parts.low;
  }
  if (threadIdx.x % kWarp != 0) return;
  TileColumn column{1, int(anchor), {}, nothing, {}};
  column.relations = {int(args.relations.positives[2 * anchor]), int(args.relations.positives[2 * anchor + 1]),
                      int(args.relations.self[anchor])};
  if (factors != nullptr) column.factors = factors[anchor];
  columns[place] = column;
}

static __global__ void __launch_bounds__(kTableWarps* kWarp)
    make_rows(const AnchorSumsArgs<float> args, TileRow* __restrict__ rows) {
  const int64_t mix = int64_t(blockIdx.x) * kTableWarps + threadIdx.x / kWarp;
  if (mix >= args.mixes.count) return;
  const float inverse = inverse_norm_by_warp<float, Bf16>(args, true, mix);
  if (threadIdx.x % kWarp == 0)
    rows[mix] = {int(args.mixes.first[mix]), int(args.mixes.second[mix]), args.mixes.lambda[mix], inverse};
}

// ---- plan --------------------------------------------------------------------------------------------------------

// Whether these kernels can take the embeddings on a device that has room for their tiles.
inline bool is_for_tiles(const AnchorSumsArgs<float>& args) {
  return args.element == Element::kBFloat16 && args.size % 16 == 0 && args.size > 0 && args.size <= kMostTileSize &&
         uintptr_t(args.mixed) % 16 == 0 && args.mixes.examples < kMostIndex && args.relations.anchors < kMostIndex &&
         args.mixes.count > 0 && args.relations.anchors > 0;
}

// As many stages as the shared memory of a block has room for; 0 if these kernels cannot run.
inline int tile_stages(const AnchorSumsArgs<float>& args, int device) {
  if (!is_for_tiles(args)) return 0;
  const int64_t most = most_shared_bytes(device);
  return TileMemory::bytes(args.size, 2) <= most ? 2 : TileMemory::bytes(args.size, 1) <= most ? 1 : 0;
}

#ifdef METRIX_TINY_BLOCKS
constexpr int64_t kTileBlocks = 3;
#else
constexpr int64_t kTileBlocks =
    4 * 132;  // a multiple of the multiprocessors of an H100, each of which has room for one
#endif
inline bool is_by_class(const AnchorSumsArgs<float>& args) { return args.anchor_order != nullptr; }

inline int64_t tile_chunks(const AnchorSumsArgs<float>& args) {
  return ceil_div(is_by_class(args) ? 2 * args.mixes.count : args.mixes.count, kTileMixes);
}

// Pieces of the workspace that every kernel needs, and the arguments that point to them.
struct TilePieces {
  TileRow* rows;        // [p]
  TileColumn* columns;  // [m]
  Bf16* split;          // [2, m, d]

  TilePieces(const AnchorSumsArgs<float>& args, Workspace& space)
      : rows(space.take<TileRow>(args.mixes.count)),
        columns(space.take<TileColumn>(args.relations.anchors)),
        split(space.take<Bf16>(2 * args.relations.anchors * args.size)) {}

  TileArgs prepare(const AnchorSumsArgs<float>& args, const AnchorFactors<float>* factors, int stages, int64_t chunks,
                   void* stream) const {
    const auto blocks = [](int64_t count) { return dim3(unsigned(ceil_div(count, kTableWarps))); };
    launch("anchor_sums, anchors", make_columns, blocks(args.relations.anchors), kTableWarps * kWarp, stream, args,
           factors, split, columns);
    launch("anchor_sums, mixes", make_rows, blocks(args.mixes.count), kTableWarps * kWarp, stream, args, rows);
    return {args, DeviceRho<float>(args.rho), stages, chunks, split, rows, columns};
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
