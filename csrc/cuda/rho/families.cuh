// The families of rho, and the one place that chooses between them.
#pragma once

#include "exponential.cuh"
#include "linear.cuh"

namespace metrix::cuda {

static_assert(RhoFamily<Exponential, float> && RhoFamily<Exponential, double>);
static_assert(RhoFamily<Linear, float> && RhoFamily<Linear, double>);

// What tells at run time which family a rho is of.
using FamilyId = decltype(Rho::exponential);

// Calls with the family of a rho, on the host: kernels are compiled for each.
template <class Call>
void with_family(const Rho& rho, const Call& call) {
  rho.exponential ? call(Exponential{}) : call(Linear{});
}

// The same in a kernel that is compiled once for all of them.
template <class Call>
__device__ __forceinline__ auto in_family(FamilyId exponential, const Call& call) {
  return exponential ? call(Exponential{}) : call(Linear{});
}

}  // namespace metrix::cuda
