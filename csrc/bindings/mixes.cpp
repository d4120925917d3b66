// A list of mixes, which mix_pool and anchor_sums read.
#include "mixes.h"

#include "binding.h"

namespace metrix::bindings {
namespace {

template <class T>
void bind(py::module_& m) {
  const auto make = [](int64_t count, int64_t examples, In<int64_t> first, In<int64_t> second, In<T> lambda,
                       In<int64_t> begin,
                       In<int64_t> uses) { return Mixes<T>{count, examples, first, second, lambda, begin, uses}; };
  py::class_<Mixes<T>>(m, named<T>("Mixes").c_str())
      .def(py::init(make), py::kw_only(), "count"_a, "examples"_a, "first"_a, "second"_a, "lam"_a, "begin"_a, "uses"_a);
}

}  // namespace

void bind_mixes(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace metrix::bindings
