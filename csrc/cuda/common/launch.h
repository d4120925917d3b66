// What every launch needs: the right device, and an exception when something went wrong.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace metrix::cuda {

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

// Runs kernel(arguments...) on a stream of the current device; name is for the exception.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads, void* stream,
            const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(unsigned(threads));
  config.stream = static_cast<cudaStream_t>(stream);
  check(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), name);
}

// Zeros; a graph captures it like a kernel.
template <class T>
void clear(T* elements, int64_t count, void* stream) {
  check(cudaMemsetAsync(elements, 0, std::size_t(count) * sizeof(T), static_cast<cudaStream_t>(stream)), "clear");
}

}  // namespace metrix::cuda
