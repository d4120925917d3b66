// The only file that knows Python. Tensors arrive as addresses, 0 for None: the checks, the outputs and the choice
// of the element type are made by metrix_ext/ops.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

#include "anchor_sums.h"
#include "class_order.h"
#include "cpu/loops/rows.h"
#include "gram.h"
#include "mean_loss.h"
#include "mix_pool.h"
#include "pair_lambda.h"
#include "pair_sums.h"
#include "unit_rows.h"

namespace py = pybind11;

namespace {

using Address = std::uintptr_t;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

// inverse_alpha, slope, offset and the coefficients, as metrix_ext/beta.py makes them.
using Quantile = std::array<double, 3 + metrix::BetaQuantile::kTerms>;

metrix::PairLambdaArgs lambda_args(Address seed, Address rows, int64_t row_count, Address columns, int64_t column_count,
                                   const Quantile& quantile) {
  metrix::PairLambdaArgs args{};
  args.seed = pointer<const int64_t>(seed);
  args.rows = pointer<const int64_t>(rows);
  args.columns = pointer<const int64_t>(columns);
  args.row_count = row_count;
  args.column_count = column_count;
  std::copy(quantile.begin() + 3, quantile.end(), args.quantile.coefficients);
  args.quantile.inverse_alpha = quantile[0];
  args.quantile.slope = quantile[1];
  args.quantile.offset = quantile[2];
  return args;
}

metrix::Pairs parse_pairs(const std::string& name) {
  using metrix::Pairs;
  if (name == "clean") return Pairs::kClean;
  if (name == "pos-neg") return Pairs::kPosNeg;
  if (name == "anc-neg") return Pairs::kAncNeg;
  if (name == "pos-pos") return Pairs::kPosPos;
  if (name == "neg-neg") return Pairs::kNegNeg;
  if (name == "anc-pos") return Pairs::kAncPos;
  throw std::invalid_argument("unknown set of pairs: " + name);
}

metrix::MeanLossArgs loss_args(int64_t anchors, const std::string& sigma, std::array<double, 2> scales, bool relu,
                               double strength) {
  const auto kind = sigma == "log"     ? metrix::Sigma::kLog
                    : sigma == "log1p" ? metrix::Sigma::kLog1p
                                       : metrix::Sigma::kIdentity;
  return {anchors, kind, {scales[0], scales[1]}, relu, strength};
}

// What forward and backward share, built once per call by ops/pair_sums.py.
struct Problem {
  int64_t anchors, examples, first_row, rows;
  std::string pairs;
  bool exponential;
  std::array<double, 6> rho;  // scale, shift, floor of the positive side, then of the negative
  bool renormalize, lambda_is_scalar, anchors_in_order;
  Address similarity, lambda, gram, sqnorm, self_similarity, self_sqnorm, positives, self, mask;
};

// Where row 0 of a matrix would be whose rows from first_row on begin at the address.
template <class T>
T* row_zero(const Problem& p, Address matrix) {
  return pointer<T>(matrix == 0 ? 0 : matrix - Address(p.first_row * p.examples) * sizeof(T));
}

template <class T>
metrix::PairSumsArgs<T> sums_args(const Problem& p) {
  metrix::PairSumsArgs<T> args{};
  args.anchors = p.anchors;
  args.examples = p.examples;
  args.pairs = parse_pairs(p.pairs);
  args.rho = {p.exponential, {p.rho[0], p.rho[1], p.rho[2]}, {p.rho[3], p.rho[4], p.rho[5]}};
  args.renormalize = p.renormalize;
  args.similarity = pointer<const T>(p.similarity);
  args.first_row = p.first_row;
  args.rows = p.rows;
  args.lambda = p.lambda_is_scalar ? pointer<const T>(p.lambda) : row_zero<const T>(p, p.lambda);
  args.lambda_is_scalar = p.lambda_is_scalar;
  args.gram = row_zero<const T>(p, p.gram);
  // What is not given is on the diagonals.
  const int64_t diagonal = p.examples + 1;
  const bool norms_given = p.sqnorm != 0, own_given = p.self_similarity != 0;
  args.sqnorm = norms_given ? pointer<const T>(p.sqnorm) : args.gram;
  args.sqnorm_stride = norms_given ? 1 : diagonal;
  args.self_similarity = own_given ? pointer<const T>(p.self_similarity) : args.similarity;
  args.self_sqnorm = own_given ? pointer<const T>(p.self_sqnorm) : args.gram;
  args.self_stride = own_given ? 1 : diagonal;
  args.positives = pointer<const int64_t>(p.positives);
  args.self = pointer<const int64_t>(p.self);
  args.mask = pointer<const int8_t>(p.mask);
  args.anchors_in_order = p.anchors_in_order;
  return args;
}

template <class T>
metrix::PairSumsGradient<T> sums_gradient(const Problem& p, Address sums, Address rest, Address grad_sums,
                                          Address similarity, Address gram, Address sqnorm, Address self_similarity,
                                          Address self_sqnorm) {
  const bool norms_given = p.sqnorm != 0, own_given = p.self_similarity != 0;
  return {pointer<const T>(sums),
          pointer<const T>(rest),
          pointer<const T>(grad_sums),
          pointer<T>(similarity),
          row_zero<T>(p, gram),
          norms_given ? pointer<T>(sqnorm) : row_zero<T>(p, gram),
          pointer<T>(own_given ? self_similarity : similarity),
          own_given ? pointer<T>(self_sqnorm) : row_zero<T>(p, gram)};
}

// That of the clean sums of the same anchors, added to the gradient of the similarities that the mixed ones gave.
template <class T>
metrix::PairSumsGradient<T> clean_gradient(Address sums, Address rest, Address grad_sums, Address similarity) {
  metrix::PairSumsGradient<T> gradient{};
  gradient.sums = pointer<const T>(sums);
  gradient.rest = pointer<const T>(rest);
  gradient.grad_sums = pointer<const T>(grad_sums);
  gradient.similarity = pointer<T>(similarity);
  gradient.adds = true;
  return gradient;
}

struct MixList {
  int64_t count, examples;
  Address first, second, lambda, begin, uses;
};

template <class T>
metrix::Mixes<T> mixes(const MixList& list) {
  return {list.count,
          list.examples,
          pointer<const int64_t>(list.first),
          pointer<const int64_t>(list.second),
          pointer<const T>(list.lambda),
          pointer<const int64_t>(list.begin),
          pointer<const int64_t>(list.uses)};
}

struct MixPool {
  MixList mixes;
  int64_t channels, positions;
  Address order;
  int64_t image_stride, channel_stride, position_stride;
};

template <class T>
metrix::MixPoolArgs<T> pool_args(const MixPool& p) {
  return {mixes<T>(p.mixes), p.channels,       p.positions,      pointer<const int64_t>(p.order),
          p.image_stride,    p.channel_stride, p.position_stride};
}

struct AnchorSums {
  MixList mixes;
  int64_t anchors, size;
  std::string pairs;
  bool exponential;
  std::array<double, 6> rho;
  bool both_orders;
  int element;
  Address mixed, inverse_norms, anchor_rows, positives, self, mask, anchor_order, anchors_of;
};

template <class T>
metrix::AnchorSumsArgs<T> anchor_args(const AnchorSums& p) {
  metrix::AnchorSumsArgs<T> args{};
  args.mixes = mixes<T>(p.mixes);
  args.relations = {p.anchors, p.mixes.examples, pointer<const int64_t>(p.positives), pointer<const int64_t>(p.self),
                    pointer<const int8_t>(p.mask)};
  args.pairs = parse_pairs(p.pairs);
  args.rho = {p.exponential, {p.rho[0], p.rho[1], p.rho[2]}, {p.rho[3], p.rho[4], p.rho[5]}};
  args.both_orders = p.both_orders;
  args.size = p.size;
  args.element = metrix::Element(p.element);
  args.mixed = pointer<const void>(p.mixed);
  args.inverse_norms = pointer<const T>(p.inverse_norms);
  args.anchors = pointer<const T>(p.anchor_rows);
  args.anchor_order = pointer<const int64_t>(p.anchor_order);
  args.anchors_of = pointer<const int64_t>(p.anchors_of);
  return args;
}

template <class T>
void bind_cpu(py::module_& m, const std::string& suffix) {
  m.def(("pair_lambda_" + suffix).c_str(),
        [](Address seed, Address rows, int64_t row_count, Address columns, int64_t column_count,
           const Quantile& quantile, Address lambda, int threads) {
          const auto args = lambda_args(seed, rows, row_count, columns, column_count, quantile);
          py::gil_scoped_release release;
          metrix::cpu::pair_lambda<T>(args, pointer<T>(lambda), threads);
        });
  m.def(("gram_" + suffix).c_str(), [](int64_t rows, int64_t columns, Address x, Address products, int threads) {
    py::gil_scoped_release release;
    metrix::cpu::gram<T>(rows, columns, pointer<const T>(x), pointer<T>(products), threads);
  });
  m.def(("gram_backward_" + suffix).c_str(),
        [](int64_t rows, int64_t columns, Address x, Address grad, Address grad_x, int threads) {
          py::gil_scoped_release release;
          metrix::cpu::gram_backward<T>(rows, columns, pointer<const T>(x), pointer<const T>(grad), pointer<T>(grad_x),
                                        threads);
        });
  m.def(("mean_loss_" + suffix).c_str(),
        [](int64_t anchors, const std::string& sigma, std::array<double, 2> scales, bool relu, double strength,
           Address clean, Address mixed, Address loss, int) {
          metrix::cpu::mean_loss<T>(loss_args(anchors, sigma, scales, relu, strength),
                                    {pointer<const T>(clean), pointer<const T>(mixed)}, pointer<T>(loss));
        });
  m.def(("mean_loss_backward_" + suffix).c_str(),
        [](int64_t anchors, const std::string& sigma, std::array<double, 2> scales, bool relu, double strength,
           Address clean, Address mixed, Address grad, Address grad_clean, Address grad_mixed, int) {
          metrix::cpu::mean_loss_backward<T>(loss_args(anchors, sigma, scales, relu, strength),
                                             {pointer<const T>(clean), pointer<const T>(mixed)},
                                             {pointer<const T>(grad), pointer<T>(grad_clean), pointer<T>(grad_mixed)});
        });
  m.def(("unit_rows_" + suffix).c_str(),
        [](int64_t rows, int64_t columns, Address order, Address x, Address unit, Address norm, int threads) {
          py::gil_scoped_release release;
          metrix::cpu::unit_rows<T>({rows, columns, pointer<const int64_t>(order)}, pointer<const T>(x),
                                    pointer<T>(unit), pointer<T>(norm), threads);
        });
  m.def(("unit_rows_backward_" + suffix).c_str(), [](int64_t rows, int64_t columns, Address order, Address unit,
                                                     Address norm, Address grad_unit, Address grad_x, int threads) {
    py::gil_scoped_release release;
    metrix::cpu::unit_rows_backward<T>({rows, columns, pointer<const int64_t>(order)}, pointer<const T>(unit),
                                       pointer<const T>(norm), pointer<const T>(grad_unit), pointer<T>(grad_x),
                                       threads);
  });
  m.def(("pair_sums_" + suffix).c_str(),
        [](const Problem& problem, Address sums, Address rest, Address clean, Address clean_rest, int threads) {
          const auto args = sums_args<T>(problem);
          py::gil_scoped_release release;
          metrix::cpu::pair_sums<T>(args, {pointer<T>(sums), pointer<T>(rest)}, threads);
          if (clean != 0) metrix::cpu::pair_sums<T>(args.clean(), {pointer<T>(clean), pointer<T>(clean_rest)}, threads);
        });
  m.def(("pair_sums_backward_" + suffix).c_str(),
        [](const Problem& problem, Address sums, Address rest, Address grad_sums, Address clean, Address clean_rest,
           Address grad_clean, Address similarity, Address gram, Address sqnorm, Address self_similarity,
           Address self_sqnorm, int threads) {
          const auto args = sums_args<T>(problem);
          const auto gradient =
              sums_gradient<T>(problem, sums, rest, grad_sums, similarity, gram, sqnorm, self_similarity, self_sqnorm);
          py::gil_scoped_release release;
          metrix::cpu::pair_sums_backward<T>(args, gradient, threads);
          if (clean != 0)
            metrix::cpu::pair_sums_backward<T>(args.clean(),
                                               clean_gradient<T>(clean, clean_rest, grad_clean, similarity), threads);
        });
  m.def(("mix_pool_" + suffix).c_str(), [](const MixPool& pool, int element, Address features, Address averages,
                                           Address pooled, Address argmax, int threads) {
    py::gil_scoped_release release;
    metrix::cpu::mix_pool<T>(pool_args<T>(pool),
                             {metrix::Element(element), pointer<const void>(features), pointer<const T>(averages)},
                             {pointer<void>(pooled), pointer<int16_t>(argmax)}, threads);
  });
  m.def(("mix_pool_backward_" + suffix).c_str(), [](const MixPool& pool, int element, Address grad_pooled,
                                                    Address argmax, Address features, Address averages, int threads) {
    py::gil_scoped_release release;
    metrix::cpu::mix_pool_backward<T>(pool_args<T>(pool),
                                      {metrix::Element(element), pointer<const void>(grad_pooled),
                                       pointer<const int16_t>(argmax), pointer<T>(features), pointer<T>(averages)},
                                      threads);
  });
  m.def(("anchor_sums_" + suffix).c_str(), [](const AnchorSums& problem, Address sums, Address nonzero, int threads) {
    const auto args = anchor_args<T>(problem);
    py::gil_scoped_release release;
    metrix::cpu::anchor_sums<T>(args, {pointer<T>(sums), pointer<T>(nonzero)}, threads);
  });
  m.def(("anchor_sums_backward_" + suffix).c_str(), [](const AnchorSums& problem, Address sums, Address grad_sums,
                                                       Address grad_mixed, Address grad_anchors, int threads) {
    const auto args = anchor_args<T>(problem);
    py::gil_scoped_release release;
    metrix::cpu::anchor_sums_backward<T>(
        args,
        {pointer<const T>(sums), pointer<const T>(grad_sums), pointer<void>(grad_mixed), pointer<T>(grad_anchors)},
        threads);
  });
}

#ifdef METRIX_CUDA
template <class T>
void bind_cuda(py::module_& m, const std::string& suffix) {
  m.def(("cuda_mean_loss_" + suffix).c_str(),
        [](int64_t anchors, const std::string& sigma, std::array<double, 2> scales, bool relu, double strength,
           Address clean, Address mixed, Address loss, int device, Address stream) {
          const auto args = loss_args(anchors, sigma, scales, relu, strength);
          py::gil_scoped_release release;
          metrix::cuda::mean_loss<T>(args, {pointer<const T>(clean), pointer<const T>(mixed)}, pointer<T>(loss), device,
                                     pointer<void>(stream));
        });
  m.def(("cuda_mean_loss_backward_" + suffix).c_str(),
        [](int64_t anchors, const std::string& sigma, std::array<double, 2> scales, bool relu, double strength,
           Address clean, Address mixed, Address grad, Address grad_clean, Address grad_mixed, int device,
           Address stream) {
          const auto args = loss_args(anchors, sigma, scales, relu, strength);
          py::gil_scoped_release release;
          metrix::cuda::mean_loss_backward<T>(args, {pointer<const T>(clean), pointer<const T>(mixed)},
                                              {pointer<const T>(grad), pointer<T>(grad_clean), pointer<T>(grad_mixed)},
                                              device, pointer<void>(stream));
        });
  m.def(("cuda_unit_rows_" + suffix).c_str(), [](int64_t rows, int64_t columns, Address order, Address x, Address unit,
                                                 Address norm, int device, Address stream) {
    py::gil_scoped_release release;
    metrix::cuda::unit_rows<T>({rows, columns, pointer<const int64_t>(order)}, pointer<const T>(x), pointer<T>(unit),
                               pointer<T>(norm), device, pointer<void>(stream));
  });
  m.def(("cuda_unit_rows_backward_" + suffix).c_str(),
        [](int64_t rows, int64_t columns, Address order, Address unit, Address norm, Address grad_unit, Address grad_x,
           int device, Address stream) {
          py::gil_scoped_release release;
          metrix::cuda::unit_rows_backward<T>({rows, columns, pointer<const int64_t>(order)}, pointer<const T>(unit),
                                              pointer<const T>(norm), pointer<const T>(grad_unit), pointer<T>(grad_x),
                                              device, pointer<void>(stream));
        });
  m.def(("cuda_pair_lambda_" + suffix).c_str(),
        [](Address seed, Address rows, int64_t row_count, Address columns, int64_t column_count,
           const Quantile& quantile, Address lambda, int device, Address stream) {
          const auto args = lambda_args(seed, rows, row_count, columns, column_count, quantile);
          py::gil_scoped_release release;
          metrix::cuda::pair_lambda<T>(args, pointer<T>(lambda), device, pointer<void>(stream));
        });
  m.def(("cuda_pair_sums_workspace_" + suffix).c_str(),
        [](const Problem& problem) { return metrix::cuda::pair_sums_workspace(sums_args<T>(problem)); });
  m.def(("cuda_pair_sums_" + suffix).c_str(), [](const Problem& problem, Address sums, Address rest, Address clean,
                                                 Address clean_rest, Address workspace, int device, Address stream) {
    const auto args = sums_args<T>(problem);
    py::gil_scoped_release release;
    metrix::cuda::pair_sums<T>(args, {pointer<T>(sums), pointer<T>(rest)}, pointer<void>(workspace), device,
                               pointer<void>(stream));
    if (clean != 0)
      metrix::cuda::pair_sums<T>(args.clean(), {pointer<T>(clean), pointer<T>(clean_rest)}, pointer<void>(workspace),
                                 device, pointer<void>(stream));
  });
  m.def(("cuda_pair_sums_backward_workspace_" + suffix).c_str(),
        [](const Problem& problem) { return metrix::cuda::pair_sums_backward_workspace(sums_args<T>(problem)); });
  m.def(("cuda_pair_sums_backward_" + suffix).c_str(),
        [](const Problem& problem, Address sums, Address rest, Address grad_sums, Address clean, Address clean_rest,
           Address grad_clean, Address similarity, Address gram, Address sqnorm, Address self_similarity,
           Address self_sqnorm, Address workspace, int device, Address stream) {
          const auto args = sums_args<T>(problem);
          const auto gradient =
              sums_gradient<T>(problem, sums, rest, grad_sums, similarity, gram, sqnorm, self_similarity, self_sqnorm);
          py::gil_scoped_release release;
          metrix::cuda::pair_sums_backward<T>(args, gradient, pointer<void>(workspace), device, pointer<void>(stream));
          if (clean != 0)
            metrix::cuda::pair_sums_backward<T>(args.clean(),
                                                clean_gradient<T>(clean, clean_rest, grad_clean, similarity),
                                                pointer<void>(workspace), device, pointer<void>(stream));
        });
  m.def(("cuda_mix_pool_" + suffix).c_str(), [](const MixPool& pool, int element, Address features, Address averages,
                                                Address pooled, Address argmax, int device, Address stream) {
    py::gil_scoped_release release;
    metrix::cuda::mix_pool<T>(pool_args<T>(pool),
                              {metrix::Element(element), pointer<const void>(features), pointer<const T>(averages)},
                              {pointer<void>(pooled), pointer<int16_t>(argmax)}, device, pointer<void>(stream));
  });
  m.def(("cuda_mix_pool_backward_" + suffix).c_str(), [](const MixPool& pool, int element, Address grad_pooled,
                                                         Address argmax, Address features, Address averages, int device,
                                                         Address stream) {
    py::gil_scoped_release release;
    metrix::cuda::mix_pool_backward<T>(pool_args<T>(pool),
                                       {metrix::Element(element), pointer<const void>(grad_pooled),
                                        pointer<const int16_t>(argmax), pointer<T>(features), pointer<T>(averages)},
                                       device, pointer<void>(stream));
  });
  m.def(("cuda_anchor_sums_workspace_" + suffix).c_str(),
        [](const AnchorSums& problem) { return metrix::cuda::anchor_sums_workspace(anchor_args<T>(problem)); });
  m.def(("cuda_anchor_sums_" + suffix).c_str(),
        [](const AnchorSums& problem, Address sums, Address nonzero, Address workspace, int device, Address stream) {
          const auto args = anchor_args<T>(problem);
          py::gil_scoped_release release;
          metrix::cuda::anchor_sums<T>(args, {pointer<T>(sums), pointer<T>(nonzero)}, pointer<void>(workspace), device,
                                       pointer<void>(stream));
        });
  m.def(("cuda_anchor_sums_backward_workspace_" + suffix).c_str(), [](const AnchorSums& problem) {
    return metrix::cuda::anchor_sums_backward_workspace(anchor_args<T>(problem));
  });
  m.def(("cuda_anchor_sums_backward_" + suffix).c_str(), [](const AnchorSums& problem, Address sums, Address grad_sums,
                                                            Address grad_mixed, Address grad_anchors, Address workspace,
                                                            int device, Address stream) {
    const auto args = anchor_args<T>(problem);
    py::gil_scoped_release release;
    metrix::cuda::anchor_sums_backward<T>(
        args,
        {pointer<const T>(sums), pointer<const T>(grad_sums), pointer<void>(grad_mixed), pointer<T>(grad_anchors)},
        pointer<void>(workspace), device, pointer<void>(stream));
  });
}
#endif

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of metrix_ext; use them through metrix_ext.ops.";
  m.attr("beta_terms") = metrix::BetaQuantile::kTerms;
  m.attr("cuda_architectures") = METRIX_CUDA_ARCHITECTURES;
  m.attr("compiler") = METRIX_COMPILER;
  m.def("instruction_set", &metrix::cpu::instruction_set);
  py::class_<Problem>(m, "Problem")
      .def(py::init([](int64_t anchors, int64_t examples, int64_t first_row, int64_t rows, std::string pairs,
                       bool exponential, std::array<double, 6> rho, bool renormalize, bool lambda_is_scalar,
                       bool anchors_in_order, Address similarity, Address lambda, Address gram, Address sqnorm,
                       Address self_similarity, Address self_sqnorm, Address positives, Address self, Address mask) {
        return Problem{anchors,
                       examples,
                       first_row,
                       rows,
                       std::move(pairs),
                       exponential,
                       rho,
                       renormalize,
                       lambda_is_scalar,
                       anchors_in_order,
                       similarity,
                       lambda,
                       gram,
                       sqnorm,
                       self_similarity,
                       self_sqnorm,
                       positives,
                       self,
                       mask};
      }));
  py::class_<MixList>(m, "Mixes")
      .def(py::init([](int64_t count, int64_t examples, Address first, Address second, Address lambda, Address begin,
                       Address uses) { return MixList{count, examples, first, second, lambda, begin, uses}; }));
  py::class_<MixPool>(m, "MixPool")
      .def(py::init([](const MixList& mixes, int64_t channels, int64_t positions, Address order, int64_t image_stride,
                       int64_t channel_stride, int64_t position_stride) {
        return MixPool{mixes, channels, positions, order, image_stride, channel_stride, position_stride};
      }));
  py::class_<AnchorSums>(m, "AnchorSums")
      .def(py::init([](const MixList& mixes, int64_t anchors, int64_t size, std::string pairs, bool exponential,
                       std::array<double, 6> rho, bool both_orders, int element, Address mixed, Address inverse_norms,
                       Address anchor_rows, Address positives, Address self, Address mask, Address anchor_order,
                       Address anchors_of) {
        return AnchorSums{mixes,       anchors, size,         std::move(pairs), exponential, rho,
                          both_orders, element, mixed,        inverse_norms,    anchor_rows, positives,
                          self,        mask,    anchor_order, anchors_of};
      }));
  m.def("class_order", [](int64_t examples, Address labels, Address order, Address positives, Address place, int) {
    py::gil_scoped_release release;
    metrix::cpu::class_order(examples, pointer<const int64_t>(labels),
                             {pointer<int64_t>(order), pointer<int64_t>(positives), pointer<int64_t>(place)});
  });
#ifdef METRIX_CUDA
  m.def("cuda_class_order", [](int64_t examples, Address labels, Address order, Address positives, Address place,
                               int device, Address stream) {
    py::gil_scoped_release release;
    metrix::cuda::class_order(examples, pointer<const int64_t>(labels),
                              {pointer<int64_t>(order), pointer<int64_t>(positives), pointer<int64_t>(place)}, device,
                              pointer<void>(stream));
  });
#endif
  bind_cpu<float>(m, "f32");
  bind_cpu<double>(m, "f64");
#ifdef METRIX_CUDA
  bind_cuda<float>(m, "f32");
  bind_cuda<double>(m, "f64");
#endif
}
