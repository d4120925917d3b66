// Eq. (7) and (9) over a Gram matrix, anchors grouped so that what a mix (i, j) costs once is paid once per group:
// the anchors of one class share their positives and negatives, hence lambda, the norms and the weights.
//
// A group walks its pairs row by row: i outside, the group's anchors inside, j in the vectorised row kernels. The
// j of a group are packed side by side, so rows are contiguous, aligned and padded whatever the set of pairs is, and
// taken a tile at a time, so that a tile's rows of all anchors stay in the first-level cache.
#include "pair_sums.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "math.h"
#include "cpu/common/buffer.h"
#include "cpu/common/parallel.h"
#include "cpu/loops/rows.h"

namespace metrix::cpu {
namespace {

constexpr int64_t kColumnsPerTile = 512;
constexpr int64_t kAnchorsPerBlock = 64;
constexpr int64_t kTermsWorthAThread = 8192;

int64_t padded(int64_t size) { return (size + kRowPad - 1) / kRowPad * kRowPad; }

struct Range {
  int64_t begin, end;
};

struct PairSet {
  bool mixed, with_anchor;               // with_anchor: the first of a pair is the anchor itself
  bool first_positive, second_positive;  // which set the first and the second come from
  bool unordered;
  Sides sides;
};

PairSet describe(Pairs pairs) {
  switch (pairs) {
    case Pairs::kPosNeg:
      return {true, false, true, false, false, Sides::kBoth};
    case Pairs::kAncNeg:
      return {true, true, true, false, false, Sides::kBoth};
    case Pairs::kPosPos:
      return {true, false, true, true, true, Sides::kPositive};
    case Pairs::kNegNeg:
      return {true, false, false, false, true, Sides::kNegative};
    case Pairs::kAncPos:
      return {true, true, true, true, false, Sides::kPositive};
    default:
      return {false, false, false, false, false, Sides::kPositive};
  }
}

// Positives or negatives of an anchor as ranges of columns. The anchor's own column stays in its positives; the
// callers give it weight 0.
template <class T>
void find_candidates(const PairSumsArgs<T>& args, int64_t anchor, bool positive, std::vector<Range>& ranges) {
  ranges.clear();
  const auto add = [&](int64_t begin, int64_t end) {
    if (begin < end) ranges.push_back({begin, end});
  };
  if (args.mask != nullptr) {
    const int8_t* mask = args.mask + anchor * args.examples;
    const int8_t wanted = positive ? 1 : -1;
    for (int64_t j = 0; j < args.examples;) {
      const int64_t begin = j;
      while (j < args.examples && mask[j] == wanted) ++j;
      add(begin, j);
      if (begin == j) ++j;
    }
    return;
  }
  const int64_t begin = args.positives[2 * anchor], end = args.positives[2 * anchor + 1];
  if (positive) {
    add(begin, end);
  } else {
    add(0, begin);
    add(end, args.examples);
  }
}

int64_t count(const std::vector<Range>& ranges) {
  int64_t total = 0;
  for (const Range& range : ranges) total += range.end - range.begin;
  return total;
}

template <class T>
void pack(const std::vector<Range>& ranges, const T* row, T* packed) {
  for (const Range& range : ranges) packed = std::copy(row + range.begin, row + range.end, packed);
}

template <class T>
void add_unpacked(const std::vector<Range>& ranges, const T* packed, T* row) {
  for (const Range& range : ranges)
    for (int64_t j = range.begin; j < range.end; ++j) row[j] += *packed++;
}

// Position among the packed columns of the first one that is not below column.
int64_t packed_position(const std::vector<Range>& ranges, int64_t column) {
  int64_t position = 0;
  for (const Range& range : ranges) {
    if (column < range.end) return position + std::max<int64_t>(0, column - range.begin);
    position += range.end - range.begin;
  }
  return position;
}

bool contains(const std::vector<Range>& ranges, int64_t column) {
  for (const Range& range : ranges)
    if (range.begin <= column && column < range.end) return true;
  return false;
}

// The anchors in groups of equal positives and negatives.
struct Groups {
  std::vector<int64_t> anchors;
  std::vector<int64_t> offsets;  // group g is anchors[offsets[g] .. offsets[g + 1])

  int64_t size() const { return int64_t(offsets.size()) - 1; }
};

template <class T>
Groups group_anchors(const PairSumsArgs<T>& args, bool shared) {
  Groups groups;
  groups.anchors.resize(args.anchors);
  std::iota(groups.anchors.begin(), groups.anchors.end(), 0);
  const auto key = [&](int64_t a) { return std::make_pair(args.positives[2 * a], args.positives[2 * a + 1]); };
  shared = shared && args.mask == nullptr;
  if (shared)
    std::stable_sort(groups.anchors.begin(), groups.anchors.end(),
                     [&](int64_t a, int64_t b) { return key(a) < key(b); });
  groups.offsets.push_back(0);
  for (int64_t k = 1; k <= args.anchors; ++k)
    if (k == args.anchors || !shared || key(groups.anchors[k - 1]) != key(groups.anchors[k]))
      groups.offsets.push_back(k);
  return groups;
}

template <class T>
struct Scratch {
  std::vector<Range> first, candidates;       // all columns of the first and of the second of a pair
  std::vector<Range> second;                  // a tile of the candidates
  Buffer<T> similarity, similarity_gradient;  // [anchors of a block, packed columns]
  Buffer<T> lambda, gram, sqnorm, first_coefficient, second_coefficient, positive_weight, negative_weight, terms;
  Buffer<T> moment, gram_gradient, sqnorm_gradient;
};

// What backward writes in one pass over a group; null pointers are left out.
template <class T>
struct Sink {
  T* similarity = nullptr;
  T* gram = nullptr;
  T* sqnorm = nullptr;  // of this slab alone, added up afterwards
  T* self_similarity = nullptr;
  T* self_sqnorm = nullptr;
};

template <class T>
class Kernel {
 public:
  Kernel(const PairSumsArgs<T>& args, const PairSumsGradient<T>* gradient, Cell<T>* cells)
      : args_(args), set_(describe(args.pairs)), rows_(row_kernels<T>()), gradient_(gradient), cells_(cells) {
    exp_[0].scale = T(args.rho.positive.scale * kLog2E);
    exp_[1].scale = T(args.rho.negative.scale * kLog2E);
    const RhoSide* sides[2] = {&args.rho.positive, &args.rho.negative};
    for (int side = 0; side < 2; ++side)
      linear_[side] = {T(sides[side]->scale), T(sides[side]->shift), T(sides[side]->floor), T(0)};
  }

  // Both sums of Eq. (7) for one anchor, or their gradients.
  void clean(int64_t anchor, Scratch<T>& scratch, const Sink<T>& sink) const {
    for (const bool positive : {true, false}) {
      find_candidates(args_, anchor, positive, scratch.second);
      const int64_t columns = count(scratch.second);
      if (columns == 0) continue;
      const int64_t size = padded(columns);
      T* weight = scratch.positive_weight.take(size);
      std::fill(weight, weight + columns, T(1));
      std::fill(weight + columns, weight + size, T(0));
      const int64_t self = args_.self[anchor];
      if (positive && contains(scratch.second, self)) weight[packed_position(scratch.second, self)] = T(0);
      T* similarity = scratch.similarity.take(size);
      pack_padded(scratch.second, args_.similarity + anchor * args_.examples, size, similarity);
      const Row<T> row{size, T(0), similarity, nullptr, nullptr, weight, weight};
      const Sides sides = positive ? Sides::kPositive : Sides::kNegative;
      if (gradient_ == nullptr) {
        add_row(sides, row, anchor, scratch);
        // A candidate that the weight leaves out may be NaN or infinite without harm; the others may not.
        if (!finite_where_weighted(row)) poison(anchor);
      } else {
        T* packed_gradient = scratch.similarity_gradient.take(size);
        std::fill(packed_gradient, packed_gradient + size, T(0));
        gradient_row(sides, row, anchor, {packed_gradient, nullptr});
        add_unpacked(scratch.second, packed_gradient, sink.similarity + anchor * args_.examples);
      }
    }
  }

  // Eq. (9) for a group of anchors, or its gradients; only_first >= 0 keeps the pairs whose first is that example.
  void mixed(const int64_t* anchors, int64_t anchor_count, int64_t only_first, Scratch<T>& scratch,
             const Sink<T>& sink) const {
    if (only_first >= 0)
      scratch.first.assign(1, {only_first, only_first + 1});
    else if (set_.with_anchor)
      scratch.first.assign(1, {anchors[0], anchors[0] + 1});
    else
      find_candidates(args_, anchors[0], set_.first_positive, scratch.first);
    find_candidates(args_, anchors[0], set_.second_positive, scratch.candidates);
    size_t range = 0;
    int64_t begin = 0;  // within the range
    while (next_tile(scratch.candidates, range, begin, scratch.second))
      mixed_tile(anchors, anchor_count, scratch, sink);
  }

 private:
  // The next kColumnsPerTile columns of the ranges, from position begin of one of them on; false at the end.
  static bool next_tile(const std::vector<Range>& ranges, size_t& range, int64_t& begin, std::vector<Range>& tile) {
    tile.clear();
    for (int64_t room = kColumnsPerTile; room > 0 && range < ranges.size();) {
      const int64_t from = ranges[range].begin + begin;
      const int64_t taken = std::min(room, ranges[range].end - from);
      tile.push_back({from, from + taken});
      room -= taken;
      begin += taken;
      if (from + taken == ranges[range].end) {
        ++range;
        begin = 0;
      }
    }
    return !tile.empty();
  }

  void mixed_tile(const int64_t* anchors, int64_t anchor_count, Scratch<T>& scratch, const Sink<T>& sink) const {
    const int64_t columns = count(scratch.second), size = padded(columns);
    if (args_.renormalize) {
      pack_padded(scratch.second, args_.sqnorm, size, scratch.sqnorm.take(size));
      T* sqnorm_gradient = scratch.sqnorm_gradient.take(size);
      std::fill(sqnorm_gradient, sqnorm_gradient + size, T(0));
    }
    for (int64_t begin = 0; begin < anchor_count; begin += kAnchorsPerBlock)
      mixed_block(anchors + begin, std::min(kAnchorsPerBlock, anchor_count - begin), columns, scratch, sink);
    if (sink.sqnorm != nullptr) add_unpacked(scratch.second, scratch.sqnorm_gradient.take(size), sink.sqnorm);
  }

  void mixed_block(const int64_t* anchors, int64_t anchor_count, int64_t columns, Scratch<T>& scratch,
                   const Sink<T>& sink) const {
    const int64_t n = args_.examples, size = padded(columns);
    T* similarity = scratch.similarity.take(anchor_count * size);
    for (int64_t b = 0; b < anchor_count; ++b) {
      pack_padded(scratch.second, args_.similarity + anchors[b] * n, size, similarity + b * size);
      if (gradient_ == nullptr && !rows_.all_finite(size, similarity + b * size)) poison(anchors[b]);
    }
    T* packed_gradient = nullptr;
    if (gradient_ != nullptr) {
      packed_gradient = scratch.similarity_gradient.take(anchor_count * size);
      std::fill(packed_gradient, packed_gradient + anchor_count * size, T(0));
    }
    for (const Range& range : scratch.first)
      for (int64_t i = range.begin; i < range.end; ++i)
        mixed_row(i, anchors, anchor_count, columns, similarity, packed_gradient, scratch, sink);
    if (sink.similarity != nullptr)
      for (int64_t b = 0; b < anchor_count; ++b)
        add_unpacked(scratch.second, packed_gradient + b * size, sink.similarity + anchors[b] * n);
  }

  // All pairs (i, j) of a block of anchors, for one i: an example, or for the anc-* sets the anchor.
  void mixed_row(int64_t i, const int64_t* anchors, int64_t anchor_count, int64_t columns, const T* similarity,
                 T* packed_gradient, Scratch<T>& scratch, const Sink<T>& sink) const {
    const int64_t n = args_.examples, size = padded(columns);
    const int64_t from = set_.unordered ? packed_position(scratch.second, i + 1) : 0;
    if (from >= columns) return;
    const int64_t start = from / kRowPad * kRowPad;

    T* lambda = scratch.lambda.take(size);
    if (args_.lambda_is_scalar) {
      std::fill(lambda, lambda + columns, *args_.lambda);
      std::fill(lambda + columns, lambda + size, T(0));
    } else {
      pack_padded(scratch.second, args_.lambda + i * n, size, lambda);
    }
    T* first = scratch.first_coefficient.take(size);
    T* second = scratch.second_coefficient.take(size);
    if (args_.renormalize) {
      T* gram = scratch.gram.take(size);
      pack_padded(scratch.second, args_.gram + i * n, size, gram);
      const T sqnorm_i = set_.with_anchor ? args_.self_sqnorm[i * args_.self_stride] : args_.sqnorm[i];
      rows_.mix_coefficients(size, lambda, sqnorm_i, scratch.sqnorm.take(size), gram, first, second);
    } else {
      std::copy(lambda, lambda + size, first);
      for (int64_t j = 0; j < size; ++j) second[j] = T(1) - lambda[j];
    }
    T* positive_weight = scratch.positive_weight.take(size);
    T* negative_weight = scratch.negative_weight.take(size);
    for (int64_t j = 0; j < size; ++j) {
      const bool used = from <= j && j < columns;
      positive_weight[j] = !used ? T(0) : set_.sides == Sides::kBoth ? lambda[j] : T(1);
      negative_weight[j] = !used ? T(0) : set_.sides == Sides::kBoth ? T(1) - lambda[j] : T(1);
    }
    const bool finite = gradient_ != nullptr || (rows_.all_finite(columns - from, first + from) &&
                                                 rows_.all_finite(columns - from, second + from));
    T* moment = nullptr;
    if (gradient_ != nullptr) {
      moment = scratch.moment.take(size);
      std::fill(moment + start, moment + size, T(0));
    }
    for (int64_t b = 0; b < anchor_count; ++b) {
      const int64_t anchor = anchors[b], self = args_.self[anchor];
      if (!set_.with_anchor && self == i) continue;
      const T similarity_i =
          set_.with_anchor ? args_.self_similarity[anchor * args_.self_stride] : args_.similarity[anchor * n + i];
      // The anchor is no positive of itself: where its column is among the packed ones, its weight is 0 for it.
      T* self_weight = set_.second_positive && contains(scratch.second, self)
                           ? positive_weight + packed_position(scratch.second, self)
                           : nullptr;
      const T kept = self_weight != nullptr ? std::exchange(*self_weight, T(0)) : T(0);
      const Row<T> row{size - start,           similarity_i,   similarity + b * size + start,
                       first + start,          second + start, positive_weight + start,
                       negative_weight + start};
      if (gradient_ == nullptr) {
        add_row(set_.sides, row, anchor, scratch);
        if (!finite || similarity_i - similarity_i != T(0)) poison(anchor);
      } else {
        const T gradient_i =
            gradient_row(set_.sides, row, anchor, {packed_gradient + b * size + start, moment + start});
        if (set_.with_anchor) {
          if (sink.self_similarity != nullptr) sink.self_similarity[anchor * args_.self_stride] += gradient_i;
        } else if (sink.similarity != nullptr) {
          sink.similarity[anchor * n + i] += gradient_i;
        }
      }
      if (self_weight != nullptr) *self_weight = kept;
    }
    if (sink.gram != nullptr) {
      T* gram_gradient = scratch.gram_gradient.take(size);
      std::fill(gram_gradient, gram_gradient + start, T(0));
      T* sqnorm_gradient = scratch.sqnorm_gradient.take(size);
      const T sqnorm_i = rows_.norm_gradients(size - start, moment + start, first + start, second + start,
                                              gram_gradient + start, sqnorm_gradient + start);
      add_unpacked(scratch.second, gram_gradient, sink.gram + i * n);
      (set_.with_anchor ? sink.self_sqnorm[i * args_.self_stride] : sink.sqnorm[i]) += sqnorm_i;
    }
  }

  void pack_padded(const std::vector<Range>& ranges, const T* row, int64_t size, T* packed) const {
    std::fill(packed + size - kRowPad, packed + size, T(0));
    pack(ranges, row, packed);
  }

  bool finite_where_weighted(const Row<T>& row) const {
    if (rows_.all_finite(row.size, row.similarity)) return true;
    for (int64_t j = 0; j < row.size; ++j)
      if (row.positive_weight[j] != T(0) && row.similarity[j] - row.similarity[j] != T(0)) return false;
    return true;
  }

  void add_row(Sides sides, const Row<T>& row, int64_t anchor, Scratch<T>& scratch) const {
    if (args_.rho.exponential)
      rows_.exp_sums(sides, row, exp_, cells_ + 2 * anchor, scratch.terms.take(row.size));
    else
      rows_.linear_sums(sides, row, linear_, cells_ + 2 * anchor);
  }

  void poison(int64_t anchor) const {
    const Cell<T> nan{T(0), std::numeric_limits<T>::quiet_NaN()};
    cells_[2 * anchor] = cells_[2 * anchor + 1] = nan;
  }

  T gradient_row(Sides sides, const Row<T>& row, int64_t anchor, const RowGradient<T>& into) const {
    const T* sums = gradient_->sums + 2 * anchor;
    const T* rest = gradient_->rest + 2 * anchor;
    const T* grad = gradient_->grad_sums + 2 * anchor;
    const RhoSide* rho[2] = {&args_.rho.positive, &args_.rho.negative};
    if (!args_.rho.exponential) {
      LinearSide<T> linear[2] = {linear_[0], linear_[1]};
      for (int side = 0; side < 2; ++side) linear[side].factor = grad[side];
      return rows_.linear_gradient(sides, row, linear, into);
    }
    ExpSide<T> exp[2];
    for (int side = 0; side < 2; ++side) {
      // The logarithm of an empty sum has no gradient, whatever comes from above.
      const bool empty = sums[side] == -std::numeric_limits<T>::infinity();
      exp[side].scale = exp_[side].scale;
      const double log_sum = (double(sums[side]) + double(rest[side]) - rho[side]->shift) * kLog2E;
      exp[side].log_sum = empty ? T(1e30) : T(log_sum);
      // What T cannot hold of the logarithm is one factor for the whole sum.
      const double lost = std::exp2(double(exp[side].log_sum) - log_sum);
      exp[side].factor = empty ? T(0) : T(grad[side] * rho[side]->scale * lost);
    }
    return rows_.exp_gradient(sides, row, exp, into);
  }

  const PairSumsArgs<T>& args_;
  const PairSet set_;
  const RowKernels<T>& rows_;
  const PairSumsGradient<T>* gradient_;
  Cell<T>* cells_;
  ExpSide<T> exp_[2];
  LinearSide<T> linear_[2];
};

// The norms side by side.
template <class T>
std::vector<T> packed_norms(const PairSumsArgs<T>& args) {
  std::vector<T> norms(args.renormalize ? args.examples : 0);
  for (size_t j = 0; j < norms.size(); ++j) norms[j] = args.sqnorm[j * args.sqnorm_stride];
  return norms;
}

template <class T>
PairSumsArgs<T> with_norms(PairSumsArgs<T> args, const std::vector<T>& norms) {
  args.sqnorm = norms.data();
  args.sqnorm_stride = 1;
  return args;
}

template <class T>
int threads_for(const PairSumsArgs<T>& args, int threads) {
  // A lower bound of the number of terms of every set is m n, enough to tell small problems from large ones.
  return args.anchors * args.examples < kTermsWorthAThread ? 1 : threads;
}

template <class T, class Body>
void for_each_group(const PairSumsArgs<T>& args, const Groups& groups, int64_t slabs, int threads, const Body& body) {
  for_each_slab<Scratch<T>>(slabs, threads_for(args, threads), [&](Scratch<T>& scratch, int64_t slab) {
    for (int64_t g = slab; g < groups.size(); g += slabs)
      body(scratch, slab, groups.anchors.data() + groups.offsets[g], groups.offsets[g + 1] - groups.offsets[g]);
  });
}

}  // namespace

template <class T>
void pair_sums(const PairSumsArgs<T>& given, const PairSumsOutput<T>& output, int threads) {
  const std::vector<T> sqnorms = packed_norms(given);
  const PairSumsArgs<T> args = with_norms(given, sqnorms);
  const PairSet set = describe(args.pairs);
  const T empty_shift = args.rho.exponential ? -std::numeric_limits<T>::infinity() : T(0);
  std::vector<Cell<T>> cells(2 * args.anchors, Cell<T>{empty_shift, T(0)});
  const Kernel<T> kernel(args, nullptr, cells.data());
  const Groups groups = group_anchors(args, set.mixed && !set.with_anchor);
  for_each_group(args, groups, std::min(groups.size(), kSlabs), threads,
                 [&](Scratch<T>& scratch, int64_t, const int64_t* anchors, int64_t anchor_count) {
                   if (set.mixed)
                     kernel.mixed(anchors, anchor_count, -1, scratch, {});
                   else
                     kernel.clean(anchors[0], scratch, {});
                 });
  for (int64_t k = 0; k < 2 * args.anchors; ++k) {
    const RhoSide& rho = k % 2 == 0 ? args.rho.positive : args.rho.negative;
    if (args.rho.exponential) {
      // log2 of a sum that is 0 is minus infinity: the empty set.
      const double log_sum = (std::log2(double(cells[k].sum)) + double(cells[k].shift)) * kLn2 + rho.shift;
      output.sums[k] = T(log_sum);
      output.rest[k] = std::isfinite(log_sum) ? T(log_sum - double(output.sums[k])) : T(0);
    } else {
      output.sums[k] = cells[k].sum;
      output.rest[k] = cells[k].shift;
    }
  }
}

template <class T>
void pair_sums_backward(const PairSumsArgs<T>& given, const PairSumsGradient<T>& gradient, int threads) {
  const std::vector<T> sqnorms = packed_norms(given);
  const PairSumsArgs<T> args = with_norms(given, sqnorms);
  const PairSet set = describe(args.pairs);
  const int64_t m = args.anchors, n = args.examples;
  const Kernel<T> kernel(args, &gradient, nullptr);
  const Groups groups = group_anchors(args, set.mixed && !set.with_anchor);
  const bool norms = set.mixed && args.renormalize;
  // Where groups share their firsts, the rows of the Gram gradient belong to no group: a second walk, first by
  // first, writes them.
  const bool second_walk = norms && !set.with_anchor && (args.mask != nullptr || !set.first_positive);
  const int64_t slabs = std::min(groups.size(), kSlabs);
  const int64_t sqnorm_slabs = !norms ? 0 : second_walk ? std::min(n, kSlabs) : slabs;
  std::vector<T> sqnorm(sqnorm_slabs * n, T(0));

  if (!gradient.adds) std::fill(gradient.similarity, gradient.similarity + m * n, T(0));
  const bool own_apart = set.with_anchor && !is_diagonal(args.self_stride);
  if (own_apart) std::fill_n(gradient.self_similarity, m, T(0));
  if (norms) {
    std::fill_n(gradient.gram + args.first_row * n, args.rows * n, T(0));
    if (!is_diagonal(given.sqnorm_stride)) std::fill_n(gradient.sqnorm, n, T(0));
    if (own_apart) std::fill_n(gradient.self_sqnorm, m, T(0));
  }

  for_each_group(args, groups, slabs, threads,
                 [&](Scratch<T>& scratch, int64_t slab, const int64_t* anchors, int64_t anchor_count) {
                   Sink<T> sink;
                   sink.similarity = gradient.similarity;
                   sink.self_similarity = gradient.self_similarity;
                   if (norms && !second_walk) {
                     sink.gram = gradient.gram;
                     sink.sqnorm = sqnorm.data() + slab * n;
                     sink.self_sqnorm = gradient.self_sqnorm;
                   }
                   if (set.mixed)
                     kernel.mixed(anchors, anchor_count, -1, scratch, sink);
                   else
                     kernel.clean(anchors[0], scratch, sink);
                 });
  if (second_walk) {
    for_each_slab<Scratch<T>>(sqnorm_slabs, threads_for(args, threads), [&](Scratch<T>& scratch, int64_t slab) {
      Sink<T> sink;
      sink.gram = gradient.gram;
      sink.sqnorm = sqnorm.data() + slab * n;
      for (int64_t i = slab; i < n; i += sqnorm_slabs) {
        for (int64_t g = 0; g < groups.size(); ++g) {
          const int64_t* anchors = groups.anchors.data() + groups.offsets[g];
          const bool in_class = args.positives[2 * anchors[0]] <= i && i < args.positives[2 * anchors[0] + 1];
          const bool is_first = args.mask != nullptr ? args.mask[anchors[0] * n + i] == (set.first_positive ? 1 : -1)
                                                     : in_class == set.first_positive;
          if (is_first) kernel.mixed(anchors, groups.offsets[g + 1] - groups.offsets[g], i, scratch, sink);
        }
      }
    });
  }
  for (int64_t slab = 0; slab < sqnorm_slabs; ++slab)
    for (int64_t j = 0; j < n; ++j) gradient.sqnorm[j * given.sqnorm_stride] += sqnorm[slab * n + j];
}

template void pair_sums<float>(const PairSumsArgs<float>&, const PairSumsOutput<float>&, int);
template void pair_sums<double>(const PairSumsArgs<double>&, const PairSumsOutput<double>&, int);
template void pair_sums_backward<float>(const PairSumsArgs<float>&, const PairSumsGradient<float>&, int);
template void pair_sums_backward<double>(const PairSumsArgs<double>&, const PairSumsGradient<double>&, int);

}  // namespace metrix::cpu
