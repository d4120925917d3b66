// What a sum is over and of which terms, from what Python says.
#pragma once

#include <array>
#include <stdexcept>
#include <string>

#include "pair_sums.h"

namespace metrix::bindings {

inline Pairs parse_pairs(const std::string& name) {
  if (name == "clean") return Pairs::kClean;
  if (name == "pos-neg") return Pairs::kPosNeg;
  if (name == "anc-neg") return Pairs::kAncNeg;
  if (name == "pos-pos") return Pairs::kPosPos;
  if (name == "neg-neg") return Pairs::kNegNeg;
  if (name == "anc-pos") return Pairs::kAncPos;
  throw std::invalid_argument("unknown set of pairs: " + name);
}

// Those of the positive side, then of the negative, as flat() of metrix_ext/terms/formula.py.
using RhoNumbers = std::array<double, 8>;

inline Rho make_rho(bool exponential, const RhoNumbers& r) {
  return {exponential, {r[0], r[1], r[2], r[3]}, {r[4], r[5], r[6], r[7]}};
}

}  // namespace metrix::bindings
