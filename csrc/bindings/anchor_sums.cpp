#include "anchor_sums.h"

#include <tuple>

#include "binding.h"
#include "cpu/common/indices.h"
#include "mix_list.h"
#include "terms.h"

namespace metrix::bindings {
namespace {

// From AnchorSumsArguments of metrix_ext/ops/arguments.py, whose tensors are contiguous.
template <class T>
AnchorSumsArgs<T> make_args(py::handle a, int element, In<T> inverse_norms) {
  AnchorSumsArgs<T> args{};
  const auto anchors = field<"anchors", py::object>(a);
  args.mixes = make_mixes<T>(a);
  std::tie(args.relations.anchors, args.size) = field<"shape", std::pair<int64_t, int64_t>>(anchors);
  args.relations.examples = args.mixes.examples;
  args.relations.positives = field<"positives", In<int64_t>>(a);
  args.relations.self = field<"self_index", In<int64_t>>(a);
  args.relations.mask = field<"mask", In<int8_t>>(a);
  args.pairs = parse_pairs(field<"pairs", std::string>(a));
  args.rho = make_rho(field<"exponential", bool>(a), field<"rho", RhoNumbers>(a));
  args.both_orders = field<"both_orders", bool>(a);
  args.element = Element(element);
  args.mixed = field<"mixed", In<void>>(a);
  args.normalize = field<"normalize", bool>(a);
  args.inverse_norms = inverse_norms;
  args.anchors = py::cast<In<T>>(anchors);
  args.anchor_order = field<"anchor_order", In<int64_t>>(a);
  args.anchors_of = field<"anchors_of", In<int64_t>>(a);
  return args;
}

template <class T>
void anchor_sums(const Where& where, const AnchorSumsArgs<T>& args, Out<T> sums, Out<T> nonzero) {
  const AnchorSumsOutput<T> output{sums, nonzero};
  run(
      where,
      [&](int threads) {
        cpu::check_indices(args);
        cpu::anchor_sums<T>(args, output, threads);
      },
      [&](const auto& on) { cuda::anchor_sums<T>(args, output, on.workspace, on.device, on.stream); });
}

template <class T>
void anchor_sums_backward(const Where& where, const AnchorSumsArgs<T>& args, In<T> sums, In<T> grad_sums,
                          Out<void> grad_mixed, Out<T> grad_anchors) {
  const AnchorSumsGradient<T> gradient{sums, grad_sums, grad_mixed, grad_anchors};
  run(
      where,
      [&](int threads) {
        cpu::check_indices(args);
        cpu::anchor_sums_backward<T>(args, gradient, threads);
      },
      [&](const auto& on) { cuda::anchor_sums_backward<T>(args, gradient, on.workspace, on.device, on.stream); });
}

template <class T>
void bind(py::module_& m) {
  py::class_<AnchorSumsArgs<T>>(m, named<T>("AnchorSumsArgs").c_str(), py::module_local())
      .def(py::init(&make_args<T>), "arguments"_a, py::kw_only(), "element"_a, "inverse_norms"_a);
  define<T>(m, "anchor_sums", &anchor_sums<T>, "where"_a, "args"_a, py::kw_only(), "sums"_a, "nonzero"_a);
  define<T>(m, "anchor_sums_backward", &anchor_sums_backward<T>, "where"_a, "args"_a, py::kw_only(), "sums"_a,
            "grad_sums"_a, "grad_mixed"_a, "grad_anchors"_a);
  if constexpr (kCuda) {
    m.def(named<T>("anchor_sums_workspace").c_str(), &cuda::anchor_sums_workspace<T>);
    m.def(named<T>("anchor_sums_backward_workspace").c_str(), &cuda::anchor_sums_backward_workspace<T>);
  }
}

}  // namespace

void bind_anchor_sums(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace metrix::bindings
