// The small ops of a batch: class_order, unit_rows, gram and what it takes on CUDA, mean_loss.
#include <array>
#include <stdexcept>

#include "binding.h"
#include "class_order.h"
#include "cpu/common/indices.h"
#include "gram.h"
#include "mean_loss.h"
#include "symmetric_parts.h"
#include "unit_rows.h"

namespace metrix::bindings {
namespace {

void class_order(const Where& where, int64_t examples, In<int64_t> labels, Out<int64_t> order, Out<int64_t> positives,
                 Out<int64_t> place) {
  const ClassOrder output{order, positives, place};
  run(
      where, [&](int) { cpu::class_order(examples, labels, output); },
      [&](const auto& on) { cuda::class_order(examples, labels, output, on.device, on.stream); });
}

template <class T>
void unit_rows(const Where& where, int64_t rows, int64_t columns, In<int64_t> order, In<T> x, Out<T> unit,
               Out<T> norm) {
  const UnitRowsArgs<T> args{rows, columns, order};
  run(
      where,
      [&](int threads) {
        cpu::check_permutation("order", order, rows);
        cpu::unit_rows<T>(args, x, unit, norm, threads);
      },
      [&](const auto& on) { cuda::unit_rows<T>(args, x, unit, norm, on.device, on.stream); });
}

template <class T>
void unit_rows_backward(const Where& where, int64_t rows, int64_t columns, In<int64_t> order, In<T> unit, In<T> norm,
                        In<T> grad_unit, Out<T> grad_x) {
  const UnitRowsArgs<T> args{rows, columns, order};
  run(
      where,
      [&](int threads) {
        cpu::check_permutation("order", order, rows);
        cpu::unit_rows_backward<T>(args, unit, norm, grad_unit, grad_x, threads);
      },
      [&](const auto& on) { cuda::unit_rows_backward<T>(args, unit, norm, grad_unit, grad_x, on.device, on.stream); });
}

void symmetric_parts(const Where& where, int64_t rows, In<float> x, Out<void> parts) {
  run(
      where, [](int) { throw std::invalid_argument("symmetric_parts: there is no CPU kernel"); },
      [&](const auto& on) { cuda::symmetric_parts(rows, x, parts, on.device, on.stream); });
}

// On CUDA a matrix product is cuBLAS's.
template <class T>
void gram(const Where& where, int64_t rows, int64_t columns, In<T> x, Out<T> products) {
  if (where.on_cuda) throw std::invalid_argument("gram: there is no CUDA kernel");
  cpu::gram<T>(rows, columns, x, products, cpu::threads_of_process(where.threads));
}

template <class T>
void gram_backward(const Where& where, int64_t rows, int64_t columns, In<T> x, In<T> grad, Out<T> grad_x) {
  if (where.on_cuda) throw std::invalid_argument("gram_backward: there is no CUDA kernel");
  cpu::gram_backward<T>(rows, columns, x, grad, grad_x, cpu::threads_of_process(where.threads));
}

MeanLossArgs loss_args(int64_t anchors, const std::string& sigma, std::array<double, 2> scales, bool relu,
                       double strength) {
  const auto kind = sigma == "log" ? Sigma::kLog : sigma == "log1p" ? Sigma::kLog1p : Sigma::kIdentity;
  return {anchors, kind, {scales[0], scales[1]}, relu, strength};
}

template <class T>
void mean_loss(const Where& where, int64_t anchors, const std::string& sigma, std::array<double, 2> scales, bool relu,
               double strength, In<T> clean, In<T> mixed, Out<T> loss) {
  const auto args = loss_args(anchors, sigma, scales, relu, strength);
  const MeanLossSums<T> sums{clean, mixed};
  run(
      where, [&](int) { cpu::mean_loss<T>(args, sums, loss); },
      [&](const auto& on) {
        const py::gil_scoped_release release;
        cuda::mean_loss<T>(args, sums, loss, on.device, on.stream);
      });
}

template <class T>
void mean_loss_backward(const Where& where, int64_t anchors, const std::string& sigma, std::array<double, 2> scales,
                        bool relu, double strength, In<T> clean, In<T> mixed, In<T> grad_loss, Out<T> grad_clean,
                        Out<T> grad_mixed) {
  const auto args = loss_args(anchors, sigma, scales, relu, strength);
  const MeanLossSums<T> sums{clean, mixed};
  const MeanLossGradient<T> gradient{grad_loss, grad_clean, grad_mixed};
  run(
      where, [&](int) { cpu::mean_loss_backward<T>(args, sums, gradient); },
      [&](const auto& on) {
        const py::gil_scoped_release release;
        cuda::mean_loss_backward<T>(args, sums, gradient, on.device, on.stream);
      });
}

template <class T>
void bind(py::module_& m) {
  const auto where = "where"_a;
  const py::kw_only named_only;
  define<T>(m, "unit_rows", &unit_rows<T>, where, named_only, "rows"_a, "columns"_a, "order"_a, "x"_a, "unit"_a,
            "norm"_a);
  define<T>(m, "unit_rows_backward", &unit_rows_backward<T>, where, named_only, "rows"_a, "columns"_a, "order"_a,
            "unit"_a, "norm"_a, "grad_unit"_a, "grad_x"_a);
  define<T>(m, "gram", &gram<T>, where, named_only, "rows"_a, "columns"_a, "x"_a, "products"_a);
  define<T>(m, "gram_backward", &gram_backward<T>, where, named_only, "rows"_a, "columns"_a, "x"_a, "grad"_a,
            "grad_x"_a);
  // On the CPU too short to let go of Python.
  m.def(named<T>("mean_loss").c_str(), &mean_loss<T>, where, named_only, "anchors"_a, "sigma"_a, "scales"_a, "relu"_a,
        "strength"_a, "clean"_a, "mixed"_a, "loss"_a);
  m.def(named<T>("mean_loss_backward").c_str(), &mean_loss_backward<T>, where, named_only, "anchors"_a, "sigma"_a,
        "scales"_a, "relu"_a, "strength"_a, "clean"_a, "mixed"_a, "grad_loss"_a, "grad_clean"_a, "grad_mixed"_a);
}

}  // namespace

void bind_batch(py::module_& m) {
  m.def("class_order", &class_order, "where"_a, py::kw_only(), "examples"_a, "labels"_a, "order"_a, "positives"_a,
        "place"_a, Release());
  m.def("symmetric_parts", &symmetric_parts, "where"_a, py::kw_only(), "rows"_a, "x"_a, "parts"_a, Release());
  bind<float>(m);
  bind<double>(m);
}

}  // namespace metrix::bindings
