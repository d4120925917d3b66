// The inner loops over the terms of pair_sums and anchor_sums: one row of terms at a time, compiled once per
// instruction set.
#pragma once

#include <cstdint>

#include "rho.h"

namespace metrix::cpu {

// Rows are padded to a multiple of this many elements with zero weights, so that no loop has a remainder: the floats
// of the widest vector, that of AVX-512.
constexpr int64_t kRowPad = 16;

// Terms (i, j) of one anchor with i fixed. Without mixing, first and second are null and s(a, j) is the term's.
template <class T>
struct Row {
  int64_t size;              // a multiple of kRowPad
  T similarity_i;            // s(a, i)
  const T* similarity;       // s(a, j)
  const T* first;            // lambda / nu
  const T* second;           // (1 - lambda) / nu
  const T* positive_weight;  // 0 in the padding; where labels differ, the label
  const T* negative_weight;
};

// What one anchor's row adds to in backward.
template <class T>
struct RowGradient {
  T* similarity;  // d/d s(a, j)
  T* moment;      // sum of ds * s, from which the gradients of the norms follow; null without mixing
};

// The loops of one family of rho, of which Side has the constants.
template <class T, class Side>
struct RhoKernels {
  // Adds the terms to the two partial sums; scratch is of the size of the row.
  void (*sums)(Sides, const Row<T>&, const Side sides[2], PartialSum<T> sums[2], T* scratch);
  // Returns d/d s(a, i).
  T (*gradient)(Sides, const Row<T>&, const Side sides[2], const RowGradient<T>&);
};

template <class T>
struct RowKernels {
  // first and second of every j from lambda, q_j and k_ij.
  void (*mix_coefficients)(int64_t size, const T* lambda, T q_i, const T* q, const T* k, T* first, T* second);
  // Turns the moments of a row into the gradients of k_ij (written) and q_j (added), and returns that of q_i.
  T (*norm_gradients)(int64_t size, const T* moment, const T* first, const T* second, T* gram, T* sqnorm);
  bool (*all_finite)(int64_t size, const T* values);

  RhoKernels<T, ExponentialSide<T>> exponential;
  RhoKernels<T, LinearSide<T>> linear;
};

// The kernels of the best instruction set that the processor has, or of the one that METRIX_CPU_ISA names.
template <class T>
const RowKernels<T>& row_kernels();

const char* instruction_set();

}  // namespace metrix::cpu
