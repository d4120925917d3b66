#include "pair_lambda.h"

#include <algorithm>
#include <array>
#include <limits>

#include "binding.h"
#include "cpu/common/indices.h"

namespace metrix::bindings {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

// inverse_alpha, slope, offset and the coefficients, as metrix_ext/terms/beta.py makes them.
using QuantileNumbers = std::array<double, 3 + BetaQuantile::kTerms>;

BetaQuantile make_quantile(const QuantileNumbers& numbers) {
  BetaQuantile quantile{numbers[0], numbers[1], numbers[2], {}};
  std::copy(numbers.begin() + 3, numbers.end(), quantile.coefficients);
  return quantile;
}

template <class T>
void pair_lambda(const Where& where, In<int64_t> seed, In<int64_t> rows, int64_t row_count, In<int64_t> columns,
                 int64_t column_count, const QuantileNumbers& quantile, Out<T> lambda) {
  const PairLambdaArgs args{seed, rows, columns, row_count, column_count, make_quantile(quantile)};
  run(
      where,
      [&](int threads) {
        cpu::check_within("rows", rows, row_count, 0, kMost);
        cpu::check_within("columns", columns, column_count, 0, kMost);
        cpu::pair_lambda<T>(args, lambda, threads);
      },
      [&](const auto& on) { cuda::pair_lambda<T>(args, lambda, on.device, on.stream); });
}

template <class T>
void bind(py::module_& m) {
  define<T>(m, "pair_lambda", &pair_lambda<T>, "where"_a, py::kw_only(), "seed"_a, "rows"_a, "row_count"_a, "columns"_a,
            "column_count"_a, "quantile"_a, "lam"_a);
}

}  // namespace

void bind_pair_lambda(py::module_& m) {
  m.attr("beta_terms") = BetaQuantile::kTerms;
  bind<float>(m);
  bind<double>(m);
}

}  // namespace metrix::bindings
