// The anchors in groups of equal positives and negatives, and the groups shared out among threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "cpu/common/pair_set.h"
#include "cpu/common/parallel.h"

namespace metrix::cpu {

struct Groups {
  std::vector<int64_t> anchors;
  std::vector<int64_t> offsets;  // group g is anchors[offsets[g] .. offsets[g + 1])

  int64_t size() const { return int64_t(offsets.size()) - 1; }
  int64_t slabs() const { return std::min(size(), kSlabs); }
  const int64_t* begin(int64_t g) const { return anchors.data() + offsets[g]; }
  int64_t count(int64_t g) const { return offsets[g + 1] - offsets[g]; }
};

// Every anchor for itself where there is nothing to share: with a mask, of clean sums, and where it is the first of its
// pairs.
template <class T>
Groups group_anchors(const PairSumsArgs<T>& args, const PairSet& set) {
  Groups groups;
  groups.anchors.resize(args.anchors);
  std::iota(groups.anchors.begin(), groups.anchors.end(), 0);
  const auto key = [&](int64_t a) { return std::make_pair(args.positives[2 * a], args.positives[2 * a + 1]); };
  const bool shared = set.mixed && !set.with_anchor && args.mask == nullptr;
  if (shared)
    std::stable_sort(groups.anchors.begin(), groups.anchors.end(),
                     [&](int64_t a, int64_t b) { return key(a) < key(b); });
  groups.offsets.push_back(0);
  for (int64_t k = 1; k <= args.anchors; ++k)
    if (k == args.anchors || !shared || key(groups.anchors[k - 1]) != key(groups.anchors[k]))
      groups.offsets.push_back(k);
  return groups;
}

// Terms, which cost exponentials, so fewer of them are worth a thread. Every set has at least about m n, enough to tell
// small problems from large ones.
constexpr int64_t kTermsWorthAThread = 8192;

// body(worker, slab) for every slab below a number.
template <class Worker, class T, class Body>
void for_each_slab_of(const PairSumsArgs<T>& args, int64_t slabs, int threads, const Body& body) {
  for_each_slab<Worker>(slabs, threads_for(args.anchors * args.examples, threads, kTermsWorthAThread), body);
}

}  // namespace metrix::cpu
