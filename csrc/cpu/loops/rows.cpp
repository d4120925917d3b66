// Compiled once per instruction set: METRIX_ISA names it and METRIX_VECTOR_BYTES is its width. Nothing here has
// external linkage but the two tables at the end.
#include "rows.h"

#include <type_traits>

#include "products.h"
#include "simd.h"

namespace metrix::cpu {
namespace {

constexpr bool takes_positive(Sides sides) { return sides != Sides::kNegative; }
constexpr bool takes_negative(Sides sides) { return sides != Sides::kPositive; }

template <class T>
constexpr T kInfinity = T(__builtin_inf());

template <class T>
void mix_coefficients(int64_t size, const T* lambda, T q_i, const T* q, const T* k, T* first, T* second) {
  for (int64_t j = 0; j < size; j += kLanes<T>) {
    const Vector<T> lambda_j = load(lambda + j);
    const Vector<T> inverse = inverse_mixed_norm(lambda_j, q_i, load(q + j), load(k + j));
    store(first + j, lambda_j * inverse);
    store(second + j, (T(1) - lambda_j) * inverse);
  }
}

// With m = sum of ds * s: dk_ij = -m first second, dq_i = -m first^2 / 2, dq_j = -m second^2 / 2.
template <class T>
T norm_gradients(int64_t size, const T* moment, const T* first, const T* second, T* gram, T* sqnorm) {
  Vector<T> sqnorm_i{};
  for (int64_t j = 0; j < size; j += kLanes<T>) {
    const Vector<T> m = load(moment + j), c_i = load(first + j), c_j = load(second + j);
    store(gram + j, -m * c_i * c_j);
    store(sqnorm + j, load(sqnorm + j) - T(0.5) * m * c_j * c_j);
    sqnorm_i -= T(0.5) * m * c_i * c_i;
  }
  return sum<T>(sqnorm_i);
}

template <class T>
bool all_finite(int64_t size, const T* values) {
  Vector<T> difference{};  // x - x is 0 for a finite x and NaN otherwise
  int64_t j = 0;
  for (; j + kLanes<T> <= size; j += kLanes<T>) difference += load(values + j) - load(values + j);
  T rest = sum<T>(difference);
  for (; j < size; ++j) rest += values[j] - values[j];
  return rest == T(0);
}

template <class T>
T dot(int64_t size, const T* x, const T* y) {
  Vector<T> even{}, odd{};
  int64_t j = 0;
  for (; j + 2 * kLanes<T> <= size; j += 2 * kLanes<T>) {
    even += load(x + j) * load(y + j);
    odd += load(x + j + kLanes<T>) * load(y + j + kLanes<T>);
  }
  T total = sum<T>(even + odd);
  for (; j < size; ++j) total += x[j] * y[j];
  return total;
}

template <class T>
void scaled_difference(int64_t size, const T* x, const T* y, T share, T scale, T* out) {
  int64_t j = 0;
  for (; j + kLanes<T> <= size; j += kLanes<T>) store(out + j, (load(x + j) - share * load(y + j)) * scale);
  for (; j < size; ++j) out[j] = (x[j] - share * y[j]) * scale;
}

template <bool Mixed, class T>
METRIX_FN Vector<T> similarity_of(const Row<T>& row, int64_t j) {
  const Vector<T> s_j = load(row.similarity + j);
  if constexpr (Mixed) return mixed_similarity(load(row.first + j), load(row.second + j), row.similarity_i, s_j);
  return s_j;
}

template <class T>
METRIX_FN void add_scaled(Cell<T>& cell, T shift, T sum) {
  if (shift > cell.shift) {
    cell.sum = cell.sum * exp2(cell.shift - shift) + sum;
    cell.shift = shift;
  } else {
    cell.sum += sum * exp2(shift - cell.shift);
  }
}

// Two passes: the largest exponent among the terms whose weight is not 0, then the sums relative to it. Their
// difference is taken between similarities, before scale blows rounding up.
template <Sides sides, bool Mixed, class T>
void exp_sums_of(const Row<T>& row, const ExpSide<T> side[2], Cell<T> cells[2], T* scratch) {
  const T positive_scale = side[0].scale, negative_scale = side[1].scale;
  const Vector<T> nothing = Vector<T>{} - kInfinity<T>;
  Vector<T> positive_top = nothing, negative_top = nothing;
  for (int64_t j = 0; j < row.size; j += kLanes<T>) {
    const Vector<T> s = similarity_of<Mixed>(row, j);
    store(scratch + j, s);
    if constexpr (takes_positive(sides)) {
      const Vector<T> t = select(load(row.positive_weight + j) > T(0), positive_scale * s, nothing);
      positive_top = select(t > positive_top, t, positive_top);
    }
    if constexpr (takes_negative(sides)) {
      const Vector<T> t = select(load(row.negative_weight + j) > T(0), negative_scale * s, nothing);
      negative_top = select(t > negative_top, t, negative_top);
    }
  }
  const T positive_shift = largest<T>(positive_top), negative_shift = largest<T>(negative_top);
  // Without a weight above 0 the terms vanish; skipping them keeps infinity out of the differences.
  const bool has_positive = positive_shift != -kInfinity<T>, has_negative = negative_shift != -kInfinity<T>;
  if (!has_positive && !has_negative) return;
  Vector<T> positive_sum{}, negative_sum{};
  for (int64_t j = 0; j < row.size; j += kLanes<T>) {
    const Vector<T> s = load(scratch + j);
    if constexpr (takes_positive(sides))
      positive_sum += load(row.positive_weight + j) * exp2(positive_scale * s - positive_shift);
    if constexpr (takes_negative(sides))
      negative_sum += load(row.negative_weight + j) * exp2(negative_scale * s - negative_shift);
  }
  if (takes_positive(sides) && has_positive) add_scaled(cells[0], positive_shift, sum<T>(positive_sum));
  if (takes_negative(sides) && has_negative) add_scaled(cells[1], negative_shift, sum<T>(negative_sum));
}

template <Sides sides, bool Mixed, class T>
void linear_sums_of(const Row<T>& row, const LinearSide<T> side[2], Cell<T> cells[2]) {
  Vector<T> total[2] = {}, count[2] = {};
  const T* const weights[2] = {row.positive_weight, row.negative_weight};
  for (int64_t j = 0; j < row.size; j += kLanes<T>) {
    const Vector<T> s = similarity_of<Mixed>(row, j);
    for (int k = takes_positive(sides) ? 0 : 1; k < (takes_negative(sides) ? 2 : 1); ++k) {
      const Vector<T> term = load(weights[k] + j) * linear_rho(s, side[k].scale, side[k].shift, side[k].floor);
      total[k] += term;
      count[k] += select(term != T(0), Vector<T>{} + T(1), Vector<T>{});
    }
  }
  for (int k = takes_positive(sides) ? 0 : 1; k < (takes_negative(sides) ? 2 : 1); ++k)
    cells[k] = {cells[k].shift + sum<T>(count[k]), cells[k].sum + sum<T>(total[k])};
}

// Adds the gradients of a row whose d(loss)/ds of the terms from j on is slope(j, s).
template <bool Mixed, class T, class Slope>
METRIX_FN T row_gradient(const Row<T>& row, const RowGradient<T>& gradient, const Slope& slope) {
  Vector<T> similarity_i{};
  for (int64_t j = 0; j < row.size; j += kLanes<T>) {
    const Vector<T> s = similarity_of<Mixed>(row, j);
    const Vector<T> ds = slope(j, s);
    if constexpr (Mixed) {
      similarity_i += ds * load(row.first + j);
      store(gradient.similarity + j, load(gradient.similarity + j) + ds * load(row.second + j));
      store(gradient.moment + j, load(gradient.moment + j) + ds * s);
    } else {
      store(gradient.similarity + j, load(gradient.similarity + j) + ds);
    }
  }
  return sum<T>(similarity_i);
}

template <Sides sides, bool Mixed, class T>
T exp_gradient_of(const Row<T>& row, const ExpSide<T> side[2], const RowGradient<T>& gradient) {
  const ExpSide<T> positive = side[0], negative = side[1];
  return row_gradient<Mixed>(row, gradient, [&](int64_t j, Vector<T> s) __attribute__((always_inline)) {
    Vector<T> ds{};
    if constexpr (takes_positive(sides))
      ds += positive.factor * (load(row.positive_weight + j) * exp2(positive.scale * s - positive.log_sum));
    if constexpr (takes_negative(sides))
      ds += negative.factor * (load(row.negative_weight + j) * exp2(negative.scale * s - negative.log_sum));
    return ds;
  });
}

template <Sides sides, bool Mixed, class T>
T linear_gradient_of(const Row<T>& row, const LinearSide<T> side[2], const RowGradient<T>& gradient) {
  const LinearSide<T> positive = side[0], negative = side[1];
  return row_gradient<Mixed>(row, gradient, [&](int64_t j, Vector<T> s) __attribute__((always_inline)) {
    Vector<T> ds{};
    if constexpr (takes_positive(sides))
      ds += positive.factor *
            (load(row.positive_weight + j) * linear_rho_slope(s, positive.scale, positive.shift, positive.floor));
    if constexpr (takes_negative(sides))
      ds += negative.factor *
            (load(row.negative_weight + j) * linear_rho_slope(s, negative.scale, negative.shift, negative.floor));
    return ds;
  });
}

// Calls function.operator()<sides, Mixed>() for the run-time values.
template <class Function>
auto specialise(Sides sides, bool mixed, const Function& function) {
  switch (sides) {
    case Sides::kPositive:
      return mixed ? function.template operator()<Sides::kPositive, true>()
                   : function.template operator()<Sides::kPositive, false>();
    case Sides::kNegative:
      return mixed ? function.template operator()<Sides::kNegative, true>()
                   : function.template operator()<Sides::kNegative, false>();
    default:
      return function.template operator()<Sides::kBoth, true>();
  }
}

template <class T>
void exp_sums(Sides sides, const Row<T>& row, const ExpSide<T> side[2], Cell<T> cells[2], T* scratch) {
  specialise(sides, row.first != nullptr,
             [&]<Sides S, bool Mixed>() { exp_sums_of<S, Mixed>(row, side, cells, scratch); });
}

template <class T>
void linear_sums(Sides sides, const Row<T>& row, const LinearSide<T> side[2], Cell<T> cells[2]) {
  specialise(sides, row.first != nullptr, [&]<Sides S, bool Mixed>() { linear_sums_of<S, Mixed>(row, side, cells); });
}

template <class T>
T exp_gradient(Sides sides, const Row<T>& row, const ExpSide<T> side[2], const RowGradient<T>& gradient) {
  return specialise(sides, row.first != nullptr,
                    [&]<Sides S, bool Mixed>() { return exp_gradient_of<S, Mixed>(row, side, gradient); });
}

template <class T>
T linear_gradient(Sides sides, const Row<T>& row, const LinearSide<T> side[2], const RowGradient<T>& gradient) {
  return specialise(sides, row.first != nullptr,
                    [&]<Sides S, bool Mixed>() { return linear_gradient_of<S, Mixed>(row, side, gradient); });
}

// One step after the other: the long chains of several vectors then overlap.
template <class T>
void pair_lambda(uint64_t seed, const BetaQuantile& quantile, int64_t count, const int64_t* i, const int64_t* j, T* ij,
                 T* ji) {
  constexpr int64_t kStep = kLanes<double>, kVectors = kLambdaPad / kStep;
  typedef T Numbers __attribute__((vector_size(kStep * sizeof(T))));
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Mask __attribute__((vector_size(kStep * sizeof(T))));
  for (int64_t begin = 0; begin < count; begin += kLambdaPad) {
    U64 first[kVectors], second[kVectors], words[kVectors];
    F64 values[kVectors];
    __builtin_memcpy(first, i + begin, sizeof(first));
    __builtin_memcpy(second, j + begin, sizeof(second));
    for (int64_t k = 0; k < kVectors; ++k) words[k] = word_of_pair(seed, first[k], second[k]);
    for (int64_t k = 0; k < kVectors; ++k) values[k] = quantile_variable<F64>(words[k], quantile);
    for (int64_t k = 0; k < kVectors; ++k) values[k] = beta_quantile(words[k], values[k], quantile);
    for (int64_t k = 0; k < kVectors; ++k) {
      const Numbers lambda = __builtin_convertvector(values[k], Numbers);
      const Mask same = __builtin_convertvector(first[k] == second[k], Mask);
      const Mask ordered = __builtin_convertvector(first[k] < second[k], Mask);
      const Numbers weights[2] = {weight_of_first(lambda, same, ordered), weight_of_first(lambda, same, ~ordered)};
      __builtin_memcpy(ij + begin + k * kStep, &weights[0], sizeof(Numbers));
      __builtin_memcpy(ji + begin + k * kStep, &weights[1], sizeof(Numbers));
    }
  }
}

template <class T>
constexpr RowKernels<T> kTable = {mix_coefficients<T>,  norm_gradients<T>, all_finite<T>,      dot<T>,
                                  scaled_difference<T>, inner_products<T>, weighted_sums<T>,   exp_sums<T>,
                                  linear_sums<T>,       exp_gradient<T>,   linear_gradient<T>, pair_lambda<T>};

}  // namespace

extern const RowKernels<float> METRIX_OF_ISA(kRowsF32_) = kTable<float>;
extern const RowKernels<double> METRIX_OF_ISA(kRowsF64_) = kTable<double>;

}  // namespace metrix::cpu
