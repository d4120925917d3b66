// Compiled once per instruction set: METRIX_ISA names it and METRIX_VECTOR_BYTES is its width. Nothing here has
// external linkage but the two tables at the end.
#include "rows.h"

#include "rho_loops.h"
#include "simd.h"

namespace metrix::cpu {
namespace {

static_assert(kRowPad % kLanes<float> == 0 && kRowPad % kLanes<double> == 0);

template <class T>
void mix_coefficients(int64_t size, const T* lambda, T q_i, const T* q, const T* k, T* first, T* second) {
  for (int64_t j = 0; j < size; j += kLanes<T>) {
    const Vector<T> lambda_j = load(lambda + j);
    const Vector<T> inverse = inverse_mixed_norm(lambda_j, q_i, load(q + j), load(k + j));
    store(first + j, lambda_j * inverse);
    store(second + j, (T(1) - lambda_j) * inverse);
  }
}

// With m = sum of ds * s: dk_ij = -m first second, dq_i = -m first^2 / 2, dq_j = -m second^2 / 2. Pairs that nobody
// uses have the moment 0, and their norm may be anything.
template <class T>
T norm_gradients(int64_t size, const T* moment, const T* first, const T* second, T* gram, T* sqnorm) {
  Vector<T> sqnorm_i{};
  for (int64_t j = 0; j < size; j += kLanes<T>) {
    const Vector<T> m = load(moment + j);
    const Vector<T> c_i = select(m != T(0), load(first + j), Vector<T>{});
    const Vector<T> c_j = select(m != T(0), load(second + j), Vector<T>{});
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
constexpr RowKernels<T> kTable = {mix_coefficients<T>,
                                  norm_gradients<T>,
                                  all_finite<T>,
                                  {sums<T, ExponentialSide<T>>, gradient<T, ExponentialSide<T>>},
                                  {sums<T, LinearSide<T>>, gradient<T, LinearSide<T>>}};

}  // namespace

extern const RowKernels<float> METRIX_OF_ISA(kRowsF32_) = kTable<float>;
extern const RowKernels<double> METRIX_OF_ISA(kRowsF64_) = kTable<double>;

}  // namespace metrix::cpu
