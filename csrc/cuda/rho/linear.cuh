// The linear family, contrastive and triplet: rho(s) = max(scale s + shift, floor), floor 0 or minus infinity;
// d rho / d s = scale above the floor, else 0.
#pragma once

#include "pointwise.cuh"

namespace metrix::cuda {

struct LinearFormula {
  template <class T>
  __device__ __forceinline__ static T value(const DeviceRho<T>& rho, int side, T s, T weight) {
    return linear_rho(s, rho.scale[side], rho.shift_of(side, weight), rho.floor[side]);
  }

  template <class T>
  __device__ __forceinline__ static T derivative(const DeviceRho<T>& rho, int side, T s, T weight) {
    return linear_rho_slope(s, rho.scale[side], rho.shift_of(side, weight), rho.floor[side]);
  }
};

using Linear = Pointwise<LinearFormula>;

}  // namespace metrix::cuda
