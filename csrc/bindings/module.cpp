// metrix_ext._C: what was built, where a call runs, and the ops.
#include "binding.h"
#include "cpu/loops/rows.h"

namespace metrix::bindings {
namespace {

void bind_where(py::module_& m) {
  const auto on_cpu = [](int threads) { return Where{.threads = threads}; };
  auto where = py::class_<Where>(m, "Where", py::module_local()).def(py::init(on_cpu), "threads"_a);
  if constexpr (kCuda) {
    const auto on_cuda = [](int device, std::uintptr_t stream, py::object memory) {
      const auto workspace = py::cast<Out<void>>(memory);
      return Where{true, 1, device, reinterpret_cast<void*>(stream), workspace, std::move(memory)};
    };
    where.def(py::init(on_cuda), "device"_a, "stream"_a, "workspace"_a = py::none());
  }
}

}  // namespace
}  // namespace metrix::bindings

PYBIND11_MODULE(_C, m) {
  using namespace metrix::bindings;
  m.doc() = "Native kernels of metrix_ext; use them through metrix_ext.ops.";
  m.attr("cuda_architectures") = METRIX_CUDA_ARCHITECTURES;
  m.attr("compiler") = METRIX_COMPILER;
  m.def("instruction_set", &metrix::cpu::instruction_set);
  bind_where(m);
  bind_batch(m);
  bind_pair_lambda(m);
  bind_pair_sums(m);
  bind_mix_pool(m);
  bind_anchor_sums(m);
}
