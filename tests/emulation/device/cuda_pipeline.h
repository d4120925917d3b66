// Stands in for the CUDA header: copies to shared memory that come as late as they may, when the thread waits for them.
#pragma once

#include <cstring>

#include "cuda_runtime.h"

inline void __pipeline_memcpy_async(void* to, const void* from, std::size_t bytes) {
  emulation::fibers[emulation::current].copies.back().push_back({to, from, bytes});
}

inline void __pipeline_commit() { emulation::fibers[emulation::current].copies.emplace_back(); }

// Until all that was committed has come but the last so many.
inline void __pipeline_wait_prior(std::size_t last) {
  auto& copies = emulation::fibers[emulation::current].copies;
  for (std::size_t k = 0; k + 1 + last < copies.size(); ++k) {
    for (const emulation::Copy& copy : copies[k]) {
      std::memcpy(copy.to, copy.from, copy.bytes);
      emulation::copied_bytes += long(copy.bytes);
    }
    copies[k].clear();
  }
}
