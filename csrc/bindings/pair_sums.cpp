#include "pair_sums.h"

#include <tuple>

#include "binding.h"
#include "cpu/common/indices.h"
#include "terms.h"

namespace metrix::bindings {
namespace {

// Where row 0 of a matrix would be whose rows from first_row on begin at the address.
template <class T>
T* row_zero(T* matrix, int64_t first_row, int64_t examples) {
  if (matrix == nullptr) return nullptr;
  const auto offset = std::uintptr_t(first_row * examples) * sizeof(T);
  return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(matrix) - offset);
}

// From PairSumsArguments of metrix_ext/ops/arguments.py, whose tensors are contiguous.
template <class T>
PairSumsArgs<T> make_args(py::handle a) {
  PairSumsArgs<T> args{};
  const auto similarity = field<"similarity", py::object>(a);
  std::tie(args.anchors, args.examples) = field<"shape", std::pair<int64_t, int64_t>>(similarity);
  args.pairs = parse_pairs(field<"pairs", std::string>(a));
  args.rho = make_rho(field<"exponential", bool>(a), field<"rho", RhoNumbers>(a));
  const auto clean_rho = field<"clean_rho", py::list>(a);
  if (!clean_rho.empty()) args.clean_rho = make_rho(field<"clean_exponential", bool>(a), clean_rho.cast<RhoNumbers>());
  args.first_row = field<"first_row", int64_t>(a);
  args.rows = field<"rows", int64_t>(a);
  args.similarity = py::cast<In<T>>(similarity);
  args.lambda_is_scalar = field<"lam_is_scalar", bool>(a);
  const T* const lambda = field<"lam", In<T>>(a);
  args.lambda = args.lambda_is_scalar ? lambda : row_zero(lambda, args.first_row, args.examples);
  const auto gram = field<"gram", py::object>(a);
  args.renormalize = !gram.is_none();
  args.gram = row_zero<const T>(py::cast<In<T>>(gram), args.first_row, args.examples);
  // What is not given is on the diagonals.
  const int64_t diagonal = args.examples + 1;
  const T* const sqnorm = field<"sqnorm", In<T>>(a);
  args.sqnorm = sqnorm ? sqnorm : args.gram;
  args.sqnorm_stride = sqnorm ? 1 : diagonal;
  const T* const self_similarity = field<"self_similarity", In<T>>(a);
  args.self_similarity = self_similarity ? self_similarity : args.similarity;
  args.self_sqnorm = self_similarity ? field<"self_sqnorm", In<T>>(a) : args.gram;
  args.self_stride = self_similarity ? 1 : diagonal;
  args.positives = field<"positives", In<int64_t>>(a);
  args.self = field<"self_index", In<int64_t>>(a);
  args.mask = field<"mask", In<int8_t>>(a);
  args.anchors_in_order = args.mask == nullptr && field<"anchors_in_order", bool>(a);
  return args;
}

template <class T>
void forward(const Where& where, const PairSumsArgs<T>& args, const PairSumsOutput<T>& output) {
  run(
      where,
      [&](int threads) {
        cpu::check_indices(args);
        cpu::pair_sums<T>(args, output, threads);
      },
      [&](const auto& on) { cuda::pair_sums<T>(args, output, on.workspace, on.device, on.stream); });
}

template <class T>
void backward(const Where& where, const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient) {
  run(
      where,
      [&](int threads) {
        cpu::check_indices(args);
        cpu::pair_sums_backward<T>(args, gradient, threads);
      },
      [&](const auto& on) { cuda::pair_sums_backward<T>(args, gradient, on.workspace, on.device, on.stream); });
}

// The clean sums of the same anchors, too, unless clean is None.
template <class T>
void pair_sums(const Where& where, const PairSumsArgs<T>& args, Out<T> sums, Out<T> rest, Out<T> clean,
               Out<T> clean_rest) {
  forward<T>(where, args, {sums, rest});
  if (clean) forward<T>(where, args.clean(), {clean, clean_rest});
}

// That of the clean sums is added to the gradient of the similarities that the mixed ones gave.
template <class T>
void pair_sums_backward(const Where& where, const PairSumsArgs<T>& args, In<T> sums, In<T> rest, In<T> grad_sums,
                        In<T> clean, In<T> clean_rest, In<T> grad_clean, Out<T> grad_similarity, Out<T> grad_gram,
                        Out<T> grad_sqnorm, Out<T> grad_self_similarity, Out<T> grad_self_sqnorm) {
  const bool norms_on_diagonal = is_diagonal(args.sqnorm_stride), own_on_diagonal = is_diagonal(args.self_stride);
  PairSumsGradient<T> gradient{};
  gradient.sums = sums;
  gradient.rest = rest;
  gradient.grad_sums = grad_sums;
  gradient.similarity = grad_similarity;
  gradient.gram = row_zero(grad_gram.address, args.first_row, args.examples);
  gradient.sqnorm = norms_on_diagonal ? gradient.gram : grad_sqnorm;
  gradient.self_similarity = own_on_diagonal ? grad_similarity : grad_self_similarity;
  gradient.self_sqnorm = own_on_diagonal ? gradient.gram : grad_self_sqnorm;
  backward<T>(where, args, gradient);
  if (!clean) return;
  PairSumsGradient<T> of_clean{};
  of_clean.sums = clean;
  of_clean.rest = clean_rest;
  of_clean.grad_sums = grad_clean;
  of_clean.similarity = grad_similarity;
  of_clean.adds = true;
  backward<T>(where, args.clean(), of_clean);
}

template <class T>
void bind(py::module_& m) {
  py::class_<PairSumsArgs<T>>(m, named<T>("PairSumsArgs").c_str(), py::module_local()).def(py::init(&make_args<T>));
  define<T>(m, "pair_sums", &pair_sums<T>, "where"_a, "args"_a, py::kw_only(), "sums"_a, "rest"_a, "clean"_a,
            "clean_rest"_a);
  define<T>(m, "pair_sums_backward", &pair_sums_backward<T>, "where"_a, "args"_a, py::kw_only(), "sums"_a, "rest"_a,
            "grad_sums"_a, "clean"_a, "clean_rest"_a, "grad_clean"_a, "grad_similarity"_a, "grad_gram"_a,
            "grad_sqnorm"_a, "grad_self_similarity"_a, "grad_self_sqnorm"_a);
  if constexpr (kCuda) {
    m.def(named<T>("pair_sums_workspace").c_str(), &cuda::pair_sums_workspace<T>);
    m.def(named<T>("pair_sums_backward_workspace").c_str(), &cuda::pair_sums_backward_workspace<T>);
  }
}

}  // namespace

void bind_pair_sums(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace metrix::bindings
