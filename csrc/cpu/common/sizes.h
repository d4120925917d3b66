#pragma once

#include <cstdint>

namespace metrix::cpu {

inline int64_t ceil_div(int64_t size, int64_t part) { return (size + part - 1) / part; }

// The least multiple that is not below size.
inline int64_t padded(int64_t size, int64_t multiple) { return ceil_div(size, multiple) * multiple; }

}  // namespace metrix::cpu
