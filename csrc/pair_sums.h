// pair_sums: for each anchor the two sums of Eq. (7) or (9) over a Gram matrix, and their gradients.
//
// Columns (examples) are sorted by class, so that the positives of an anchor are one range of columns; a mask
// replaces the ranges where single positives or negatives are left out (mined pairs, hard negatives).
#pragma once

#include <cstdint>

#include "compiler.h"

namespace metrix {

// The mixing sets M(a), and the clean sums over P(a) and N(a).
enum class Pairs { kClean, kPosNeg, kAncNeg, kPosPos, kNegNeg, kAncPos };

// rho of one side of Table 1: e^(scale t + shift), or max(scale t + shift, floor), where t = s - margin_range y for a
// term of label y. margin_range is 0 unless y is lambda: one label for all terms is a part of the shift.
struct RhoSide {
  double scale, shift, floor, margin_range;
};

struct Rho {
  bool exponential;  // then the sums come out as natural logarithms, and both sides have one margin_range
  RhoSide positive, negative;
};

template <class T>
struct PairSumsArgs {
  int64_t anchors;   // m
  int64_t examples;  // n
  Pairs pairs;
  Rho rho, clean_rho;
  bool renormalize;

  const T* similarity;  // [m, n] s(a, x)

  // Mixing only. Sets within the examples read [n, n] matrices by (first, second) example; the anc-* sets read
  // [m, n] matrices by (anchor, example), and the anchor's own row below. Without a mask pos-neg and pos-pos read only
  // the rows of their anchors' positives: there are the rows [first_row, first_row + rows), and a pointer is to where
  // row 0 would be. Elsewhere there are all rows, from 0 on.
  int64_t first_row, rows;
  const T* lambda;  // [rows, n], anc-*: [m, n], or [1] if lambda_is_scalar: weight of the first of a pair
  bool lambda_is_scalar;
  const T* gram;             // [rows, n], anc-*: [m, n] inner products of what is mixed; null unless renormalize
  const T* sqnorm;           // [n] squared norms of what is mixed; null unless renormalize
  const T* self_similarity;  // [m] s(a, a), anc-* only
  const T* self_sqnorm;      // [m] squared norms of the anchors, anc-* with renormalize only
  // Elements from one example's norm to the next, and from one anchor's own similarity and norm: 1, or as diagonals of
  // gram and similarity lie.
  int64_t sqnorm_stride, self_stride;

  const int64_t* positives;  // [m, 2] first and one-past-last column of the anchor's class
  const int64_t* self;       // [m] the anchor's own column, or -1
  const int8_t* mask;        // [m, n] 1 positive, -1 negative, 0 neither; or null: then the ranges hold
  bool anchors_in_order;     // anchor a is example a, and there is no mask: the range of a class is also that of its
                             // anchors

  // The clean sums of the same anchors.
  PairSumsArgs clean() const {
    PairSumsArgs args = *this;
    args.pairs = Pairs::kClean;
    args.rho = clean_rho;
    args.renormalize = false;
    return args;
  }
};

// Whether elements so far apart are those of a diagonal.
METRIX_FN bool is_diagonal(int64_t stride) { return stride != 1; }

// Every element is written.
template <class T>
struct PairSumsOutput {
  T* sums;  // [m, 2] positive, negative; minus infinity for an empty set of exponentials
  // [m, 2] of exponentials what rounding to T took from the logarithm: backward divides by the sum, and half a unit in
  // the last place of a logarithm of 10^6 is a factor of 1.03. Linear: the number of terms that are not 0.
  T* rest;
};

template <class T>
struct PairSumsGradient {
  const T* sums;       // [m, 2] what the forward pass gave
  const T* rest;       // [m, 2] likewise
  const T* grad_sums;  // [m, 2]
  // Outputs; all but similarity may be null where the argument is.
  T* similarity;  // [m, n]
  T* gram;        // [rows, n], anc-*: [m, n]; addressed as args.gram
  // Strided as the arguments. What lies on a diagonal is added to it.
  T* sqnorm;           // [n]
  T* self_similarity;  // [m]
  T* self_sqnorm;      // [m]
  bool adds = false;   // clean only: to what similarity has
};

namespace cpu {
template <class T>
void pair_sums(const PairSumsArgs<T>& args, const PairSumsOutput<T>& output, int threads);

template <class T>
void pair_sums_backward(const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient, int threads);
}  // namespace cpu

namespace cuda {
// Bytes of device memory that a call works in, a function of the shapes and of what is null alone.
template <class T>
int64_t pair_sums_workspace(const PairSumsArgs<T>& args);

template <class T>
int64_t pair_sums_backward_workspace(const PairSumsArgs<T>& args);

// Throw std::runtime_error if a launch fails. Nothing is allocated and nothing waits, so a graph can capture them.
template <class T>
void pair_sums(const PairSumsArgs<T>& args, const PairSumsOutput<T>& output, void* workspace, int device, void* stream);

template <class T>
void pair_sums_backward(const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient, void* workspace, int device,
                        void* stream);
}  // namespace cuda

}  // namespace metrix
