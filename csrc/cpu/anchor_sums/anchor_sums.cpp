// Two walks. By anchors, those of a class together, since they share their mixes: the sums, and the gradient of the
// anchors. By mixes: the gradient of the mixed embeddings. Both take the similarities anew.
#include "anchor_sums.h"

#include <cmath>
#include <limits>
#include <vector>

#include "math.h"
#include "cpu/loops/dots.h"
#include "cpu/common/pages.h"
#include "cpu/common/parallel.h"
#include "cpu/loops/rows.h"

namespace metrix::cpu {
namespace {

constexpr int64_t kAnchorsTogether = 16;
constexpr int64_t kMixesPerTile = 64;  // a multiple of kRowPad
constexpr int64_t kWorthAThread = 65536;
constexpr double kSmallestNorm = 1e-12;

struct Group {
  int64_t begin, end;  // of an order of the anchors
};

// The mixes of a tile that an anchor of a group uses, and the labels that they have for each.
template <class T>
struct Tile {
  int64_t size = 0;
  int64_t mixes[kMixesPerTile];
  T labels[kAnchorsTogether][kMixesPerTile];
};

template <class T>
struct Scratch {
  Tile<T> tile;
  T similarity[kAnchorsTogether][kMixesPerTile];
  T positive_weight[kMixesPerTile], negative_weight[kMixesPerTile], terms[kMixesPerTile], slopes[kMixesPerTile];
  std::vector<int64_t> anchors;
  std::vector<const T*> rows;
  std::vector<T> labels, values;
};

template <class T>
class Kernel {
 public:
  Kernel(const AnchorSumsArgs<T>& args, const AnchorSumsGradient<T>* gradient)
      : args_(args),
        list_(args.mixes),
        who_(args.relations),
        z_(static_cast<const T*>(args.mixed)),
        gradient_(gradient),
        takes_{args.pairs != Pairs::kNegNeg, args.pairs != Pairs::kPosPos && args.pairs != Pairs::kAncPos} {
    const RhoSide* const rho[2] = {&args.rho.positive, &args.rho.negative};
    const T empty_shift = args.rho.exponential ? -std::numeric_limits<T>::infinity() : T(0);
    cells_.assign(2 * who_.anchors, Cell<T>{empty_shift, T(0)});
    for (int64_t k = 0; k < 2 * who_.anchors; ++k) {
      const RhoSide& side = *rho[k % 2];
      const T grad = gradient == nullptr ? T(0) : gradient->grad_sums[k];
      const T sum = gradient == nullptr ? T(0) : gradient->sums[k];
      // The logarithm of an empty sum has no gradient, whatever comes from above.
      const bool empty = args.rho.exponential && sum == -std::numeric_limits<T>::infinity();
      exp_.push_back({T(side.scale * kLog2E), empty ? T(0) : T((double(sum) - side.shift) * kLog2E),
                      empty ? T(0) : T(grad * side.scale)});
      linear_.push_back({T(side.scale), T(side.shift), T(side.floor), grad});
    }
    group_anchors();
  }

  const std::vector<Group>& groups() const { return groups_; }

  // Adds the terms of a group's anchors to their cells, or their gradients to those of the anchors.
  void walk(const Group& group, Scratch<T>& scratch) {
    Tile<T>& tile = scratch.tile;
    const int64_t count = group.end - group.begin;
    tile.size = 0;
    for_each_candidate(order_[group.begin], [&](int64_t p) {
      bool used = false;
      for (int64_t k = 0; k < count; ++k) {
        tile.labels[k][tile.size] = label(order_[group.begin + k], p);
        used |= tile.labels[k][tile.size] != T(-1);
      }
      if (!used) return;
      tile.mixes[tile.size] = p;
      if (++tile.size == kMixesPerTile) {
        take(group, scratch);
        tile.size = 0;
      }
    });
    if (tile.size > 0) take(group, scratch);
  }

  // Writes the gradient of a mixed embedding.
  void gradient_of_mix(int64_t p, Scratch<T>& scratch) const {
    T* const out = static_cast<T*>(gradient_->mixed) + p * args_.size;
    std::fill(out, out + args_.size, T(0));
    scratch.anchors.clear();
    scratch.rows.clear();
    scratch.labels.clear();
    const auto consider = [&](int64_t anchor) {
      const T y = label(anchor, p);
      if (y == T(-1)) return;
      scratch.anchors.push_back(anchor);
      scratch.rows.push_back(args_.anchors + anchor * args_.size);
      scratch.labels.push_back(y);
    };
    if (args_.anchor_order == nullptr) {
      for (int64_t a = 0; a < who_.anchors; ++a) consider(a);
    } else {
      const int64_t* const of_first = args_.anchors_of + 2 * list_.first[p];
      const int64_t* const of_second = args_.anchors_of + 2 * list_.second[p];
      for (int64_t k = of_first[0]; k < of_first[1]; ++k) consider(args_.anchor_order[k]);
      // One range or two apart, but that of a class without anchors may be empty where another begins.
      if (of_second[1] != of_first[1])
        for (int64_t k = of_second[0]; k < of_second[1]; ++k) consider(args_.anchor_order[k]);
    }
    const int64_t count = int64_t(scratch.rows.size());
    if (count == 0) return;
    scratch.values.resize(count + 1);
    const T* const z = z_ + p * args_.size;
    const T inverse = inverse_norm(p);
    dots_.dots(args_.size, &z, 1, scratch.rows.data(), count, scratch.values.data(), count);
    T along = T(0);  // v . dv
    for (int64_t k = 0; k < count; ++k) {
      const T s = scratch.values[k] * inverse;
      const T ds = slope(scratch.anchors[k], s, scratch.labels[k]);
      along += ds * s;
      scratch.values[k] = ds * inverse;
    }
    // Below the floor the norm is a constant.
    const bool normalized = args_.inverse_norms != nullptr && inverse < T(1) / T(kSmallestNorm);
    scratch.rows.push_back(z);
    scratch.values[count] = -along * inverse * inverse;
    dots_.add_weighted(args_.size, scratch.rows.data(), scratch.values.data(), count + (normalized ? 1 : 0), out);
  }

  void write(const AnchorSumsOutput<T>& output) const {
    for (int64_t k = 0; k < 2 * who_.anchors; ++k) {
      const RhoSide& rho = k % 2 == 0 ? args_.rho.positive : args_.rho.negative;
      const Cell<T>& cell = cells_[k];
      // log2 of a sum that is 0 is minus infinity: the empty set.
      output.sums[k] =
          args_.rho.exponential ? T((std::log2(double(cell.sum)) + double(cell.shift)) * kLn2 + rho.shift) : cell.sum;
      output.nonzero[k] = args_.rho.exponential ? T(0) : cell.shift;
    }
  }

 private:
  // Anchors of equal positives share their mixes, and with neg-neg all do, unless a mask or the anchor itself tells
  // them apart.
  void group_anchors() {
    const bool any = args_.anchor_order == nullptr;
    for (int64_t k = 0; k < who_.anchors; ++k) order_.push_back(any ? k : args_.anchor_order[k]);
    const bool alone = who_.mask != nullptr || args_.pairs == Pairs::kAncNeg || args_.pairs == Pairs::kAncPos;
    const auto alike = [&](int64_t a, int64_t b) {
      return !alone && (any || (who_.positives[2 * a] == who_.positives[2 * b] &&
                                who_.positives[2 * a + 1] == who_.positives[2 * b + 1]));
    };
    for (int64_t k = 0; k < who_.anchors; ++k) {
      const bool joins = k > 0 && groups_.back().end - groups_.back().begin < kAnchorsTogether &&
                         alike(order_[groups_.back().begin], order_[k]);
      if (!joins) groups_.push_back({k, k});
      groups_.back().end = k + 1;
    }
  }

  // body(mix) once for every mix that an anchor like this one may use.
  template <class Body>
  void for_each_candidate(int64_t anchor, const Body& body) const {
    if (args_.pairs == Pairs::kNegNeg) {
      for (int64_t p = 0; p < list_.count; ++p) body(p);
      return;
    }
    // pos-pos has two positives: its mixes are found by their first alone.
    const bool as_second = args_.both_orders && args_.pairs != Pairs::kPosPos;
    const auto uses_of = [&](int64_t example) {
      for (int64_t u = list_.begin[example]; u < list_.begin[example + 1]; ++u) {
        const int64_t use = list_.uses[u];
        if (use < list_.count)
          body(use);
        else if (as_second)
          body(use - list_.count);
      }
    };
    if (args_.pairs == Pairs::kAncNeg || args_.pairs == Pairs::kAncPos) {
      if (who_.self[anchor] >= 0) uses_of(who_.self[anchor]);
    } else if (who_.mask == nullptr) {
      for (int64_t e = who_.positives[2 * anchor]; e < who_.positives[2 * anchor + 1]; ++e) uses_of(e);
    } else {
      for (int64_t e = 0; e < who_.examples; ++e)
        if (relation(who_, anchor, e) == 1) uses_of(e);
    }
  }

  T label(int64_t anchor, int64_t p) const {
    return mixed_label(who_, args_.pairs, args_.both_orders, anchor, list_.first[p], list_.second[p], list_.lambda[p]);
  }

  T inverse_norm(int64_t p) const { return args_.inverse_norms == nullptr ? T(1) : args_.inverse_norms[p]; }

  // d(loss)/ds of one anchor and mix.
  T slope(int64_t anchor, T s, T y) const {
    T ds = T(0);
    for (int side = 0; side < 2; ++side) {
      const T weight = side == 0 ? y : T(1) - y;
      if (weight == T(0)) continue;
      const ExpSide<T>& exp = exp_[2 * anchor + side];
      const LinearSide<T>& linear = linear_[2 * anchor + side];
      ds += args_.rho.exponential
                ? exp.factor * (weight * exp2(exp.scale * s - exp.log_sum))
                : linear.factor * (weight * linear_rho_slope(s, linear.scale, linear.shift, linear.floor));
    }
    return ds;
  }

  void take(const Group& group, Scratch<T>& scratch) {
    const Tile<T>& tile = scratch.tile;
    const int64_t count = group.end - group.begin;
    const T* anchors[kAnchorsTogether] = {};
    const T* mixes[kMixesPerTile] = {};
    for (int64_t k = 0; k < count; ++k) anchors[k] = args_.anchors + order_[group.begin + k] * args_.size;
    for (int64_t t = 0; t < tile.size; ++t) mixes[t] = z_ + tile.mixes[t] * args_.size;
    dots_.dots(args_.size, anchors, count, mixes, tile.size, scratch.similarity[0], kMixesPerTile);
    for (int64_t k = 0; k < count; ++k)
      take_anchor(order_[group.begin + k], tile.labels[k], scratch.similarity[k], scratch);
  }

  void take_anchor(int64_t anchor, const T* labels, T* similarity, Scratch<T>& scratch) {
    const Tile<T>& tile = scratch.tile;
    bool finite = true;
    for (int64_t t = 0; t < kMixesPerTile; ++t) {
      const bool used = t < tile.size && labels[t] != T(-1);
      similarity[t] = used ? similarity[t] * inverse_norm(tile.mixes[t]) : T(0);
      scratch.positive_weight[t] = used ? labels[t] : T(0);
      scratch.negative_weight[t] = used ? T(1) - labels[t] : T(0);
      finite &= similarity[t] - similarity[t] == T(0) && scratch.positive_weight[t] == scratch.positive_weight[t];
    }
    const Row<T> row{(tile.size + kRowPad - 1) / kRowPad * kRowPad,
                     T(0),
                     similarity,
                     nullptr,
                     nullptr,
                     scratch.positive_weight,
                     scratch.negative_weight};
    if (gradient_ != nullptr) {
      add_anchor_gradient(anchor, labels, row, scratch);
    } else if (finite) {
      for (const Sides side : {Sides::kPositive, Sides::kNegative}) {
        if (!takes_[side == Sides::kNegative]) continue;
        if (args_.rho.exponential)
          rows_.exp_sums(side, row, &exp_[2 * anchor], &cells_[2 * anchor], scratch.terms);
        else
          rows_.linear_sums(side, row, &linear_[2 * anchor], &cells_[2 * anchor]);
      }
    } else {
      cells_[2 * anchor] = cells_[2 * anchor + 1] = {T(0), std::numeric_limits<T>::quiet_NaN()};
    }
  }

  void add_anchor_gradient(int64_t anchor, const T* labels, const Row<T>& row, Scratch<T>& scratch) const {
    const Tile<T>& tile = scratch.tile;
    std::fill(scratch.slopes, scratch.slopes + row.size, T(0));
    const RowGradient<T> into{scratch.slopes, nullptr};
    for (const Sides side : {Sides::kPositive, Sides::kNegative}) {
      if (!takes_[side == Sides::kNegative]) continue;
      if (args_.rho.exponential)
        rows_.exp_gradient(side, row, &exp_[2 * anchor], into);
      else
        rows_.linear_gradient(side, row, &linear_[2 * anchor], into);
    }
    const T* rows[kMixesPerTile];
    T weights[kMixesPerTile];
    int64_t used = 0;
    for (int64_t t = 0; t < tile.size; ++t) {
      if (labels[t] == T(-1)) continue;
      rows[used] = z_ + tile.mixes[t] * args_.size;
      weights[used++] = scratch.slopes[t] * inverse_norm(tile.mixes[t]);
    }
    dots_.add_weighted(args_.size, rows, weights, used, gradient_->anchors + anchor * args_.size);
  }

  const AnchorSumsArgs<T>& args_;
  const Mixes<T>& list_;
  const AnchorRelations& who_;
  const T* const z_;
  const AnchorSumsGradient<T>* const gradient_;
  const bool takes_[2];  // whether labels above 0 and below 1 occur
  const RowKernels<T>& rows_ = row_kernels<T>();
  const DotKernels<T>& dots_ = dot_kernels<T>();
  std::vector<Cell<T>> cells_;         // [m, 2]
  std::vector<ExpSide<T>> exp_;        // [m, 2]
  std::vector<LinearSide<T>> linear_;  // [m, 2]
  std::vector<int64_t> order_;
  std::vector<Group> groups_;
};

template <class T>
void walk_anchors(Kernel<T>& kernel, int threads) {
  const int64_t groups = int64_t(kernel.groups().size());
  for_each_slab<Scratch<T>>(groups, threads,
                            [&](Scratch<T>& scratch, int64_t g) { kernel.walk(kernel.groups()[g], scratch); });
}

template <class T>
int threads_for(const AnchorSumsArgs<T>& args, int threads) {
  return args.mixes.count * args.size < kWorthAThread ? 1 : threads;
}

}  // namespace

template <class T>
void anchor_sums(const AnchorSumsArgs<T>& args, const AnchorSumsOutput<T>& output, int threads) {
  Kernel<T> kernel(args, nullptr);
  walk_anchors(kernel, threads_for(args, threads));
  kernel.write(output);
}

template <class T>
void anchor_sums_backward(const AnchorSumsArgs<T>& args, const AnchorSumsGradient<T>& gradient, int threads) {
  expect_writes(gradient.mixed, args.mixes.count * args.size * int64_t(sizeof(T)));
  Kernel<T> kernel(args, &gradient);
  threads = threads_for(args, threads);
  walk_anchors(kernel, threads);
  const int64_t count = args.mixes.count, slabs = std::min(count, kSlabs);
  for_each_slab<Scratch<T>>(slabs, threads, [&](Scratch<T>& scratch, int64_t slab) {
    for (int64_t p = count * slab / slabs; p < count * (slab + 1) / slabs; ++p) kernel.gradient_of_mix(p, scratch);
  });
}

template void anchor_sums<float>(const AnchorSumsArgs<float>&, const AnchorSumsOutput<float>&, int);
template void anchor_sums<double>(const AnchorSumsArgs<double>&, const AnchorSumsOutput<double>&, int);
template void anchor_sums_backward<float>(const AnchorSumsArgs<float>&, const AnchorSumsGradient<float>&, int);
template void anchor_sums_backward<double>(const AnchorSumsArgs<double>&, const AnchorSumsGradient<double>&, int);

}  // namespace metrix::cpu
