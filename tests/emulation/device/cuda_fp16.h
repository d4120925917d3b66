// Stands in for the CUDA header: what the kernels use of half precision. g++ rounds to _Float16 as the device does; a
// fused multiply-add goes through float, whose own rounding can move a tie.
#pragma once

#include <cmath>
#include <limits>

struct __half {
  _Float16 value;
};
struct __half2 {
  __half x, y;
};

inline float __half2float(__half x) { return float(x.value); }
inline __half __float2half_rn(float x) { return {_Float16(x)}; }

namespace emulation {

// Applies what is defined for floats to both halves of pairs.
template <class V, class To, class From, class... Vs>
V by_half(To to_float, From from_float, Vs... v) {
  V result;
  result.x = from_float(to_float(v.x...));
  result.y = from_float(to_float(v.y...));
  return result;
}

inline float larger_or_nan(float x, float y) {
  return x != x || y != y ? std::numeric_limits<float>::quiet_NaN() : x > y ? x : y;
}

inline unsigned mask_of(bool low, bool high) { return (low ? 0xffffu : 0u) | (high ? 0xffff0000u : 0u); }

}  // namespace emulation

inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  const auto fma = [](__half x, __half y, __half z) {
    return std::fma(__half2float(x), __half2float(y), __half2float(z));
  };
  return emulation::by_half<__half2>(fma, __float2half_rn, a, b, c);
}
inline __half2 __hmax2_nan(__half2 a, __half2 b) {
  const auto larger = [](__half x, __half y) { return emulation::larger_or_nan(__half2float(x), __half2float(y)); };
  return emulation::by_half<__half2>(larger, __float2half_rn, a, b);
}
inline unsigned __hgt2_mask(__half2 a, __half2 b) {
  return emulation::mask_of(a.x.value > b.x.value, a.y.value > b.y.value);
}
