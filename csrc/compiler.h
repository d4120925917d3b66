// What differs between the compilers of the shared formulas.
#pragma once

#if defined(__CUDACC__)
#define METRIX_FN static __host__ __device__ __forceinline__
#define METRIX_UNROLL _Pragma("unroll")
#else
// Internal linkage and forced inlining: a copy compiled for AVX-512 must never be the one that the
// linker keeps for a caller on an older processor.
#define METRIX_FN static inline __attribute__((always_inline))
#define METRIX_UNROLL _Pragma("GCC unroll 32")
#endif
