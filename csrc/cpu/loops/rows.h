// The inner loops of the CPU kernels: one row of terms at a time, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "pair_lambda.h"

namespace metrix::cpu {

// Rows are padded to a multiple of this many elements with zero weights, so that no loop has a remainder.
constexpr int64_t kRowPad = 16;

// Which of the two sums the terms of a row go to: label 1, label 0, or a label in between.
enum class Sides { kPositive, kNegative, kBoth };

// Terms (i, j) of one anchor with i fixed. Without mixing, first and second are null and s(a, j) is the term's.
template <class T>
struct Row {
  int64_t size;              // a multiple of kRowPad
  T similarity_i;            // s(a, i)
  const T* similarity;       // s(a, j)
  const T* first;            // lambda / nu
  const T* second;           // (1 - lambda) / nu
  const T* positive_weight;  // 0 in the padding
  const T* negative_weight;
};

// A partial sum. Of exponentials: sum * 2^shift (the neutral element is 0 * 2^-inf). Linear: sum, and in shift
// the number of terms that are not 0.
template <class T>
struct Cell {
  T shift, sum;
};

// One side of an exponential rho in base 2: the terms are weight * 2^(scale s), in backward
// weight * 2^(scale s - log_sum), times factor = dE/d(sum) * d(log term)/ds.
template <class T>
struct ExpSide {
  T scale, log_sum, factor;
};

template <class T>
struct LinearSide {
  T scale, shift, floor, factor;
};

// What one anchor's row adds to in backward.
template <class T>
struct RowGradient {
  T* similarity;  // d/d s(a, j)
  T* moment;      // sum of ds * s, from which the gradients of the norms follow; null without mixing
};

// Rows of a tile of inner products, and of a tile of weighted sums.
constexpr int kGramTile = 4;
constexpr int kSumsTile = 6;

// out_r = sum over k < count of weight_kr x_k, each [columns], for the first of kSumsTile rows r.
template <class T>
struct WeightedSums {
  int64_t rows, count, columns;
  const T* weights;  // [count, kSumsTile]
  const T* x;        // [count, columns]
  T* out;            // [rows, columns]
  int64_t stride;    // from row to row of x and of out
  bool add;          // to what out has
};

constexpr int64_t kLambdaPad = 32;

template <class T>
struct RowKernels {
  // first and second of every j from lambda, q_j and k_ij.
  void (*mix_coefficients)(int64_t size, const T* lambda, T q_i, const T* q, const T* k, T* first, T* second);
  // Turns the moments of a row into the gradients of k_ij (written) and q_j (added), and returns that of q_i.
  T (*norm_gradients)(int64_t size, const T* moment, const T* first, const T* second, T* gram, T* sqnorm);
  bool (*all_finite)(int64_t size, const T* values);
  T (*dot)(int64_t size, const T* x, const T* y);
  // out = (x - share * y) * scale.
  void (*scaled_difference)(int64_t size, const T* x, const T* y, T share, T scale, T* out);

  void (*inner_products)(int64_t size, const T* const x[kGramTile], const T* const y[kGramTile],
                         T out[kGramTile][kGramTile]);
  void (*weighted_sums)(const WeightedSums<T>&);

  void (*exp_sums)(Sides, const Row<T>&, const ExpSide<T> sides[2], Cell<T> cells[2], T* scratch);
  void (*linear_sums)(Sides, const Row<T>&, const LinearSide<T> sides[2], Cell<T> cells[2]);
  // Both return d/d s(a, i).
  T (*exp_gradient)(Sides, const Row<T>&, const ExpSide<T> sides[2], const RowGradient<T>&);
  T (*linear_gradient)(Sides, const Row<T>&, const LinearSide<T> sides[2], const RowGradient<T>&);

  // lambda_ij and lambda_ji of the listed pairs; count is a multiple of kLambdaPad.
  void (*pair_lambda)(uint64_t seed, const BetaQuantile&, int64_t count, const int64_t* i, const int64_t* j, T* ij,
                      T* ji);
};

// The kernels of the best instruction set that the processor has, or of the one that METRIX_CPU_ISA names.
template <class T>
const RowKernels<T>& row_kernels();

const char* instruction_set();

}  // namespace metrix::cpu
