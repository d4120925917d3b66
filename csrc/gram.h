// gram: the inner products of the rows of a matrix with each other, and the gradient of the rows.
#pragma once

#include <cstdint>

namespace metrix::cpu {

// products [n, n] = x x^T for x [n, d]; symmetric to the bit.
template <class T>
void gram(int64_t rows, int64_t columns, const T* x, T* products, int threads);

// grad_x [n, d] = (grad + grad^T) x for grad [n, n]; every element is written.
template <class T>
void gram_backward(int64_t rows, int64_t columns, const T* x, const T* grad, T* grad_x, int threads);

}  // namespace metrix::cpu
