// Stands in for the CUDA headers and the device where the kernels are compiled as plain C++: enough of the language
// and of the run time for csrc/cuda. A launch runs its blocks one after the other; within a block every CUDA thread
// is a fiber that runs to its next barrier or warp exchange. The order of blocks and threads can be turned round, so
// that what depends on it shows.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };
inline const char* cudaGetErrorString(cudaError_t) { return "invalid configuration argument"; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t) {
  return memset(memory, value, bytes), cudaSuccess;
}

enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
namespace emulation {
inline int shared_bytes = 227 * 1024;  // what a block may have at most
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  return *value = emulation::shared_bytes, cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int bytes) {
  return bytes <= emulation::shared_bytes ? cudaSuccess : cudaErrorInvalidConfiguration;
}

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

inline dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace emulation {

struct Barrier {
  int expected = 0, arrived = 0;
  unsigned long generation = 0;
};

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
};

struct Fiber {
  ucontext_t start;
  jmp_buf state;
  std::unique_ptr<char[]> stack;
  bool started, finished;
  std::vector<std::vector<Copy>> copies;  // those committed together, and last those that are not yet
};

constexpr int kWarpSize = 32;
constexpr std::size_t kStackBytes = 128 * 1024;

inline std::vector<Fiber> fibers;
inline std::vector<Barrier> warps;
inline Barrier whole_block;
inline std::vector<std::uint64_t> exchanged;
inline jmp_buf scheduler;
inline int current;
inline int votes;
inline bool reversed = false;
inline long launches = 0;
inline long copied_bytes = 0;   // by copies that go on while threads work
inline unsigned long progress;  // changes whenever a barrier opens or a fiber ends
inline const std::function<void()>* body;

inline void yield() {
  const int me = current;
  if (_setjmp(fibers[me].state) == 0) _longjmp(scheduler, 1);
  current = me;
}

inline void open_if_complete(Barrier& barrier) {
  if (barrier.arrived < barrier.expected) return;
  barrier.arrived = 0;
  ++barrier.generation;
  ++progress;
}

inline void wait(Barrier& barrier) {
  const unsigned long generation = barrier.generation;
  ++barrier.arrived;
  open_if_complete(barrier);
  while (barrier.generation == generation) yield();
}

inline Barrier& warp() { return warps[current / kWarpSize]; }

inline void run_fiber() {
  (*body)();
  fibers[current].finished = true;
  ++progress;
  for (Barrier* barrier : {&whole_block, &warp()}) {
    --barrier->expected;
    if (barrier->arrived > 0) open_if_complete(*barrier);
  }
  _longjmp(scheduler, 1);
}

inline void resume(int index) {
  current = index;
  threadIdx = dim3(unsigned(index), 0, 0);
  if (_setjmp(scheduler) != 0) return;
  Fiber& fiber = fibers[index];
  if (fiber.started) _longjmp(fiber.state, 1);
  fiber.started = true;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = kStackBytes;
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, run_fiber, 0);
  setcontext(&fiber.start);
}

inline void run_block(int threads) {
  while (int(fibers.size()) < threads) {
    fibers.emplace_back();
    fibers.back().stack.reset(new char[kStackBytes]);
  }
  warps.assign((threads + kWarpSize - 1) / kWarpSize, Barrier{});
  for (int t = 0; t < threads; ++t) {
    fibers[t].started = fibers[t].finished = false;
    fibers[t].copies.assign(1, {});
    ++warps[t / kWarpSize].expected;
  }
  whole_block = Barrier{threads, 0, 0};
  exchanged.assign(threads, 0);
  votes = 0;
  for (int alive = threads; alive > 0;) {
    const unsigned long before = progress;
    for (int k = 0; k < threads; ++k) {
      const int t = reversed ? threads - 1 - k : k;
      if (fibers[t].finished) continue;
      resume(t);
      if (fibers[t].finished) --alive;
    }
    if (progress == before)
      throw std::runtime_error("some threads of a block wait at a barrier that the others never reach");
  }
  for (int t = 0; t < threads; ++t)
    for (const std::vector<Copy>& together : fibers[t].copies)
      if (!together.empty()) throw std::runtime_error("a block ends before a copy to its shared memory has come");
}

// Every lane's value of one warp exchange, valid until leave_exchange.
template <class T>
void enter_exchange(T value) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t), "a lane exchanges at most 8 bytes");
  std::memcpy(&exchanged[current], &value, sizeof(T));
  wait(warp());
}

template <class T>
T exchanged_value(int lane) {
  T value;
  std::memcpy(&value, &exchanged[current / kWarpSize * kWarpSize + lane], sizeof(T));
  return value;
}

inline void leave_exchange() { wait(warp()); }

}  // namespace emulation

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  using namespace emulation;
  const dim3 grid_size = config->gridDim;
  const unsigned threads = config->blockDim.x;
  if (grid_size.x == 0 || grid_size.y == 0 || grid_size.y > 65535 || threads == 0 || threads > 1024)
    return cudaErrorInvalidConfiguration;
  ++launches;
  gridDim = grid_size;
  blockDim = config->blockDim;
  const std::function<void()> call = [&] { kernel(arguments...); };
  body = &call;
  const unsigned blocks = grid_size.x * grid_size.y;
  for (unsigned k = 0; k < blocks; ++k) {
    const unsigned index = reversed ? blocks - 1 - k : k;
    blockIdx = dim3(index % grid_size.x, index / grid_size.x);
    run_block(int(threads));
  }
  return cudaSuccess;
}

struct uint2 {
  unsigned x, y;
};
struct uint4 {
  unsigned x, y, z, w;
};

inline void __syncthreads() { emulation::wait(emulation::whole_block); }

inline int __syncthreads_or(int predicate) {
  emulation::votes |= predicate != 0;
  __syncthreads();
  const int any = emulation::votes;
  __syncthreads();
  emulation::votes = 0;
  return any;
}

template <class T>
T __shfl_xor_sync(unsigned, T value, int lanes) {
  emulation::enter_exchange(value);
  const T other = emulation::exchanged_value<T>(emulation::current % emulation::kWarpSize ^ lanes);
  emulation::leave_exchange();
  return other;
}

template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  emulation::enter_exchange(value);
  const T other = emulation::exchanged_value<T>(lane);
  emulation::leave_exchange();
  return other;
}

inline unsigned __ballot_sync(unsigned, bool predicate) {
  emulation::enter_exchange(predicate);
  unsigned votes = 0;
  const int first = emulation::current / emulation::kWarpSize * emulation::kWarpSize;
  for (int lane = 0; lane < emulation::kWarpSize && first + lane < int(blockDim.x); ++lane)
    votes |= unsigned(emulation::exchanged_value<bool>(lane)) << lane;
  emulation::leave_exchange();
  return votes;
}

template <class T>
T __ldg(const T* address) {
  return *address;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }

inline bool __all_sync(unsigned, bool predicate) {
  emulation::enter_exchange(predicate);
  bool all = true;
  const int first = emulation::current / emulation::kWarpSize * emulation::kWarpSize;
  for (int lane = 0; lane < emulation::kWarpSize && first + lane < int(blockDim.x); ++lane)
    all = all && emulation::exchanged_value<bool>(lane);
  emulation::leave_exchange();
  return all;
}
