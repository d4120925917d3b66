// Work split into slabs whose number does not depend on the number of threads: what each slab adds up, and in
// which order, is then the same on every machine, and so are the bits of the result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <vector>

namespace metrix::cpu {

constexpr int64_t kSlabs = 64;

// Calls body(worker, slab) for every slab below count, each thread with a Worker of its own, and rethrows the
// first exception.
template <class Worker, class Body>
void for_each_slab(int64_t count, int threads, const Body& body) {
  std::exception_ptr failure;
#pragma omp parallel num_threads(int(std::max<int64_t>(1, std::min<int64_t>(threads, count)))) if (threads > 1)
  {
    Worker worker;
#pragma omp for schedule(dynamic, 1)
    for (int64_t slab = 0; slab < count; ++slab) {
      try {
        body(worker, slab);
      } catch (...) {
#pragma omp critical(metrix_failure)
        if (!failure) failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace metrix::cpu
