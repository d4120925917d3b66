// The gradients of pair_sums: everything is computed again as in pair_sums.cpp, where the steps are listed, and what a
// term gives goes three ways. To s(a, j) and s(a, i), by row of an anchor; and to the moment ds * s of the pair (i, j),
// summed over the anchors of a block, from which the gradients of the norms follow (norm_gradients, loops/rows.cpp).
#include <algorithm>
#include <vector>

#include "cpu/common/rho.h"
#include "groups.h"
#include "pair_sums.h"
#include "walk.h"

namespace metrix::cpu {
namespace {

// What one walk writes; null pointers are left out.
template <class T>
struct Sink {
  T* similarity = nullptr;
  T* gram = nullptr;
  T* sqnorm = nullptr;  // of this slab alone, added up afterwards
  T* self_similarity = nullptr;
  T* self_sqnorm = nullptr;
};

// Adds the gradients of the terms of every row to where they belong.
template <class Family>
class GradientPass {
 public:
  using T = typename Family::Number;

  GradientPass(const PairSumsArgs<T>& args, const PairSet& set, const AnchorGradients<Family>& gradients,
               const Sink<T>& sink, PairScratch<T>& scratch)
      : args_(args), set_(set), gradients_(gradients), sink_(sink), scratch_(scratch) {}

  void add_clean(Sides sides, const Row<T>& row, int64_t anchor) {
    T* const gradient = zeros(scratch_.similarity_gradient, row.size);
    gradients_.add(sides, row, anchor, {gradient, nullptr});
    add_unpacked(scratch_.second, gradient, sink_.similarity + anchor * args_.examples);
  }

  void begin_tile(int64_t size) {
    if (args_.renormalize) sqnorm_gradient_ = zeros(scratch_.sqnorm_gradient, size);
  }
  void begin_block(const PairBlock<T>& block) {
    similarity_gradient_ = zeros(scratch_.similarity_gradient, block.anchor_count * block.size);
  }
  void begin_row(const PairBlock<T>&, const MixRow<T>& mixes) {
    moment_ = scratch_.moment.take(mixes.size);
    std::fill(moment_ + mixes.start, moment_ + mixes.size, T(0));
  }

  void add(const Row<T>& row, const PairBlock<T>& block, int64_t b, const MixRow<T>& mixes) {
    const int64_t anchor = block.anchors[b];
    const RowGradient<T> into{similarity_gradient_ + b * block.size + mixes.start, moment_ + mixes.start};
    const T gradient_i = gradients_.add(set_.sides, row, anchor, into);
    if (set_.with_anchor) {
      if (sink_.self_similarity != nullptr) sink_.self_similarity[anchor * args_.self_stride] += gradient_i;
    } else if (sink_.similarity != nullptr) {
      sink_.similarity[anchor * args_.examples + mixes.i] += gradient_i;
    }
  }

  void end_row(const MixRow<T>& mixes) {
    if (sink_.gram == nullptr) return;
    const int64_t start = mixes.start;
    T* const gram_gradient = scratch_.gram_gradient.take(mixes.size);
    std::fill(gram_gradient, gram_gradient + start, T(0));
    const T sqnorm_i = rows_.norm_gradients(mixes.size - start, moment_ + start, mixes.first + start,
                                            mixes.second + start, gram_gradient + start, sqnorm_gradient_ + start);
    add_unpacked(scratch_.second, gram_gradient, sink_.gram + mixes.i * args_.examples);
    (set_.with_anchor ? sink_.self_sqnorm[mixes.i * args_.self_stride] : sink_.sqnorm[mixes.i]) += sqnorm_i;
  }
  void end_block(const PairBlock<T>& block) {
    if (sink_.similarity == nullptr) return;
    for (int64_t b = 0; b < block.anchor_count; ++b)
      add_unpacked(scratch_.second, similarity_gradient_ + b * block.size,
                   sink_.similarity + block.anchors[b] * args_.examples);
  }
  void end_tile(int64_t) {
    if (sink_.sqnorm != nullptr) add_unpacked(scratch_.second, sqnorm_gradient_, sink_.sqnorm);
  }

 private:
  static T* zeros(Buffer<T>& buffer, int64_t size) {
    T* const begin = buffer.take(size);
    std::fill(begin, begin + size, T(0));
    return begin;
  }

  const PairSumsArgs<T>& args_;
  const PairSet& set_;
  const AnchorGradients<Family>& gradients_;
  const Sink<T> sink_;
  PairScratch<T>& scratch_;
  const RowKernels<T>& rows_ = row_kernels<T>();
  T* similarity_gradient_ = nullptr;  // [anchors of the block, packed columns]
  T* sqnorm_gradient_ = nullptr;      // [packed columns]
  T* moment_ = nullptr;               // [packed columns]
};

// One call of backward: who writes what, and where the partial gradients of the norms lie.
template <class T>
class Backward {
 public:
  Backward(const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient, int64_t sqnorm_stride, int threads)
      : args_(args),
        gradient_(gradient),
        set_(describe(args.pairs)),
        groups_(group_anchors(args, set_)),
        threads_(threads),
        sqnorm_stride_(sqnorm_stride),
        norms_(set_.mixed && args.renormalize),
        second_walk_(norms_ && !set_.with_anchor && (args.mask != nullptr || !set_.first_positive)),
        sqnorm_slabs_(!norms_        ? 0
                      : second_walk_ ? std::min(args.examples, kSlabs)
                                     : groups_.slabs()),
        sqnorm_(sqnorm_slabs_ * args.examples, T(0)) {}

  void run() {
    clear_outputs();
    with_family<T>(args_.rho, [&]<RhoFamily Family>() {
      const AnchorGradients<Family> gradients(args_.rho, args_.anchors, gradient_.sums, gradient_.rest,
                                              gradient_.grad_sums);
      walk_groups(gradients);
      if (second_walk_) walk_firsts(gradients);
    });
    for (int64_t slab = 0; slab < sqnorm_slabs_; ++slab)
      for (int64_t j = 0; j < args_.examples; ++j) gradient_.sqnorm[j * sqnorm_stride_] += sqnorm_of(slab)[j];
  }

 private:
  // What lies on a diagonal is cleared with its matrix.
  void clear_outputs() {
    const int64_t m = args_.anchors, n = args_.examples;
    if (!gradient_.adds) std::fill_n(gradient_.similarity, m * n, T(0));
    const bool own_apart = set_.with_anchor && !is_diagonal(args_.self_stride);
    if (own_apart) std::fill_n(gradient_.self_similarity, m, T(0));
    if (!norms_) return;
    std::fill_n(gradient_.gram + args_.first_row * n, args_.rows * n, T(0));
    if (!is_diagonal(sqnorm_stride_)) std::fill_n(gradient_.sqnorm, n, T(0));
    if (own_apart) std::fill_n(gradient_.self_sqnorm, m, T(0));
  }

  template <class Family>
  void walk_groups(const AnchorGradients<Family>& gradients) {
    for_each_slab_of<PairScratch<T>>(args_, groups_.slabs(), threads_, [&](PairScratch<T>& scratch, int64_t slab) {
      Sink<T> sink{.similarity = gradient_.similarity, .self_similarity = gradient_.self_similarity};
      if (norms_ && !second_walk_) {
        sink.gram = gradient_.gram;
        sink.sqnorm = sqnorm_of(slab);
        sink.self_sqnorm = gradient_.self_sqnorm;
      }
      GradientPass<Family> pass(args_, set_, gradients, sink, scratch);
      PairWalk walk(args_, set_, scratch, pass);
      for (int64_t g = slab; g < groups_.size(); g += groups_.slabs()) walk.group(groups_.begin(g), groups_.count(g));
    });
  }

  // Where groups share their firsts, the rows of the Gram gradient belong to no group: a second walk, first by first,
  // writes them.
  template <class Family>
  void walk_firsts(const AnchorGradients<Family>& gradients) {
    for_each_slab_of<PairScratch<T>>(args_, sqnorm_slabs_, threads_, [&](PairScratch<T>& scratch, int64_t slab) {
      GradientPass<Family> pass(args_, set_, gradients, {.gram = gradient_.gram, .sqnorm = sqnorm_of(slab)}, scratch);
      PairWalk walk(args_, set_, scratch, pass);
      for (int64_t i = slab; i < args_.examples; i += sqnorm_slabs_)
        for (int64_t g = 0; g < groups_.size(); ++g)
          if (is_first(groups_.begin(g)[0], i)) walk.group_of_first(i, groups_.begin(g), groups_.count(g));
    });
  }

  bool is_first(int64_t anchor, int64_t i) const {
    if (args_.mask != nullptr) return args_.mask[anchor * args_.examples + i] == (set_.first_positive ? 1 : -1);
    const bool in_class = args_.positives[2 * anchor] <= i && i < args_.positives[2 * anchor + 1];
    return in_class == set_.first_positive;
  }

  T* sqnorm_of(int64_t slab) { return sqnorm_.data() + slab * args_.examples; }

  const PairSumsArgs<T>& args_;
  const PairSumsGradient<T>& gradient_;
  const PairSet set_;
  const Groups groups_;
  const int threads_;
  const int64_t sqnorm_stride_;
  const bool norms_, second_walk_;
  const int64_t sqnorm_slabs_;
  std::vector<T> sqnorm_;  // [slabs, n] gradients, added up in order at the end
};

}  // namespace

template <class T>
void pair_sums_backward(const PairSumsArgs<T>& given, const PairSumsGradient<T>& gradient, int threads) {
  const PackedNorms<T> packed(given);
  Backward<T>(packed.args(), gradient, given.sqnorm_stride, threads).run();
}

template void pair_sums_backward<float>(const PairSumsArgs<float>&, const PairSumsGradient<float>&, int);
template void pair_sums_backward<double>(const PairSumsArgs<double>&, const PairSumsGradient<double>&, int);

}  // namespace metrix::cpu
