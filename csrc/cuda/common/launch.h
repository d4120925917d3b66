// What every op needs on the host: grids and workspace that follow from the shapes alone, so that a captured graph
// stays right when the data changes; then the right device, the launch, and an exception when something went wrong.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace metrix::cuda {

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// As many threads as there are columns, in whole warps, up to a limit.
inline int threads_for(int64_t columns, int limit) {
  return int(std::max<int64_t>(32, std::min<int64_t>(limit, ceil_div(columns, 32) * 32)));
}

// Hands out pieces of the workspace; without one it only counts.
class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}

  template <class U>
  U* take(int64_t count) {
    U* const piece = base_ == nullptr ? nullptr : reinterpret_cast<U*>(base_ + used_);
    used_ += ceil_div(count * int64_t(sizeof(U)), 256) * 256;
    return piece;
  }

  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string("metrix_ext, CUDA, ") + what + ": " + cudaGetErrorString(status));
}

// Makes a device current and restores the one before.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (device != before_) check(cudaSetDevice(device), "cudaSetDevice");
    changed_ = device != before_;
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

// Blocks, their threads, and bytes of shared memory beyond what the kernel declares.
struct Grid {
  dim3 blocks;
  int threads;
  int64_t shared_bytes = 0;
};

// Runs kernel(arguments...) on a stream of the current device; name is for the exception.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const Grid& grid, void* stream,
            const Arguments&... arguments) {
  constexpr int64_t kAlwaysGranted = 48 * 1024;
  if (grid.shared_bytes > kAlwaysGranted)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(grid.shared_bytes)), name);
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = dim3(unsigned(grid.threads));
  config.dynamicSmemBytes = std::size_t(grid.shared_bytes);
  config.stream = static_cast<cudaStream_t>(stream);
  check(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), name);
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 blocks, int threads, void* stream,
            const Arguments&... arguments) {
  launch(name, kernel, Grid{blocks, threads}, stream, arguments...);
}

// Bytes of shared memory that a block may have at most on the current device.
inline int64_t most_shared_bytes(int device) {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "cudaDeviceGetAttribute");
  return bytes;
}

// Zeros; a graph captures it like a kernel.
template <class T>
void clear(T* elements, int64_t count, void* stream) {
  check(cudaMemsetAsync(elements, 0, std::size_t(count) * sizeof(T), static_cast<cudaStream_t>(stream)), "clear");
}

}  // namespace metrix::cuda
