#include "pair_sums.h"

#include "binding.h"
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

template <class T>
PairSumsArgs<T> make_args(int64_t anchors, int64_t examples, int64_t first_row, int64_t rows, const std::string& pairs,
                          bool exponential, const RhoNumbers& rho, bool renormalize, bool lambda_is_scalar,
                          bool anchors_in_order, In<T> similarity, In<T> lambda, In<T> gram, In<T> sqnorm,
                          In<T> self_similarity, In<T> self_sqnorm, In<int64_t> positives, In<int64_t> self,
                          In<int8_t> mask) {
  PairSumsArgs<T> args{};
  args.anchors = anchors;
  args.examples = examples;
  args.pairs = parse_pairs(pairs);
  args.rho = make_rho(exponential, rho);
  args.renormalize = renormalize;
  args.similarity = similarity;
  args.first_row = first_row;
  args.rows = rows;
  args.lambda = lambda_is_scalar ? lambda.address : row_zero(lambda.address, first_row, examples);
  args.lambda_is_scalar = lambda_is_scalar;
  args.gram = row_zero(gram.address, first_row, examples);
  // What is not given is on the diagonals.
  const int64_t diagonal = examples + 1;
  args.sqnorm = sqnorm ? sqnorm : args.gram;
  args.sqnorm_stride = sqnorm ? 1 : diagonal;
  args.self_similarity = self_similarity ? self_similarity : similarity;
  args.self_sqnorm = self_similarity ? self_sqnorm : args.gram;
  args.self_stride = self_similarity ? 1 : diagonal;
  args.positives = positives;
  args.self = self;
  args.mask = mask;
  args.anchors_in_order = anchors_in_order;
  return args;
}

template <class T>
void forward(const Where& where, const PairSumsArgs<T>& args, const PairSumsOutput<T>& output) {
  run(
      where, [&](int threads) { cpu::pair_sums<T>(args, output, threads); },
      [&](const auto& on) { cuda::pair_sums<T>(args, output, on.workspace, on.device, on.stream); });
}

template <class T>
void backward(const Where& where, const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient) {
  run(
      where, [&](int threads) { cpu::pair_sums_backward<T>(args, gradient, threads); },
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
  py::class_<PairSumsArgs<T>>(m, named<T>("PairSumsArgs").c_str())
      .def(py::init(&make_args<T>), py::kw_only(), "anchors"_a, "examples"_a, "first_row"_a, "rows"_a, "pairs"_a,
           "exponential"_a, "rho"_a, "renormalize"_a, "lam_is_scalar"_a, "anchors_in_order"_a, "similarity"_a, "lam"_a,
           "gram"_a, "sqnorm"_a, "self_similarity"_a, "self_sqnorm"_a, "positives"_a, "self_index"_a, "mask"_a);
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
