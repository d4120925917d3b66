// unit_rows: rows of a matrix in a given order, each divided by its norm, as torch.nn.functional.normalize does.
#pragma once

#include <cstdint>

namespace metrix {

constexpr double kSmallestNorm = 1e-12;

template <class T>
struct UnitRowsArgs {
  int64_t rows;          // n
  int64_t columns;       // d
  const int64_t* order;  // [n] a permutation: row r of the result is row order[r] of x
};

namespace cpu {
// unit [n, d] and norm [n] = max(|x|, kSmallestNorm), both in the order of the result, of x [n, d].
template <class T>
void unit_rows(const UnitRowsArgs<T>& args, const T* x, T* unit, T* norm, int threads);

// grad_x [n, d] in the order of x, every row, from what unit_rows gave and grad_unit [n, d].
template <class T>
void unit_rows_backward(const UnitRowsArgs<T>& args, const T* unit, const T* norm, const T* grad_unit, T* grad_x,
                        int threads);
}  // namespace cpu

namespace cuda {
template <class T>
void unit_rows(const UnitRowsArgs<T>& args, const T* x, T* unit, T* norm, int device, void* stream);

template <class T>
void unit_rows_backward(const UnitRowsArgs<T>& args, const T* unit, const T* norm, const T* grad_unit, T* grad_x,
                        int device, void* stream);
}  // namespace cuda

}  // namespace metrix
