// A list of mixes, each of two examples, and which of them an anchor uses: shared by mix_pool and anchor_sums.
#pragma once

#include <cstdint>

#include "compiler.h"
#include "pair_sums.h"

namespace metrix {

// Of the tensors that may be half precision. The others are float, or double beside kDouble.
enum class Element { kHalf, kBFloat16, kFloat, kDouble };

// Mix p is lambda x_first + (1 - lambda) x_second. Lists in any order are correct; kernels are fastest where
// consecutive mixes share examples (metrix_ext/terms/mixes.py makes them so).
template <class T>
struct Mixes {
  int64_t count;          // p
  int64_t examples;       // n
  const int64_t* first;   // [p] example
  const int64_t* second;  // [p] example
  const T* lambda;        // [p] weight of the first
  const int64_t* begin;   // [n + 1] the uses of example e are uses[begin[e]] to uses[begin[e + 1] - 1]
  const int64_t* uses;    // [2 p] u < p: as the first of mix u; u >= p: as the second of mix u - p
};

// Who is positive and negative for whom, as in PairSumsArgs.
struct AnchorRelations {
  int64_t anchors;           // m
  int64_t examples;          // n
  const int64_t* positives;  // [m, 2]
  const int64_t* self;       // [m]
  const int8_t* mask;        // [m, n] or null
};

// 1: positive, -1: negative, 0: neither, the anchor itself among them.
METRIX_FN int relation(const AnchorRelations& r, int64_t anchor, int64_t example) {
  if (r.mask != nullptr) return r.mask[anchor * r.examples + example];
  if (example == r.self[anchor]) return 0;
  return r.positives[2 * anchor] <= example && example < r.positives[2 * anchor + 1] ? 1 : -1;
}

METRIX_FN bool is_self(const AnchorRelations& r, int64_t anchor, int64_t example) { return r.self[anchor] == example; }

// The relations of one anchor without a mask, in registers.
struct OwnRelations {
  int begin, end, self;
};

METRIX_FN int relation(const OwnRelations& r, int64_t, int64_t example) {
  if (example == r.self) return 0;
  return r.begin <= example && example < r.end ? 1 : -1;
}

METRIX_FN bool is_self(const OwnRelations& r, int64_t, int64_t example) { return r.self == example; }

// Whether (i, j) is in M(anchor) with i as the first.
template <class Relations>
METRIX_FN bool uses_ordered(const Relations& r, Pairs pairs, int64_t anchor, int64_t i, int64_t j) {
  switch (pairs) {
    case Pairs::kPosNeg:
      return relation(r, anchor, i) == 1 && relation(r, anchor, j) == -1;
    case Pairs::kPosPos:
      return relation(r, anchor, i) == 1 && relation(r, anchor, j) == 1;
    case Pairs::kNegNeg:
      return relation(r, anchor, i) == -1 && relation(r, anchor, j) == -1;
    case Pairs::kAncNeg:
      return is_self(r, anchor, i) && relation(r, anchor, j) == -1;
    case Pairs::kAncPos:
      return is_self(r, anchor, i) && relation(r, anchor, j) == 1;
    default:
      return false;
  }
}

// The label of mix {i, j} for an anchor, or -1 where it does not use it. With both_orders one mix serves the anchors
// that have i as the first, with lambda, and those that have j, with 1 - lambda.
template <class Relations, class T>
METRIX_FN T mixed_label(const Relations& r, Pairs pairs, bool both_orders, int64_t anchor, int64_t i, int64_t j,
                        T lambda) {
  const bool forward = uses_ordered(r, pairs, anchor, i, j);
  if (!forward && !(both_orders && uses_ordered(r, pairs, anchor, j, i))) return T(-1);
  if (pairs == Pairs::kPosPos || pairs == Pairs::kAncPos) return T(1);
  if (pairs == Pairs::kNegNeg) return T(0);
  return forward ? lambda : T(1) - lambda;
}

}  // namespace metrix
