// What a set of pairs takes as the first and as the second of a pair.
#pragma once

#include "cpu/loops/rho.h"
#include "pair_sums.h"

namespace metrix::cpu {

struct PairSet {
  bool mixed, with_anchor;               // with_anchor: the first of a pair is the anchor itself
  bool first_positive, second_positive;  // which set the first and the second come from
  bool unordered;
  Sides sides;
};

inline PairSet describe(Pairs pairs) {
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

}  // namespace metrix::cpu
