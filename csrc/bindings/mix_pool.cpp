#include "mix_pool.h"

#include <limits>

#include "binding.h"
#include "cpu/common/indices.h"
#include "mix_list.h"

namespace metrix::bindings {
namespace {

template <class T>
MixPoolArgs<T> make_args(py::handle mixes, int64_t channels, int64_t positions, In<int64_t> order, int64_t image_stride,
                         int64_t channel_stride, int64_t position_stride) {
  if (positions > std::numeric_limits<int16_t>::max())
    cpu::refuse("features", std::to_string(positions) + " positions", "at most 32767, which argmax holds");
  return {make_mixes<T>(mixes), channels, positions, order, image_stride, channel_stride, position_stride};
}

template <class T>
void check_indices(const MixPoolArgs<T>& args) {
  cpu::check_permutation("order", args.order, args.mixes.examples);
  cpu::check_indices(args.mixes);
}

template <class T>
void mix_pool(const Where& where, const MixPoolArgs<T>& args, int element, In<void> features, In<T> averages,
              Out<void> pooled, Out<int16_t> argmax) {
  const MixPoolInput<T> input{Element(element), features, averages};
  const MixPoolOutput output{pooled, argmax};
  run(
      where,
      [&](int threads) {
        check_indices(args);
        cpu::mix_pool<T>(args, input, output, threads);
      },
      [&](const auto& on) { cuda::mix_pool<T>(args, input, output, on.device, on.stream); });
}

template <class T>
void mix_pool_backward(const Where& where, const MixPoolArgs<T>& args, int element, In<void> grad_pooled,
                       In<int16_t> argmax, Out<T> grad_features, Out<T> grad_averages) {
  const MixPoolGradient<T> gradient{Element(element), grad_pooled, argmax, grad_features, grad_averages};
  run(
      where,
      [&](int threads) {
        check_indices(args);
        cpu::mix_pool_backward<T>(args, gradient, threads);
      },
      [&](const auto& on) { cuda::mix_pool_backward<T>(args, gradient, on.device, on.stream); });
}

template <class T>
void bind(py::module_& m) {
  py::class_<MixPoolArgs<T>>(m, named<T>("MixPoolArgs").c_str(), py::module_local())
      .def(py::init(&make_args<T>), py::kw_only(), "mixes"_a, "channels"_a, "positions"_a, "order"_a, "image_stride"_a,
           "channel_stride"_a, "position_stride"_a);
  define<T>(m, "mix_pool", &mix_pool<T>, "where"_a, "args"_a, py::kw_only(), "element"_a, "features"_a, "averages"_a,
            "pooled"_a, "argmax"_a);
  define<T>(m, "mix_pool_backward", &mix_pool_backward<T>, "where"_a, "args"_a, py::kw_only(), "element"_a,
            "grad_pooled"_a, "argmax"_a, "grad_features"_a, "grad_averages"_a);
}

}  // namespace

void bind_mix_pool(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace metrix::bindings
