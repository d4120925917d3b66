// What every kernel shares: the formulas of one term of Eq. (7) and (9), and lambda of one pair.
// The same source is compiled for the CPU (once per instruction set) and by nvcc.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "compiler.h"

namespace metrix {

constexpr double kLog2E = 1.4426950408889634074;
constexpr double kLn2 = 0.69314718055994530942;

// The formulas are written for a number T: a float or double, or on the CPU a vector of them (cpu/loops/simd.h), for
// which a comparison gives a mask and select() picks by element.
template <class Condition, class T>
METRIX_FN T select(Condition condition, T yes, T no) {
  return condition ? yes : no;
}

template <class To, class From>
METRIX_FN To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast needs types of one size");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// Classes, since vectors are built-in types whose overloads a template would not find after its definition.
template <class T>
struct SquareRoot;
template <>
struct SquareRoot<float> {
  METRIX_FN float of(float x) { return ::sqrtf(x); }
};
template <>
struct SquareRoot<double> {
  METRIX_FN double of(double x) { return ::sqrt(x); }
};

template <class T>
struct PowerOfTwo;

// min and max that keep a NaN in x, which std::min, fmin and the hardware instructions do not.
template <class T, class S>
METRIX_FN T at_least(T x, S low) {
  return select(x < low, T{} + low, x);
}

template <class T, class S>
METRIX_FN T at_most(T x, S high) {
  return select(x > high, T{} + high, x);
}

// 2^x, clamped to the normal range: below it the result is the smallest normal number, which is nothing beside
// the largest term of a sum. Rounding to an integer by adding 1.5 * 2^(mantissa bits) leaves the fraction in
// [-1/2, 1/2]; the polynomials are minimax in relative error there (2e-9 and 3e-18).
template <class Bits, class T>
METRIX_FN T exp2_single(T x) {
  x = at_most(at_least(x, -126.f), 127.f);
  const T shifted = x + 12582912.f;
  const T f = x - (shifted - 12582912.f);
  T p = 1.534581216e-4f * f + 1.339993121e-3f;
  p = p * f + 9.618488957e-3f;
  p = p * f + 5.550328777e-2f;
  p = p * f + 2.402264689e-1f;
  p = p * f + 6.931472057e-1f;
  p = p * f + 1.f;
  return p * bit_cast<T>((bit_cast<Bits>(shifted) + 127u) << 23);
}

template <class Bits, class T>
METRIX_FN T exp2_double(T x) {
  x = at_most(at_least(x, -1022.), 1023.);
  const T shifted = x + 6755399441055744.;
  const T f = x - (shifted - 6755399441055744.);
  T p = 4.4352809446103361611e-10 * f + 7.0741056262456593708e-9;
  p = p * f + 1.0178198033328527662e-7;
  p = p * f + 1.3215433089594629037e-6;
  p = p * f + 1.52527334899608046e-5;
  p = p * f + 1.5403530462514613026e-4;
  p = p * f + 1.3333558146789950323e-3;
  p = p * f + 9.6181291075883350833e-3;
  p = p * f + 5.5504108664819921483e-2;
  p = p * f + 2.4022650695910156205e-1;
  p = p * f + 6.9314718055994533046e-1;
  p = p * f + 1.;
  return p * bit_cast<T>((bit_cast<Bits>(shifted) + uint64_t(1023)) << 52);
}

template <>
struct PowerOfTwo<float> {
  METRIX_FN float of(float x) { return exp2_single<uint32_t>(x); }
};
template <>
struct PowerOfTwo<double> {
  METRIX_FN double of(double x) { return exp2_double<uint64_t>(x); }
};

template <class T>
METRIX_FN T exp2(T x) {
  return PowerOfTwo<T>::of(x);
}

// log2 of a positive, normal double: log2(m) = 2/ln2 * artanh((m-1)/(m+1)) with m in [sqrt(1/2), sqrt(2)).
template <class Bits, class T>
METRIX_FN T log2_double(T x) {
  // Subtracting sqrt(1/2)'s bits makes the exponent field round to nearest.
  constexpr uint64_t kSqrtHalf = 0x3fe6a09e667f3bcdull;
  const Bits bits = bit_cast<Bits>(x);
  const Bits field = (bits - kSqrtHalf) & 0xfff0000000000000ull;
  const T m = bit_cast<T>(bits - field);
  // The exponent (-1022..1023) as a double without an integer conversion, which AVX2 lacks for 64 bits.
  const T exponent = bit_cast<T>(((field >> 52) ^ uint64_t(0x800)) | 0x4330000000000000ull) - 4503599627372544.;
  const T f = (m - 1.) / (m + 1.);
  const T f2 = f * f;
  T p = 1. / 21. * f2 + 1. / 19.;
  p = p * f2 + 1. / 17.;
  p = p * f2 + 1. / 15.;
  p = p * f2 + 1. / 13.;
  p = p * f2 + 1. / 11.;
  p = p * f2 + 1. / 9.;
  p = p * f2 + 1. / 7.;
  p = p * f2 + 1. / 5.;
  p = p * f2 + 1. / 3.;
  p = p * f2 + 1.;
  return exponent + 2. * kLog2E * f * p;
}

// ---- similarity of a mixed example ------------------------------------------------------------------------

// s(a, mix_ij) = first * s(a, i) + second * s(a, j), with first = lambda / nu and second = (1 - lambda) / nu.
template <class T, class S>
METRIX_FN T mixed_similarity(T first, T second, S s_i, T s_j) {
  return first * s_i + second * s_j;
}

// The same less a margin.
template <class T, class S>
METRIX_FN T mixed_similarity(T first, T second, S s_i, T s_j, T margin) {
  return first * s_i + (second * s_j - margin);
}

// nu^2 of mix_ij = lambda x_i + (1 - lambda) x_j, from q = |x|^2 and k_ij = <x_i, x_j>.
template <class T, class S>
METRIX_FN T mixed_square_norm(T lambda, S q_i, T q_j, T k_ij) {
  const T mu = S(1) - lambda;
  return lambda * lambda * q_i + mu * mu * q_j + S(2) * lambda * mu * k_ij;
}

// The floor on the norm is the one of torch.nn.functional.normalize, so a mix of zero vectors has similarity 0. A norm
// that is not finite has no inverse: else a mix whose square overflows would have similarity 0, too.
template <class T, class S>
METRIX_FN T inverse_mixed_norm(T lambda, S q_i, T q_j, T k_ij) {
  const T square = mixed_square_norm(lambda, q_i, q_j, k_ij);
  return S(1) / SquareRoot<T>::of(at_least(square, S(1e-24))) + S(0) * square;
}

// ---- maximum of a mix -------------------------------------------------------------------------------------

// lambda F_i + (1 - lambda) F_j = weight (F_x + ratio F_y) with ratio <= 1; x is j where swapped. The weight is above
// 0, so it may be taken out of a maximum.
template <class T>
struct LargerWeight {
  T weight, ratio;
  bool swapped;
};

template <class T>
METRIX_FN LargerWeight<T> larger_weight(T lambda) {
  const T rest = T(1) - lambda;
  const bool swapped = lambda < rest;
  const T weight = swapped ? rest : lambda;
  return {weight, (swapped ? lambda : rest) / weight, swapped};
}

// ---- rho of Table 1 ---------------------------------------------------------------------------------------

// What rho is of: a margin that follows the label is taken off the similarity.
template <class T, class S>
METRIX_FN T less_margin(T s, S margin_range, T label) {
  return s - margin_range * label;
}

// Contrastive: rho(s) = max(scale * s + shift, floor), the floor being 0 or minus infinity.
template <class T, class S>
METRIX_FN T linear_rho(T s, S scale, S shift, S floor) {
  return at_least(scale * s + shift, floor);
}

// Its derivative; 0 at the kink, as in torch.relu.
template <class T, class S>
METRIX_FN T linear_rho_slope(T s, S scale, S shift, S floor) {
  return select(scale * s + shift <= floor, T{}, T{} + scale);
}

// ---- lambda of a pair -------------------------------------------------------------------------------------

// The formulas of lambda are written for Bits: one 64-bit integer, or on the CPU a vector of them.

// Product of the lower halves. A class for the same reason as SquareRoot.
template <class Bits>
struct HalfProduct {
  METRIX_FN Bits of(Bits a, uint32_t b) { return (a & uint64_t(0xffffffffu)) * uint64_t(b); }
};

// First output word of Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Words are
// the lower halves of Bits; what the upper halves hold is of no account, neither here nor in the result.
template <class Bits>
METRIX_FN Bits philox(Bits c0, Bits c1, Bits c2, Bits c3, uint32_t k0, uint32_t k1) {
  METRIX_UNROLL
  for (int round = 0; round < 10; ++round) {
    const Bits p0 = HalfProduct<Bits>::of(c0, 0xD2511F53u);
    const Bits p1 = HalfProduct<Bits>::of(c2, 0xCD9E8D57u);
    c0 = (p1 >> 32) ^ c1 ^ uint64_t(k0);
    c1 = p1;
    c2 = (p0 >> 32) ^ c3 ^ uint64_t(k1);
    c3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c0;
}

template <class Bits>
METRIX_FN auto in_upper_half(Bits word) {
  return (word & uint64_t(0x80000000u)) != uint64_t(0);
}

// Quantile of Beta(alpha, alpha) at u in (0, 1/2]. With v = (2u)^(1/alpha) the quantile is analytic in v, so it is
// v times a polynomial in t = slope v + offset, t in [-1, 1]; metrix_ext/beta.py fits the coefficients, lowest
// power first. Their number is fixed so that the loop unrolls.
struct BetaQuantile {
  static constexpr int kTerms = 32;
  double inverse_alpha, slope, offset;
  double coefficients[kTerms];
};

// lambda of the unordered pair {i, j}, as the weight of the lower index, is a pure function of (seed, i, j). In three
// steps, so that a loop can take several vectors through each: a random word, v of its quantile, lambda.
template <class Bits>
METRIX_FN Bits word_of_pair(uint64_t seed, Bits i, Bits j) {
  const Bits low = select(i < j, i, j);
  const Bits high = select(i < j, j, i);
  return philox<Bits>(low, high, low >> 32, high >> 32, uint32_t(seed), uint32_t(seed >> 32));
}

// u = (word + 1/2) 2^-32; the quantile is symmetric, so only min(u, 1 - u) is looked up.
template <class T, class Bits>
METRIX_FN T quantile_variable(Bits word, const BetaQuantile& quantile) {
  const Bits folded = select(in_upper_half(word), word ^ uint64_t(0x7fffffffu), word) & uint64_t(0x7fffffffu);
  // An integer below 2^31 becomes a double by its bits: the conversion vectorises on every instruction set.
  const T integer = bit_cast<T>(folded | 0x4330000000000000ull) - 4503599627370496.;
  const T twice_u = (integer + 0.5) * 4.656612873077392578125e-10;
  return exp2_double<Bits>(log2_double<Bits>(twice_u) * quantile.inverse_alpha);
}

template <class T, class Bits>
METRIX_FN T beta_quantile(Bits word, T v, const BetaQuantile& quantile) {
  const T t = quantile.slope * v + quantile.offset;
  T p = T{} + quantile.coefficients[BetaQuantile::kTerms - 1];
  METRIX_UNROLL
  for (int k = BetaQuantile::kTerms - 2; k >= 0; --k) p = p * t + quantile.coefficients[k];
  return select(in_upper_half(word), 1. - v * p, v * p);
}

METRIX_FN double lambda_of_pair(uint64_t seed, uint64_t i, uint64_t j, const BetaQuantile& quantile) {
  const uint64_t word = word_of_pair(seed, i, j);
  return beta_quantile(word, quantile_variable<double>(word, quantile), quantile);
}

// lambda_ij from lambda of {i, j}: lambda_ji = 1 - lambda_ij in T itself, and one half where i = j.
template <class T, class Condition>
METRIX_FN T weight_of_first(T lambda, Condition same, Condition ordered) {
  return select(same, T{} + 0.5f, select(ordered, lambda, 1.f - lambda));
}

}  // namespace metrix
