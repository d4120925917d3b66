// The mixes that an anchor uses, with their labels, and the anchors that may use a mix: the index of both walks.
#pragma once

#include <cstdint>
#include <vector>

#include "anchor_sums.h"
#include "cpu/common/pair_set.h"

namespace metrix::cpu {

// Anchors of a class share their mixes: so many similarities of each mix are taken while it is in the cache.
constexpr int64_t kAnchorsTogether = 16;

struct Group {
  int64_t begin, end;  // of an order of the anchors
};

template <class T>
class MixesOfAnchor {
 public:
  explicit MixesOfAnchor(const AnchorSumsArgs<T>& args) : args_(args), list_(args.mixes), who_(args.relations) {}

  // The label of mix p for an anchor, or -1 where it does not use it.
  T label(int64_t anchor, int64_t p) const {
    return mixed_label(who_, args_.pairs, args_.both_orders, anchor, list_.first[p], list_.second[p], list_.lambda[p]);
  }

  // 1 / |z_p|, or 1 where the similarity is that of z itself.
  T inverse_norm(int64_t p) const { return args_.inverse_norms == nullptr ? T(1) : args_.inverse_norms[p]; }

  // body(mix) once for every mix that an anchor like this one may use.
  template <class Body>
  void for_each_mix(int64_t anchor, const Body& body) const {
    if (args_.pairs == Pairs::kNegNeg) {
      for (int64_t p = 0; p < list_.count; ++p) body(p);
    } else if (describe(args_.pairs).with_anchor) {
      if (who_.self[anchor] >= 0) for_each_use(who_.self[anchor], body);
    } else if (who_.mask == nullptr) {
      for (int64_t e = who_.positives[2 * anchor]; e < who_.positives[2 * anchor + 1]; ++e) for_each_use(e, body);
    } else {
      for (int64_t e = 0; e < who_.examples; ++e)
        if (relation(who_, anchor, e) == 1) for_each_use(e, body);
    }
  }

  // body(anchor) once for every anchor that may use mix p.
  template <class Body>
  void for_each_anchor(int64_t p, const Body& body) const {
    if (args_.anchor_order == nullptr) {
      for (int64_t a = 0; a < who_.anchors; ++a) body(a);
      return;
    }
    const int64_t* const of_first = args_.anchors_of + 2 * list_.first[p];
    const int64_t* const of_second = args_.anchors_of + 2 * list_.second[p];
    for (int64_t k = of_first[0]; k < of_first[1]; ++k) body(args_.anchor_order[k]);
    // One range or two apart, but that of a class without anchors may be empty where another begins.
    if (of_second[1] != of_first[1])
      for (int64_t k = of_second[0]; k < of_second[1]; ++k) body(args_.anchor_order[k]);
  }

 private:
  template <class Body>
  void for_each_use(int64_t example, const Body& body) const {
    // pos-pos has two positives: its mixes are found by their first alone.
    const bool as_second = args_.both_orders && args_.pairs != Pairs::kPosPos;
    for (int64_t u = list_.begin[example]; u < list_.begin[example + 1]; ++u) {
      const int64_t use = list_.uses[u];
      if (use < list_.count)
        body(use);
      else if (as_second)
        body(use - list_.count);
    }
  }

  const AnchorSumsArgs<T>& args_;
  const Mixes<T>& list_;
  const AnchorRelations& who_;
};

// Anchors of equal positives share their mixes, and with neg-neg all do, unless a mask or the anchor itself tells them
// apart.
template <class T>
class AnchorGroups {
 public:
  explicit AnchorGroups(const AnchorSumsArgs<T>& args) {
    const AnchorRelations& who = args.relations;
    const bool any = args.anchor_order == nullptr;
    for (int64_t k = 0; k < who.anchors; ++k) order_.push_back(any ? k : args.anchor_order[k]);
    const bool alone = who.mask != nullptr || describe(args.pairs).with_anchor;
    const auto alike = [&](int64_t a, int64_t b) {
      return !alone && (any || (who.positives[2 * a] == who.positives[2 * b] &&
                                who.positives[2 * a + 1] == who.positives[2 * b + 1]));
    };
    for (int64_t k = 0; k < who.anchors; ++k) {
      const bool joins = k > 0 && groups_.back().end - groups_.back().begin < kAnchorsTogether &&
                         alike(order_[groups_.back().begin], order_[k]);
      if (!joins) groups_.push_back({k, k});
      groups_.back().end = k + 1;
    }
  }

  int64_t size() const { return int64_t(groups_.size()); }
  const int64_t* begin(int64_t g) const { return order_.data() + groups_[g].begin; }
  int64_t count(int64_t g) const { return groups_[g].end - groups_[g].begin; }

 private:
  std::vector<int64_t> order_;
  std::vector<Group> groups_;
};

}  // namespace metrix::cpu
