// Half, bfloat16, float and double behind one set of names.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <type_traits>

#include "mixes.h"

namespace metrix::cuda {

__device__ __forceinline__ float to_number(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_number(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_number(float x) { return x; }
__device__ __forceinline__ double to_number(double x) { return x; }

__device__ __forceinline__ void round_to(float x, __half& element) { element = __float2half_rn(x); }
__device__ __forceinline__ void round_to(float x, __nv_bfloat16& element) { element = __float2bfloat16_rn(x); }
__device__ __forceinline__ void round_to(float x, float& element) { element = x; }
__device__ __forceinline__ void round_to(double x, double& element) { element = x; }

// Calls with a value of the C++ type of an element, one that is computed in T.
template <class T, class Call>
void with_element(Element element, const Call& call) {
  if constexpr (std::is_same_v<T, double>) {
    if (element == Element::kDouble) return call(double{});
  } else {
    if (element == Element::kHalf) return call(__half{});
    if (element == Element::kBFloat16) return call(__nv_bfloat16{});
    if (element == Element::kFloat) return call(float{});
  }
  throw std::invalid_argument("metrix_ext, CUDA: the type of the elements and that of lambda do not fit");
}

}  // namespace metrix::cuda
