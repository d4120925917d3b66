#include "anchor_sums.h"

#include "binding.h"
#include "terms.h"

namespace metrix::bindings {
namespace {

template <class T>
AnchorSumsArgs<T> make_args(const Mixes<T>& mixes, int64_t anchors, int64_t size, const std::string& pairs,
                            bool exponential, const RhoNumbers& rho, bool both_orders, int element, In<void> mixed,
                            In<T> inverse_norms, In<T> anchor_rows, In<int64_t> positives, In<int64_t> self,
                            In<int8_t> mask, In<int64_t> anchor_order, In<int64_t> anchors_of) {
  AnchorSumsArgs<T> args{};
  args.mixes = mixes;
  args.relations = {anchors, mixes.examples, positives, self, mask};
  args.pairs = parse_pairs(pairs);
  args.rho = make_rho(exponential, rho);
  args.both_orders = both_orders;
  args.size = size;
  args.element = Element(element);
  args.mixed = mixed;
  args.inverse_norms = inverse_norms;
  args.anchors = anchor_rows;
  args.anchor_order = anchor_order;
  args.anchors_of = anchors_of;
  return args;
}

template <class T>
void anchor_sums(const Where& where, const AnchorSumsArgs<T>& args, Out<T> sums, Out<T> nonzero) {
  const AnchorSumsOutput<T> output{sums, nonzero};
  run(
      where, [&](int threads) { cpu::anchor_sums<T>(args, output, threads); },
      [&](const auto& on) { cuda::anchor_sums<T>(args, output, on.workspace, on.device, on.stream); });
}

template <class T>
void anchor_sums_backward(const Where& where, const AnchorSumsArgs<T>& args, In<T> sums, In<T> grad_sums,
                          Out<void> grad_mixed, Out<T> grad_anchors) {
  const AnchorSumsGradient<T> gradient{sums, grad_sums, grad_mixed, grad_anchors};
  run(
      where, [&](int threads) { cpu::anchor_sums_backward<T>(args, gradient, threads); },
      [&](const auto& on) { cuda::anchor_sums_backward<T>(args, gradient, on.workspace, on.device, on.stream); });
}

template <class T>
void bind(py::module_& m) {
  py::class_<AnchorSumsArgs<T>>(m, named<T>("AnchorSumsArgs").c_str())
      .def(py::init(&make_args<T>), py::kw_only(), "mixes"_a, "anchor_count"_a, "size"_a, "pairs"_a, "exponential"_a,
           "rho"_a, "both_orders"_a, "element"_a, "mixed"_a, "inverse_norms"_a, "anchors"_a, "positives"_a,
           "self_index"_a, "mask"_a, "anchor_order"_a, "anchors_of"_a);
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
