// The positives or the negatives of an anchor as ranges of columns, and rows of matrices packed by them: what the
// loops read is then contiguous, aligned and padded whatever the set of pairs is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/common/sizes.h"
#include "cpu/loops/rows.h"
#include "pair_sums.h"

namespace metrix::cpu {

struct Range {
  int64_t begin, end;
};

// The anchor's own column stays in its positives; the callers give it weight 0.
template <class T>
void find_candidates(const PairSumsArgs<T>& args, int64_t anchor, bool positive, std::vector<Range>& ranges) {
  ranges.clear();
  const auto add = [&](int64_t begin, int64_t end) {
    if (begin < end) ranges.push_back({begin, end});
  };
  if (args.mask != nullptr) {
    const int8_t* mask = args.mask + anchor * args.examples;
    const int8_t wanted = positive ? 1 : -1;
    for (int64_t j = 0; j < args.examples;) {
      const int64_t begin = j;
      while (j < args.examples && mask[j] == wanted) ++j;
      add(begin, j);
      if (begin == j) ++j;
    }
    return;
  }
  const int64_t begin = args.positives[2 * anchor], end = args.positives[2 * anchor + 1];
  if (positive) {
    add(begin, end);
  } else {
    add(0, begin);
    add(end, args.examples);
  }
}

inline int64_t count(const std::vector<Range>& ranges) {
  int64_t total = 0;
  for (const Range& range : ranges) total += range.end - range.begin;
  return total;
}

inline bool contains(const std::vector<Range>& ranges, int64_t column) {
  for (const Range& range : ranges)
    if (range.begin <= column && column < range.end) return true;
  return false;
}

// Position among the packed columns of the first one that is not below column.
inline int64_t packed_position(const std::vector<Range>& ranges, int64_t column) {
  int64_t position = 0;
  for (const Range& range : ranges) {
    if (column < range.end) return position + std::max<int64_t>(0, column - range.begin);
    position += range.end - range.begin;
  }
  return position;
}

inline int64_t padded_row(int64_t columns) { return padded(columns, kRowPad); }

// The elements of a row in these columns, and 0 up to size.
template <class T>
void pack(const std::vector<Range>& ranges, const T* row, int64_t size, T* packed) {
  std::fill(packed + size - kRowPad, packed + size, T(0));
  for (const Range& range : ranges) packed = std::copy(row + range.begin, row + range.end, packed);
}

template <class T>
void add_unpacked(const std::vector<Range>& ranges, const T* packed, T* row) {
  for (const Range& range : ranges)
    for (int64_t j = range.begin; j < range.end; ++j) row[j] += *packed++;
}

// The columns of some ranges, a few at a time.
class Tiles {
 public:
  explicit Tiles(const std::vector<Range>& ranges) : ranges_(ranges) {}

  // The next columns, at most so many; false at the end.
  bool next(int64_t room, std::vector<Range>& tile) {
    tile.clear();
    while (room > 0 && range_ < ranges_.size()) {
      const int64_t from = ranges_[range_].begin + begin_;
      const int64_t taken = std::min(room, ranges_[range_].end - from);
      tile.push_back({from, from + taken});
      room -= taken;
      begin_ += taken;
      if (from + taken == ranges_[range_].end) {
        ++range_;
        begin_ = 0;
      }
    }
    return !tile.empty();
  }

 private:
  const std::vector<Range>& ranges_;
  size_t range_ = 0;
  int64_t begin_ = 0;  // within the range
};

}  // namespace metrix::cpu
