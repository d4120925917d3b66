// Eq. (9) over a list of mixed embeddings z. Forward is below, backward in anchor_sums_backward.cpp:
//
//   index       for a group of anchors of a class                                mixes_of_anchor.h
//                 for a tile of the mixes p that one of them uses, with labels   mixes_of_anchor.h, walk.h
//   load, mix       s(a, p) = <a, z_p> / |z_p|: z is mixed already               walk.h, loops/products.cpp (dots)
//                   for an anchor a of the group
//                     weights y and 1 - y of the two sums, from the label y      walk.h
//   exponent          rho(s)                                                     loops/rho_loops.h
//   accumulate        sum over the tile of weight rho(s), or of its gradients    loops/rho_loops.h
//   merge             into the partial sum of a (streaming logsumexp)            loops/rho_loops.h
//   write       the logarithms                                                   common/rho.h
//
// The gradient of z_p needs a second walk, by mixes.
#include "anchor_sums.h"

#include <algorithm>

#include "cpu/common/rho.h"
#include "walk.h"

namespace metrix::cpu {
namespace {

// Adds the terms of every row to the sums of its anchor.
template <class Family>
class SumPass {
 public:
  using T = typename Family::Number;

  SumPass(Pairs pairs, AnchorSums<Family>& sums, AnchorScratch<T>& scratch)
      : pairs_(pairs), sums_(sums), scratch_(scratch) {}

  void add(int64_t anchor, const T*, const Row<T>& row, bool finite) {
    if (!finite) return sums_.poison(anchor);
    for_each_side(pairs_, [&](Sides side) { sums_.add(side, row, anchor, scratch_.terms); });
  }

 private:
  const Pairs pairs_;
  AnchorSums<Family>& sums_;
  AnchorScratch<T>& scratch_;
};

}  // namespace

template <class T>
void anchor_sums(const AnchorSumsArgs<T>& args, const AnchorSumsOutput<T>& output, int threads) {
  with_family<T>(args.rho, [&]<RhoFamily Family>() {
    AnchorSums<Family> sums(args.rho, args.relations.anchors);
    walk_anchors(args, threads_for(args, threads),
                 [&](AnchorScratch<T>& scratch) { return SumPass<Family>(args.pairs, sums, scratch); });
    sums.write(output.sums, output.nonzero);
  });
  // Of exponentials nobody counts terms.
  if (args.rho.exponential) std::fill_n(output.nonzero, 2 * args.relations.anchors, T(0));
}

template void anchor_sums<float>(const AnchorSumsArgs<float>&, const AnchorSumsOutput<float>&, int);
template void anchor_sums<double>(const AnchorSumsArgs<double>&, const AnchorSumsOutput<double>&, int);

}  // namespace metrix::cpu
