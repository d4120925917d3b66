// A list of mixes, which mix_pool and anchor_sums read.
#pragma once

#include "binding.h"
#include "mixes.h"

namespace metrix::bindings {

// From what has the fields of Mixes in metrix_ext/terms/mixes.py; its tensors are contiguous.
template <class T>
Mixes<T> make_mixes(py::handle list) {
  const auto first = field<"first", py::object>(list), begin = field<"begin", py::object>(list);
  return {int64_t(py::len(first)),         int64_t(py::len(begin)) - 1,
          py::cast<In<int64_t>>(first),    field<"second", In<int64_t>>(list),
          field<"lam", In<T>>(list),       py::cast<In<int64_t>>(begin),
          field<"uses", In<int64_t>>(list)};
}

}  // namespace metrix::bindings
