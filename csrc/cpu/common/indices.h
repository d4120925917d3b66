// Indices that come from Python, checked before a kernel follows them: a pass over them costs nothing beside what they
// index. On CUDA they are not, since it would have to wait for the device.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "anchor_sums.h"
#include "mixes.h"
#include "pair_sums.h"

namespace metrix::cpu {

[[noreturn]] inline void refuse(const std::string& name, const std::string& got, const std::string& expected) {
  throw std::invalid_argument(name + ": got " + got + ", expected " + expected);
}

inline std::string range(int64_t begin, int64_t end) { return std::to_string(begin) + " to " + std::to_string(end); }

// All from least to most.
inline void check_within(const char* name, const int64_t* indices, int64_t count, int64_t least, int64_t most) {
  for (int64_t k = 0; k < count; ++k)
    if (indices[k] < least || indices[k] > most) refuse(name, std::to_string(indices[k]), range(least, most));
}

// Every number below n once.
inline void check_permutation(const char* name, const int64_t* order, int64_t n) {
  check_within(name, order, n, 0, n - 1);
  std::vector<bool> seen(n, false);
  for (int64_t k = 0; k < n; ++k) {
    if (seen[order[k]]) refuse(name, std::to_string(order[k]) + " twice", "each of " + range(0, n - 1) + " once");
    seen[order[k]] = true;
  }
}

// Ranges of the examples, [m, 2], the anchors' own columns, which are of their classes, and the mask, [m, n] or null,
// in which these are neither positive nor negative.
inline void check_relations(const int64_t* positives, const int64_t* self, const int8_t* mask, int64_t anchors,
                            int64_t examples) {
  for (int64_t a = 0; a < anchors; ++a) {
    const int64_t begin = positives[2 * a], end = positives[2 * a + 1];
    if (begin < 0 || begin > end || end > examples)
      refuse("relations.positives", range(begin, end), "a range of 0 to " + std::to_string(examples));
  }
  check_within("relations.self_index", self, anchors, -1, examples - 1);
  for (int64_t a = 0; a < anchors; ++a) {
    if (self[a] < 0) continue;
    if (self[a] < positives[2 * a] || self[a] >= positives[2 * a + 1])
      refuse("relations.self_index", std::to_string(self[a]),
             "one of the class " + range(positives[2 * a], positives[2 * a + 1]));
    if (mask != nullptr && mask[a * examples + self[a]] != 0)
      refuse("relations.mask", std::to_string(mask[a * examples + self[a]]) + " for an anchor itself", "0");
  }
}

// Ranges are equal or apart, as those of classes are.
inline void check_classes(const int64_t* positives, int64_t anchors, int64_t examples) {
  std::vector<int64_t> ends(examples, 0);  // by the first of a class, 0: no class begins here
  const auto differ = [&](int64_t begin, int64_t end) {
    refuse("relations.positives", range(begin, end) + " beside another range that it overlaps", "ranges of classes");
  };
  for (int64_t a = 0; a < anchors; ++a) {
    const int64_t begin = positives[2 * a], end = positives[2 * a + 1];
    if (begin == end) continue;
    if (ends[begin] != 0 && ends[begin] != end) differ(begin, end);
    ends[begin] = end;
  }
  for (int64_t begin = 0, taken = 0; begin < examples; ++begin) {
    if (ends[begin] == 0) continue;
    if (begin < taken) differ(begin, ends[begin]);
    taken = ends[begin];
  }
}

template <class T>
void check_indices(const PairSumsArgs<T>& args) {
  check_relations(args.positives, args.self, args.mask, args.anchors, args.examples);
  const bool with_positives_first = args.pairs == Pairs::kPosNeg || args.pairs == Pairs::kPosPos;
  const bool is_window = with_positives_first && (args.first_row != 0 || args.rows < args.examples);
  for (int64_t a = 0; a < args.anchors; ++a) {
    const int64_t begin = args.positives[2 * a], end = args.positives[2 * a + 1];
    if (args.anchors_in_order &&
        (args.self[a] != a || args.positives[2 * begin] != begin || args.positives[2 * begin + 1] != end))
      refuse("relations.positives", range(begin, end), "the class of anchor " + std::to_string(a) + ", an example");
    if (is_window && args.mask == nullptr && begin < end &&
        (begin < args.first_row || end > args.first_row + args.rows))
      refuse("relations.positives", range(begin, end), "columns of the rows of lam and gram");
  }
}

// A list of mixes: two examples each, and of every example its uses in their order.
template <class T>
void check_indices(const Mixes<T>& list) {
  const int64_t n = list.examples, uses = 2 * list.count;
  for (int64_t e = 0; e < n; ++e)
    if (list.begin[e] < 0 || list.begin[e] > list.begin[e + 1])
      refuse("mixes.begin", range(list.begin[e], list.begin[e + 1]), "a range of 0 to " + std::to_string(uses));
  if (list.begin[0] != 0 || list.begin[n] != uses)
    refuse("mixes.begin", range(list.begin[0], list.begin[n]) + " in all", range(0, uses));
  check_within("mixes.first", list.first, list.count, 0, n - 1);
  check_within("mixes.second", list.second, list.count, 0, n - 1);
  for (int64_t e = 0; e < n; ++e)
    for (int64_t k = list.begin[e]; k < list.begin[e + 1]; ++k) {
      const int64_t use = list.uses[k];
      const bool is_next = 0 <= use && use < uses && (k == list.begin[e] || list.uses[k - 1] < use);
      if (!is_next || (use < list.count ? list.first[use] : list.second[use - list.count]) != e)
        refuse("mixes.uses", std::to_string(use), "the uses of example " + std::to_string(e) + " in their order");
    }
}

template <class T>
void check_indices(const AnchorSumsArgs<T>& args) {
  const AnchorRelations& who = args.relations;
  check_indices(args.mixes);
  check_relations(who.positives, who.self, who.mask, who.anchors, who.examples);
  if (args.anchor_order == nullptr) return;
  check_classes(who.positives, who.anchors, who.examples);
  check_permutation("anchor_order", args.anchor_order, who.anchors);
  check_within("anchors_of", args.anchors_of, 2 * who.examples, 0, who.anchors);
}

}  // namespace metrix::cpu
