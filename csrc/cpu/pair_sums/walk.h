// The walk over the pairs of a group of anchors, which forward and backward share: it packs what the loops read, and
// gives every row of terms to a pass (SumPass in pair_sums.cpp, GradientPass in pair_sums_backward.cpp).
//
// A group walks its pairs row by row: i outside, the group's anchors inside, j in the loops. The j are taken a tile at
// a time, and what a mix (i, j) costs once - lambda, the norm, the weights - is paid once for the anchors of a block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "columns.h"
#include "cpu/common/buffer.h"
#include "cpu/common/pair_set.h"
#include "cpu/loops/rows.h"

namespace metrix::cpu {

// A packed row of floats is then 2 KB, and the dozen of them that one row of pairs needs fit a first-level cache.
constexpr int64_t kColumnsPerTile = 512;
// So many rows of similarities, and as many of their gradients, are 256 KB of floats, which a second-level cache holds.
constexpr int64_t kAnchorsPerBlock = 64;

// Memory of one thread.
template <class T>
struct PairScratch {
  std::vector<Range> first, candidates;  // all columns of the first and of the second of a pair
  std::vector<Range> second;             // a tile of the candidates
  Buffer<T> similarity;                  // [anchors of a block, packed columns]
  Buffer<T> lambda, gram, sqnorm, first_coefficient, second_coefficient, positive_weight, negative_weight;
  Buffer<T> terms;                                                        // of forward
  Buffer<T> similarity_gradient, moment, gram_gradient, sqnorm_gradient;  // of backward
};

// Some anchors of a group, with a tile of the candidates for the second of their pairs.
template <class T>
struct PairBlock {
  const int64_t* anchors;
  int64_t anchor_count;
  int64_t columns, size;  // candidates, and with the padding
  const T* similarity;    // [anchor_count, size] s(a, j)
};

// The mixes of one i with the tile: an example, or for the anc-* sets the anchor. Elements from start on are used,
// those before from and from the block's columns on with weight 0. What is not finite there is made 0: a weight of 0
// alone does not hide it.
template <class T>
struct MixRow {
  int64_t i, from, start, size;
  T *first, *second;  // lambda / nu and (1 - lambda) / nu
  T *positive_weight, *negative_weight;

  Row<T> with(const T* similarity, T similarity_i) const {
    return {size - start,           similarity_i,   similarity + start,
            first + start,          second + start, positive_weight + start,
            negative_weight + start};
  }
};

// A pass has
//   add_clean(sides, row, anchor)                 the terms of one side of the clean sums of an anchor;
//   add(row, block, b, mixes)                     those of anchor b of a block with a row of mixes;
// and around what shares it
//   begin_tile(size), end_tile(size)              the blocks of a tile of packed columns,
//   begin_block(block), end_block(block)          the rows of a block,
//   begin_row(block, mixes), end_row(mixes)       the anchors of a row.
template <class T, class Pass>
class PairWalk {
 public:
  PairWalk(const PairSumsArgs<T>& args, const PairSet& set, PairScratch<T>& scratch, Pass& pass)
      : args_(args), set_(set), scratch_(scratch), pass_(pass) {}

  // Eq. (7) or (9) for a group of anchors.
  void group(const int64_t* anchors, int64_t anchor_count) {
    if (!set_.mixed) return clean(anchors[0]);
    if (set_.with_anchor)
      scratch_.first.assign(1, {anchors[0], anchors[0] + 1});
    else
      find_candidates(args_, anchors[0], set_.first_positive, scratch_.first);
    mixed(anchors, anchor_count);
  }

  // The pairs of the group alone whose first is this example.
  void group_of_first(int64_t i, const int64_t* anchors, int64_t anchor_count) {
    scratch_.first.assign(1, {i, i + 1});
    mixed(anchors, anchor_count);
  }

 private:
  void clean(int64_t anchor) {
    for (const bool positive : {true, false}) {
      find_candidates(args_, anchor, positive, scratch_.second);
      const int64_t columns = count(scratch_.second);
      if (columns == 0) continue;
      const int64_t size = padded_row(columns);
      T* const weight = scratch_.positive_weight.take(size);
      std::fill(weight, weight + columns, T(1));
      std::fill(weight + columns, weight + size, T(0));
      T* const similarity = scratch_.similarity.take(size);
      pack(scratch_.second, args_.similarity + anchor * args_.examples, size, similarity);
      if (const int64_t own = positive ? own_column(anchor) : -1; own >= 0) weight[own] = similarity[own] = T(0);
      pass_.add_clean(positive ? Sides::kPositive : Sides::kNegative,
                      Row<T>{size, T(0), similarity, nullptr, nullptr, weight, weight}, anchor);
    }
  }

  void mixed(const int64_t* anchors, int64_t anchor_count) {
    find_candidates(args_, anchors[0], set_.second_positive, scratch_.candidates);
    Tiles tiles(scratch_.candidates);
    while (tiles.next(kColumnsPerTile, scratch_.second)) {
      const int64_t columns = count(scratch_.second), size = padded_row(columns);
      if (args_.renormalize) pack(scratch_.second, args_.sqnorm, size, scratch_.sqnorm.take(size));
      pass_.begin_tile(size);
      for (int64_t b = 0; b < anchor_count; b += kAnchorsPerBlock)
        block({anchors + b, std::min(kAnchorsPerBlock, anchor_count - b), columns, size, nullptr});
      pass_.end_tile(size);
    }
  }

  void block(PairBlock<T> block) {
    T* const similarity = scratch_.similarity.take(block.anchor_count * block.size);
    for (int64_t b = 0; b < block.anchor_count; ++b) {
      T* const row = similarity + b * block.size;
      pack(scratch_.second, args_.similarity + block.anchors[b] * args_.examples, block.size, row);
      if (const int64_t own = set_.second_positive ? own_column(block.anchors[b]) : -1; own >= 0) row[own] = T(0);
    }
    block.similarity = similarity;
    pass_.begin_block(block);
    for (const Range& range : scratch_.first)
      for (int64_t i = range.begin; i < range.end; ++i) row(i, block);
    pass_.end_block(block);
  }

  // All pairs (i, j) of a block of anchors for one i.
  void row(int64_t i, const PairBlock<T>& block) {
    const int64_t from = set_.unordered ? packed_position(scratch_.second, i + 1) : 0;
    if (from >= block.columns) return;
    const MixRow<T> mixes = mix(i, from, block);
    pass_.begin_row(block, mixes);
    for (int64_t b = 0; b < block.anchor_count; ++b) anchor_row(b, block, mixes);
    pass_.end_row(mixes);
  }

  void anchor_row(int64_t b, const PairBlock<T>& block, const MixRow<T>& mixes) {
    const int64_t anchor = block.anchors[b];
    if (!set_.with_anchor && args_.self[anchor] == mixes.i) return;
    const int64_t own = set_.second_positive ? own_column(anchor) : -1;
    if (own >= mixes.from && block.columns - mixes.from == 1) return;  // no term
    const T similarity_i = set_.with_anchor ? args_.self_similarity[anchor * args_.self_stride]
                                            : args_.similarity[anchor * args_.examples + mixes.i];
    const Row<T> row = mixes.with(block.similarity + b * block.size, similarity_i);
    if (own < 0) return pass_.add(row, block, b, mixes);
    T* const of_own[] = {mixes.first + own, mixes.second + own, mixes.positive_weight + own};
    const T kept[] = {*of_own[0], *of_own[1], *of_own[2]};
    for (T* const number : of_own) *number = T(0);
    pass_.add(row, block, b, mixes);
    for (int k = 0; k < 3; ++k) *of_own[k] = kept[k];
  }

  // The anchor is no positive of itself: where its column is among the packed ones, or -1.
  int64_t own_column(int64_t anchor) const {
    const int64_t self = args_.self[anchor];
    return contains(scratch_.second, self) ? packed_position(scratch_.second, self) : -1;
  }

  MixRow<T> mix(int64_t i, int64_t from, const PairBlock<T>& block) {
    const int64_t size = block.size;
    const T* const lambda = pack_lambda(i, block);
    T* const first = scratch_.first_coefficient.take(size);
    T* const second = scratch_.second_coefficient.take(size);
    if (args_.renormalize) {
      T* const gram = scratch_.gram.take(size);
      pack(scratch_.second, args_.gram + i * args_.examples, size, gram);
      const T sqnorm_i = set_.with_anchor ? args_.self_sqnorm[i * args_.self_stride] : args_.sqnorm[i];
      rows_.mix_coefficients(size, lambda, sqnorm_i, scratch_.sqnorm.take(size), gram, first, second);
    } else {
      std::copy(lambda, lambda + size, first);
      for (int64_t j = 0; j < size; ++j) second[j] = T(1) - lambda[j];
    }
    T* const positive_weight = scratch_.positive_weight.take(size);
    T* const negative_weight = scratch_.negative_weight.take(size);
    const bool both = set_.sides == Sides::kBoth;
    for (int64_t j = 0; j < size; ++j) {
      const bool used = from <= j && j < block.columns;
      positive_weight[j] = !used ? T(0) : both ? lambda[j] : T(1);
      negative_weight[j] = !used ? T(0) : both ? T(1) - lambda[j] : T(1);
    }
    const int64_t start = from / kRowPad * kRowPad;
    for (T* const coefficients : {first, second}) {
      std::fill(coefficients + start, coefficients + from, T(0));
      std::fill(coefficients + block.columns, coefficients + size, T(0));
    }
    return {i, from, start, size, first, second, positive_weight, negative_weight};
  }

  const T* pack_lambda(int64_t i, const PairBlock<T>& block) {
    T* const lambda = scratch_.lambda.take(block.size);
    if (args_.lambda_is_scalar) {
      std::fill(lambda, lambda + block.columns, *args_.lambda);
      std::fill(lambda + block.columns, lambda + block.size, T(0));
    } else {
      pack(scratch_.second, args_.lambda + i * args_.examples, block.size, lambda);
    }
    return lambda;
  }

  const PairSumsArgs<T>& args_;
  const PairSet& set_;
  PairScratch<T>& scratch_;
  Pass& pass_;
  const RowKernels<T>& rows_ = row_kernels<T>();
};

// The arguments with the norms side by side, however they lie.
template <class T>
class PackedNorms {
 public:
  explicit PackedNorms(const PairSumsArgs<T>& given) : args_(given), norms_(given.renormalize ? given.examples : 0) {
    for (size_t j = 0; j < norms_.size(); ++j) norms_[j] = given.sqnorm[j * given.sqnorm_stride];
    args_.sqnorm = norms_.data();
    args_.sqnorm_stride = 1;
  }

  PackedNorms(const PackedNorms&) = delete;  // args_ points into norms_

  const PairSumsArgs<T>& args() const { return args_; }

 private:
  PairSumsArgs<T> args_;
  std::vector<T> norms_;
};

}  // namespace metrix::cpu
