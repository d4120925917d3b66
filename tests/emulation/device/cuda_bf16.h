// Stands in for the CUDA header: what the kernels use of bfloat16.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda_fp16.h"

struct __nv_bfloat16 {
  std::uint16_t bits;
};
struct __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline float __bfloat162float(__nv_bfloat16 x) {
  const std::uint32_t bits = std::uint32_t(x.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  if (x != x) return {0x7fff};
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return {std::uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  const auto fma = [](__nv_bfloat16 x, __nv_bfloat16 y, __nv_bfloat16 z) {
    return std::fma(__bfloat162float(x), __bfloat162float(y), __bfloat162float(z));
  };
  return emulation::by_half<__nv_bfloat162>(fma, __float2bfloat16_rn, a, b, c);
}
inline __nv_bfloat162 __hmax2_nan(__nv_bfloat162 a, __nv_bfloat162 b) {
  const auto larger = [](__nv_bfloat16 x, __nv_bfloat16 y) {
    return emulation::larger_or_nan(__bfloat162float(x), __bfloat162float(y));
  };
  return emulation::by_half<__nv_bfloat162>(larger, __float2bfloat16_rn, a, b);
}
inline unsigned __hgt2_mask(__nv_bfloat162 a, __nv_bfloat162 b) {
  return emulation::mask_of(__bfloat162float(a.x) > __bfloat162float(b.x),
                            __bfloat162float(a.y) > __bfloat162float(b.y));
}
