// Addresses as kernels with tiles in shared memory need them: copies from global to shared memory that go on while the
// thread works
// (__pipeline_commit() and __pipeline_wait_prior() of CUDA wait for them), and addresses that the compiler leaves
// alone.
#pragma once

#include <cuda_pipeline.h>

#include <cstdint>
#include <cstring>

namespace metrix::cuda {

// An address in shared memory. The compiler's own copies take a pointer, and make the address of it before each of them
// from two special registers; this number is made once.
class SharedAddress {
 public:
  __device__ __forceinline__ explicit SharedAddress(void* memory) {
#ifdef __CUDA_ARCH__
    address_ = unsigned(__cvta_generic_to_shared(memory));
    asm volatile("" : "+r"(address_));
#else
    address_ = static_cast<char*>(memory);
#endif
  }

  // Begins to copy 16 bytes to so many bytes behind the address. Both are a multiple of 16.
  __device__ __forceinline__ void copy_16_bytes(int behind, const void* from) const {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address_ + behind), "l"(from) : "memory");
#else
    __pipeline_memcpy_async(address_ + behind, from, 16);
#endif
  }

  // The same, or zeros where there is nothing to copy; from is not read then.
  __device__ __forceinline__ void copy_16_bytes_or_zeros(int behind, const void* from, bool exists) const {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address_ + behind), "l"(from),
                 "r"(exists ? 16 : 0)
                 : "memory");
#else
    if (exists)
      __pipeline_memcpy_async(address_ + behind, from, 16);
    else
      memset(address_ + behind, 0, 16);
#endif
  }

 private:
#ifdef __CUDA_ARCH__
  unsigned address_;
#else
  char* address_;
#endif
};

// The shared memory whose size is the launch's, in bytes; aligned to 16.
constexpr int kMostDynamicMemory = 227 * 1024;

__device__ __forceinline__ char* dynamic_shared_memory() {
#ifdef __CUDA_ARCH__
  extern __shared__ __align__(16) char dynamic_memory[];
  return dynamic_memory;
#else
  alignas(16) static char dynamic_memory[kMostDynamicMemory];
  return dynamic_memory;
#endif
}

// The same address, of which the compiler forgets how it came about. Otherwise it computes every address of an inner
// loop from the beginning of the matrix, with six instructions instead of one.
template <class E>
__device__ __forceinline__ const E* as_given(const E* address) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(address));
#endif
  return address;
}

}  // namespace metrix::cuda
