// Compiled once per instruction set, with METRIX_ISA naming it. Plain loops that the compiler vectorises over the
// formulas of math.h; nothing here may have external linkage but the two tables at the end.
#include "rows.h"

#include "../math.h"

namespace metrix::cpu {
namespace {

constexpr bool takes_positive(Sides sides) { return sides != Sides::kNegative; }
constexpr bool takes_negative(Sides sides) { return sides != Sides::kPositive; }

template <class T>
constexpr T kInfinity = T(__builtin_inf());

template <class T>
void mix_coefficients(int64_t size, const T* __restrict lambda, T q_i, const T* __restrict q, const T* __restrict k,
                      T* __restrict first, T* __restrict second) {
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) {
    const T inverse = inverse_mixed_norm(lambda[j], q_i, q[j], k[j]);
    first[j] = lambda[j] * inverse;
    second[j] = (T(1) - lambda[j]) * inverse;
  }
}

// With m = sum of ds * s: dk_ij = -m first second, dq_i = -m first^2 / 2, dq_j = -m second^2 / 2.
template <class T>
T norm_gradients(int64_t size, const T* __restrict moment, const T* __restrict first, const T* __restrict second,
                 T* __restrict gram, T* __restrict sqnorm) {
  T sqnorm_i = 0;
#pragma omp simd reduction(+ : sqnorm_i)
  for (int64_t j = 0; j < size; ++j) {
    gram[j] -= moment[j] * first[j] * second[j];
    sqnorm[j] -= T(0.5) * moment[j] * second[j] * second[j];
    sqnorm_i -= T(0.5) * moment[j] * first[j] * first[j];
  }
  return sqnorm_i;
}

template <class T>
bool all_finite(int64_t size, const T* __restrict values) {
  T difference = 0;  // x - x is 0 for a finite x and NaN otherwise
#pragma omp simd reduction(+ : difference)
  for (int64_t j = 0; j < size; ++j) difference += values[j] - values[j];
  return difference == T(0);
}

template <bool Mixed, class T>
METRIX_FN T similarity_of(const Row<T>& row, int64_t j) {
  return Mixed ? mixed_similarity(row.first[j], row.second[j], row.similarity_i, row.similarity[j])
               : row.similarity[j];
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
void exp_sums_of(const Row<T>& row, const ExpSide<T> side[2], Cell<T> cells[2], T* __restrict s) {
  const T positive_scale = side[0].scale, negative_scale = side[1].scale;
  T positive_max = -kInfinity<T>, negative_max = -kInfinity<T>;
#pragma omp simd reduction(max : positive_max, negative_max)
  for (int64_t j = 0; j < row.size; ++j) {
    const T s_j = similarity_of<Mixed>(row, j);
    s[j] = s_j;
    if constexpr (takes_positive(sides)) {
      const T t = row.positive_weight[j] > 0 ? positive_scale * s_j : -kInfinity<T>;
      positive_max = t > positive_max ? t : positive_max;
    }
    if constexpr (takes_negative(sides)) {
      const T t = row.negative_weight[j] > 0 ? negative_scale * s_j : -kInfinity<T>;
      negative_max = t > negative_max ? t : negative_max;
    }
  }
  // No weight above 0: the terms vanish; a shift of 0 keeps infinity out of the differences below.
  const bool has_positive = positive_max != -kInfinity<T>, has_negative = negative_max != -kInfinity<T>;
  const T positive_shift = has_positive ? positive_max : T(0), negative_shift = has_negative ? negative_max : T(0);
  T positive_sum = 0, negative_sum = 0;
#pragma omp simd reduction(+ : positive_sum, negative_sum)
  for (int64_t j = 0; j < row.size; ++j) {
    if constexpr (takes_positive(sides)) positive_sum += row.positive_weight[j] * exp2(positive_scale * s[j] - positive_shift);
    if constexpr (takes_negative(sides)) negative_sum += row.negative_weight[j] * exp2(negative_scale * s[j] - negative_shift);
  }
  if (takes_positive(sides) && has_positive) add_scaled(cells[0], positive_shift, positive_sum);
  if (takes_negative(sides) && has_negative) add_scaled(cells[1], negative_shift, negative_sum);
}

template <Sides sides, bool Mixed, class T>
void linear_sums_of(const Row<T>& row, const LinearSide<T> side[2], Cell<T> cells[2]) {
  const LinearSide<T> positive = side[0], negative = side[1];
  T positive_sum = 0, negative_sum = 0, positive_count = 0, negative_count = 0;
#pragma omp simd reduction(+ : positive_sum, negative_sum, positive_count, negative_count)
  for (int64_t j = 0; j < row.size; ++j) {
    const T s = similarity_of<Mixed>(row, j);
    if constexpr (takes_positive(sides)) {
      const T term = row.positive_weight[j] * linear_rho(s, positive.scale, positive.shift, positive.floor);
      positive_sum += term;
      positive_count += term != 0 ? T(1) : T(0);
    }
    if constexpr (takes_negative(sides)) {
      const T term = row.negative_weight[j] * linear_rho(s, negative.scale, negative.shift, negative.floor);
      negative_sum += term;
      negative_count += term != 0 ? T(1) : T(0);
    }
  }
  if constexpr (takes_positive(sides)) cells[0] = {cells[0].shift + positive_count, cells[0].sum + positive_sum};
  if constexpr (takes_negative(sides)) cells[1] = {cells[1].shift + negative_count, cells[1].sum + negative_sum};
}

// Adds the gradients of a row whose d(loss)/ds of term j is slope(j, s).
template <bool Mixed, class T, class Slope>
METRIX_FN T row_gradient(const Row<T>& row, const RowGradient<T>& gradient, const Slope& slope) {
  T* __restrict similarity = gradient.similarity;
  T* __restrict moment = gradient.moment;
  T similarity_i = 0;
#pragma omp simd reduction(+ : similarity_i)
  for (int64_t j = 0; j < row.size; ++j) {
    const T s = similarity_of<Mixed>(row, j);
    const T ds = slope(j, s);
    if constexpr (Mixed) {
      similarity_i += ds * row.first[j];
      similarity[j] += ds * row.second[j];
      moment[j] += ds * s;
    } else {
      similarity[j] += ds;
    }
  }
  return similarity_i;
}

template <Sides sides, bool Mixed, class T>
T exp_gradient_of(const Row<T>& row, const ExpSide<T> side[2], const RowGradient<T>& gradient) {
  const ExpSide<T> positive = side[0], negative = side[1];
  return row_gradient<Mixed>(row, gradient, [&](int64_t j, T s) __attribute__((always_inline)) {
    T ds = 0;
    if constexpr (takes_positive(sides))
      ds += positive.factor * (row.positive_weight[j] * exp2(positive.scale * s - positive.log_sum));
    if constexpr (takes_negative(sides))
      ds += negative.factor * (row.negative_weight[j] * exp2(negative.scale * s - negative.log_sum));
    return ds;
  });
}

template <Sides sides, bool Mixed, class T>
T linear_gradient_of(const Row<T>& row, const LinearSide<T> side[2], const RowGradient<T>& gradient) {
  const LinearSide<T> positive = side[0], negative = side[1];
  return row_gradient<Mixed>(row, gradient, [&](int64_t j, T s) __attribute__((always_inline)) {
    T ds = 0;
    if constexpr (takes_positive(sides))
      ds += positive.factor * (row.positive_weight[j] *
                               linear_rho_slope(s, positive.scale, positive.shift, positive.floor));
    if constexpr (takes_negative(sides))
      ds += negative.factor * (row.negative_weight[j] *
                               linear_rho_slope(s, negative.scale, negative.shift, negative.floor));
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

template <class T>
void lambda_row(const PairLambdaArgs& args, int64_t row, T* __restrict lambda) {
  const uint64_t seed = uint64_t(*args.seed), i = uint64_t(args.rows[row]);
  const int64_t* __restrict columns = args.columns;
  const BetaQuantile quantile = args.quantile;
#pragma omp simd
  for (int64_t c = 0; c < args.column_count; ++c)
    lambda[c] = T(lambda_of_pair(seed, i, uint64_t(columns[c]), quantile));
}

template <class T>
constexpr RowKernels<T> kTable = {mix_coefficients<T>, norm_gradients<T>, all_finite<T>,      exp_sums<T>,
                                  linear_sums<T>,      exp_gradient<T>,   linear_gradient<T>, lambda_row<T>};

}  // namespace

#define METRIX_JOIN_(a, b) a##b
#define METRIX_JOIN(a, b) METRIX_JOIN_(a, b)

extern const RowKernels<float> METRIX_JOIN(kRowsF32_, METRIX_ISA) = kTable<float>;
extern const RowKernels<double> METRIX_JOIN(kRowsF64_, METRIX_ISA) = kTable<double>;

}  // namespace metrix::cpu
