// Vectors of the width of an instruction set, by the vector extensions that GCC and Clang share, as numbers for the
// formulas of math.h. Included by the sources that are compiled once per instruction set alone: every width is a type
// of its own translation unit.
#pragma once

#include <cstdint>

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "math.h"

// A name that ends in that of the instruction set.
#define METRIX_JOIN_(a, b) a##b
#define METRIX_JOIN(a, b) METRIX_JOIN_(a, b)
#define METRIX_OF_ISA(name) METRIX_JOIN(name, METRIX_ISA)

namespace metrix {
namespace {

#define METRIX_VECTOR __attribute__((vector_size(METRIX_VECTOR_BYTES)))
typedef float F32 METRIX_VECTOR;
typedef double F64 METRIX_VECTOR;
typedef uint32_t U32 METRIX_VECTOR;
typedef uint64_t U64 METRIX_VECTOR;
typedef int32_t M32 METRIX_VECTOR;  // what a comparison gives
typedef int64_t M64 METRIX_VECTOR;
#undef METRIX_VECTOR

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type = F32;
};
template <>
struct VectorOf<double> {
  using type = F64;
};
template <class T>
using Vector = typename VectorOf<T>::type;

template <class T>
constexpr int64_t kLanes = METRIX_VECTOR_BYTES / sizeof(T);

}  // namespace

// Element by element in the source, one instruction in the object.
template <>
struct SquareRoot<F32> {
  METRIX_FN F32 of(F32 x) {
    for (int64_t l = 0; l < kLanes<float>; ++l) x[l] = __builtin_sqrtf(x[l]);
    return x;
  }
};
template <>
struct SquareRoot<F64> {
  METRIX_FN F64 of(F64 x) {
    for (int64_t l = 0; l < kLanes<double>; ++l) x[l] = __builtin_sqrt(x[l]);
    return x;
  }
};

template <>
struct PowerOfTwo<F32> {
  METRIX_FN F32 of(F32 x) { return exp2_single<U32>(x); }
};
template <>
struct PowerOfTwo<F64> {
  METRIX_FN F64 of(F64 x) { return exp2_double<U64>(x); }
};

// The vector extensions know no such product: they would multiply all 64 bits.
#ifdef __SSE2__
template <>
struct HalfProduct<U64> {
  METRIX_FN U64 of(U64 a, uint32_t b) {
    const U64 all_b = U64{} + b;
#if METRIX_VECTOR_BYTES == 64
    return U64(_mm512_maskz_mul_epu32(0xff, __m512i(a), __m512i(all_b)));  // GCC 12 warns of the plain one
#elif METRIX_VECTOR_BYTES == 32
    return U64(_mm256_mul_epu32(__m256i(a), __m256i(all_b)));
#else
    return U64(_mm_mul_epu32(__m128i(a), __m128i(all_b)));
#endif
  }
};
#endif

namespace {

template <class T>
METRIX_FN Vector<T> load(const T* p) {
  Vector<T> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <class T>
METRIX_FN void store(T* p, Vector<T> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

// Folds the upper half of the lanes onto the lower one until one is left; in registers, half the width each time.
template <class T, int64_t lanes, class Combine>
METRIX_FN T fold(const void* v, const Combine& combine) {
  if constexpr (lanes == 1) {
    T last;
    __builtin_memcpy(&last, v, sizeof(last));
    return last;
  } else {
    typedef T Half __attribute__((vector_size(lanes / 2 * sizeof(T))));
    Half halves[2];
    __builtin_memcpy(halves, v, sizeof(halves));
    const Half folded = combine(halves[0], halves[1]);
    return fold<T, lanes / 2>(&folded, combine);
  }
}

template <class T>
METRIX_FN T sum(Vector<T> v) {
  return fold<T, kLanes<T>>(&v, [](auto a, auto b) { return a + b; });
}

template <class T>
METRIX_FN T largest(Vector<T> v) {
  return fold<T, kLanes<T>>(&v, [](auto a, auto b) { return a > b ? a : b; });
}

}  // namespace
}  // namespace metrix
