// Eq. (7) and (9) over a Gram matrix. Forward is below, backward in pair_sums_backward.cpp; both take these steps:
//
//   index       for a group of anchors with equal positives and negatives            groups.h
//                 for a tile of columns j, for a block of the anchors a              columns.h, walk.h
//   load            s(a, j) and |x_j|^2 packed side by side                           columns.h
//                   for i of the firsts (or the anchor): lambda_ij and k_ij, packed  walk.h
//   mix               lambda / nu, (1 - lambda) / nu, weights of the two sums        walk.h, loops/rows.cpp
//                     for a of the block
//   exponent            s = (lambda s(a, i) + (1 - lambda) s(a, j)) / nu, rho(s)     loops/rho_loops.h
//   accumulate          sum over j of weight rho(s), or of its gradients             loops/rho_loops.h
//   merge               into the partial sum of a (streaming logsumexp)              loops/rho_loops.h
//   write       the logarithms, and what rounding took from them                     common/rho.h
#include "pair_sums.h"

#include "cpu/common/rho.h"
#include "groups.h"
#include "walk.h"

namespace metrix::cpu {
namespace {

// Adds the terms of every row to the sums of its anchor.
template <class Family>
class SumPass {
 public:
  using T = typename Family::Number;

  SumPass(Sides sides, AnchorSums<Family>& sums, PairScratch<T>& scratch)
      : sides_(sides), sums_(sums), scratch_(scratch) {}

  void add_clean(Sides sides, const Row<T>& row, int64_t anchor) {
    add_terms(sides, row, anchor);
    if (!rows_.all_finite(row.size, row.similarity)) sums_.poison(anchor);
  }

  void begin_tile(int64_t) {}
  void begin_block(const PairBlock<T>& block) {
    for (int64_t b = 0; b < block.anchor_count; ++b)
      seconds_finite_[b] = rows_.all_finite(block.size, block.similarity + b * block.size);
  }
  void begin_row(const PairBlock<T>& block, const MixRow<T>& mixes) { mixes_finite_ = are_finite(block, mixes); }
  // An anchor with a row has terms, and a set with terms takes all of its firsts and seconds.
  void add(const Row<T>& row, const PairBlock<T>& block, int64_t b, const MixRow<T>& mixes) {
    add_terms(sides_, row, block.anchors[b]);
    const bool finite = seconds_finite_[b] && row.similarity_i - row.similarity_i == T(0) &&
                        (mixes_finite_ || are_finite(block, mixes));  // again, now without that of the anchor itself
    if (!finite) sums_.poison(block.anchors[b]);
  }
  void end_row(const MixRow<T>&) {}
  void end_block(const PairBlock<T>&) {}
  void end_tile(int64_t) {}

 private:
  void add_terms(Sides sides, const Row<T>& row, int64_t anchor) {
    sums_.add(sides, row, anchor, scratch_.terms.take(row.size));
  }

  bool are_finite(const PairBlock<T>& block, const MixRow<T>& mixes) const {
    const int64_t used = block.columns - mixes.from;
    return rows_.all_finite(used, mixes.first + mixes.from) && rows_.all_finite(used, mixes.second + mixes.from);
  }

  const Sides sides_;
  AnchorSums<Family>& sums_;
  PairScratch<T>& scratch_;
  const RowKernels<T>& rows_ = row_kernels<T>();
  bool seconds_finite_[kAnchorsPerBlock] = {};  // s(a, j) of the block
  bool mixes_finite_ = true;                    // the coefficients of the row
};

}  // namespace

template <class T>
void pair_sums(const PairSumsArgs<T>& given, const PairSumsOutput<T>& output, int threads) {
  const PackedNorms<T> packed(given);
  const PairSumsArgs<T>& args = packed.args();
  const PairSet set = describe(args.pairs);
  const Groups groups = group_anchors(args, set);
  with_family<T>(args.rho, [&]<RhoFamily Family>() {
    AnchorSums<Family> sums(args.rho, args.anchors);
    for_each_slab_of<PairScratch<T>>(args, groups.slabs(), threads, [&](PairScratch<T>& scratch, int64_t slab) {
      SumPass<Family> pass(set.sides, sums, scratch);
      PairWalk walk(args, set, scratch, pass);
      for (int64_t g = slab; g < groups.size(); g += groups.slabs()) walk.group(groups.begin(g), groups.count(g));
    });
    sums.write(output.sums, output.rest);
  });
}

template void pair_sums<float>(const PairSumsArgs<float>&, const PairSumsOutput<float>&, int);
template void pair_sums<double>(const PairSumsArgs<double>&, const PairSumsOutput<double>&, int);

}  // namespace metrix::cpu
