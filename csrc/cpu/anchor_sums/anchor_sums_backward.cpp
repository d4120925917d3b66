// The gradients of anchor_sums in two walks: by anchors, as forward, that of the anchors; by mixes that of the mixed
// embeddings.
#include <algorithm>
#include <vector>

#include "anchor_sums.h"
#include "cpu/common/pages.h"
#include "cpu/common/rho.h"
#include "unit_rows.h"
#include "walk.h"

namespace metrix::cpu {
namespace {

// Adds d(loss)/da = sum over p of ds z_p / |z_p| of every row to the gradient of its anchor.
template <class Family>
class GradientPass {
 public:
  using T = typename Family::Number;

  GradientPass(const AnchorSumsArgs<T>& args, const AnchorGradients<Family>& gradients, T* grad_anchors,
               AnchorScratch<T>& scratch)
      : args_(args), mixes_(args), gradients_(gradients), grad_anchors_(grad_anchors), scratch_(scratch) {}

  void add(int64_t anchor, const T* labels, const Row<T>& row, bool) {
    T* const ds = scratch_.similarity_gradient;
    std::fill(ds, ds + row.size, T(0));
    for_each_side(args_.pairs, [&](Sides side) { gradients_.add(side, row, anchor, {ds, nullptr}); });
    const MixTile<T>& tile = scratch_.tile;
    const T* rows[kMixesPerTile];
    T weights[kMixesPerTile];
    int64_t used = 0;
    for (int64_t t = 0; t < tile.size; ++t) {
      if (labels[t] == T(-1)) continue;
      rows[used] = static_cast<const T*>(args_.mixed) + tile.mixes[t] * args_.size;
      weights[used++] = ds[t] * mixes_.inverse_norm(tile.mixes[t]);
    }
    product_kernels<T>().add_weighted(args_.size, rows, weights, used, grad_anchors_ + anchor * args_.size);
  }

 private:
  const AnchorSumsArgs<T>& args_;
  const MixesOfAnchor<T> mixes_;
  const AnchorGradients<Family>& gradients_;
  T* const grad_anchors_;  // [m, d]
  AnchorScratch<T>& scratch_;
};

// Memory of one thread of the walk by mixes: of the anchors that use a mix.
template <class T>
struct Users {
  std::vector<int64_t> anchors;
  std::vector<const T*> rows;
  std::vector<T> labels, values;
};

template <class Family>
class MixGradient {
 public:
  using T = typename Family::Number;

  MixGradient(const AnchorSumsArgs<T>& args, const AnchorGradients<Family>& gradients, T* grad_mixed)
      : args_(args), mixes_(args), gradients_(gradients), grad_mixed_(grad_mixed) {}

  // Writes the gradient of mixed embedding p.
  void write(int64_t p, Users<T>& users) const {
    T* const out = grad_mixed_ + p * args_.size;
    std::fill(out, out + args_.size, T(0));
    find_users(p, users);
    const int64_t count = int64_t(users.rows.size());
    if (count == 0) return;
    users.values.resize(count + 1);
    const T* const z = static_cast<const T*>(args_.mixed) + p * args_.size;
    const T inverse = mixes_.inverse_norm(p);
    products_.dots(args_.size, &z, 1, users.rows.data(), count, users.values.data(), count);
    T along = T(0);  // v . dv of v = z / |z|
    for (int64_t k = 0; k < count; ++k) {
      const T s = users.values[k] * inverse;
      const T ds = similarity_gradient_of(users.anchors[k], s, users.labels[k]);
      along += ds * s;
      users.values[k] = ds * inverse;
    }
    // Below the floor the norm is a constant.
    const bool normalized = args_.inverse_norms != nullptr && inverse < T(1) / T(kSmallestNorm);
    users.rows.push_back(z);
    users.values[count] = -along * inverse * inverse;
    products_.add_weighted(args_.size, users.rows.data(), users.values.data(), count + (normalized ? 1 : 0), out);
  }

 private:
  void find_users(int64_t p, Users<T>& users) const {
    users.anchors.clear();
    users.rows.clear();
    users.labels.clear();
    mixes_.for_each_anchor(p, [&](int64_t anchor) {
      const T y = mixes_.label(anchor, p);
      if (y == T(-1)) return;
      users.anchors.push_back(anchor);
      users.rows.push_back(args_.anchors + anchor * args_.size);
      users.labels.push_back(y);
    });
  }

  T similarity_gradient_of(int64_t anchor, T s, T y) const {
    T ds = T(0);
    for (int side = 0; side < 2; ++side) {
      const T weight = side == 0 ? y : T(1) - y;
      if (weight != T(0)) ds += gradients_.of_term(anchor, side, y, s);
    }
    return ds;
  }

  const AnchorSumsArgs<T>& args_;
  const MixesOfAnchor<T> mixes_;
  const AnchorGradients<Family>& gradients_;
  T* const grad_mixed_;  // [p, d]
  const ProductKernels<T>& products_ = product_kernels<T>();
};

}  // namespace

template <class T>
void anchor_sums_backward(const AnchorSumsArgs<T>& args, const AnchorSumsGradient<T>& gradient, int threads) {
  const int64_t count = args.mixes.count;
  expect_writes(gradient.mixed, count * args.size * int64_t(sizeof(T)));
  threads = threads_for(args, threads);
  with_family<T>(args.rho, [&]<RhoFamily Family>() {
    // The sums are over all lists of the anchors: what rounding took from them is not known.
    const AnchorGradients<Family> gradients(args.rho, args.relations.anchors, gradient.sums, nullptr,
                                            gradient.grad_sums);
    walk_anchors(args, threads, [&](AnchorScratch<T>& scratch) {
      return GradientPass<Family>(args, gradients, gradient.anchors, scratch);
    });
    const MixGradient<Family> of_mixes(args, gradients, static_cast<T*>(gradient.mixed));
    for_each_item<Users<T>>(count, threads, [&](Users<T>& users, int64_t p) { of_mixes.write(p, users); });
  });
}

template void anchor_sums_backward<float>(const AnchorSumsArgs<float>&, const AnchorSumsGradient<float>&, int);
template void anchor_sums_backward<double>(const AnchorSumsArgs<double>&, const AnchorSumsGradient<double>&, int);

}  // namespace metrix::cpu
