// Work split into slabs whose number does not depend on the number of threads: what each slab adds up, and in
// which order, is then the same on every machine, and so are the bits of the result.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <vector>

namespace metrix::cpu {

// Slabs of a sum: a few for each of the threads of usual machines, so that threads which finish early find more to do,
// and few enough that a partial result of each costs little memory.
constexpr int64_t kSlabs = 64;

// Starting threads takes some microseconds, in which one thread does this many steps of a loop; an op with costlier
// or cheaper steps says how many of its own.
constexpr int64_t kWorthAThread = 65536;

// In a fork, whether the process that it comes from had threads here.
inline bool lost_threads = false;

// As many threads as are asked for; one in a fork of a process that had several. A fork does not have them, and
// libgomp would wait for them for ever.
inline int threads_of_process(int threads) {
  if (threads > 1) {
    static const int registered = pthread_atfork(nullptr, nullptr, [] { lost_threads = true; });
    (void)registered;
  }
  return lost_threads ? 1 : threads;
}

// As many threads as are given if the work is worth them.
inline int threads_for(int64_t work, int threads, int64_t worth = kWorthAThread) { return work < worth ? 1 : threads; }

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

// The Worker of a body that needs no memory of its own.
struct NoScratch {};

// Calls body(worker, item) for every item below count, neighbours in one slab.
template <class Worker, class Body>
void for_each_item(int64_t count, int threads, const Body& body) {
  const int64_t slabs = std::min(count, kSlabs);
  for_each_slab<Worker>(slabs, threads, [&](Worker& worker, int64_t slab) {
    for (int64_t item = count * slab / slabs; item < count * (slab + 1) / slabs; ++item) body(worker, item);
  });
}

}  // namespace metrix::cpu
