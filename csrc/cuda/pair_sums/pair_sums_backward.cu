// Launches the backward kernels: the gradients of the similarities (per_example.cuh, backward.cuh), and if mixes are
// renormalised those of the norms (norms.cuh).
#include "backward.cuh"
#include "cuda/rho/families.cuh"
#include "norms.cuh"
#include "pair_sums.h"
#include "per_example.cuh"
#include "plan.h"

namespace metrix::cuda {
namespace {

// Elements of the strips' own gradient matrices; a problem that needs more is large enough for one strip.
#ifdef METRIX_TINY_BLOCKS
constexpr int64_t kStripElements = 4096;
#else
constexpr int64_t kStripElements = int64_t(1) << 24;
#endif
constexpr int64_t kNormRowBlocks = 64;

template <class T>
struct Plan {
  bool within;  // the pairs are of two examples
  bool norms;   // have gradients
  // Groups own the moments of their firsts; where they share firsts, pair_moments walks the pairs a second time.
  bool owns_moments;
  unsigned blocks, strips, norm_columns, norm_rows;
  int threads, norm_threads;
  ClassGroups groups{};
  T* strip_gradients = nullptr;  // [strips, m, n]
  T* row_sums = nullptr;         // [norm_columns, rows]
  T* column_sums = nullptr;      // [norm_rows, n]
  int64_t workspace = 0;

  Plan(const PairSumsArgs<T>& args, void* base) {
    const int64_t m = args.anchors, n = args.examples;
    within = is_within_examples(args.pairs);
    norms = args.renormalize && args.pairs != Pairs::kClean;
    owns_moments = norms && within && args.mask == nullptr && describe(args.pairs).first_positive;
    threads = threads_for(n, kGradientThreads);
    blocks = blocks_over_anchors(m, args.mask == nullptr ? kAnchorsPerBlock<T> : 1);
    const int columns = args.mask == nullptr ? kColumnsPerThread<T, kAnchorsPerBlock<T>> : kColumnsPerThread<T, 1>;
    const int64_t tiles = std::max<int64_t>(1, ceil_div(n, threads * columns));
    strips = unsigned(std::min(tiles, std::max<int64_t>(1, kStripElements / std::max<int64_t>(1, m * n))));
    norm_threads = threads_for(n, kNormThreads);
    norm_columns = unsigned(std::max<int64_t>(1, ceil_div(n, norm_threads)));
    norm_rows = unsigned(std::max<int64_t>(1, std::min(kNormRowBlocks, ceil_div(args.rows, kWarp))));
    Workspace space(base);
    if (within) {
      groups = groups_of(args, space);
      if (strips > 1) strip_gradients = space.take<T>(m * n * strips);
    }
    if (norms) {
      row_sums = space.take<T>(args.rows * norm_columns);
      column_sums = space.take<T>(n * norm_rows);
    }
    workspace = space.used();
  }
};

template <class T>
unsigned blocks_over(int64_t elements) {
  return unsigned(std::max<int64_t>(1, std::min<int64_t>(ceil_div(elements, kNormThreads), 4096)));
}

template <class T, int kAnchors, RhoGradient<T> Gradient>
void launch_pairs(const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient, const Plan<T>& plan, void* stream) {
  if (args.anchors > 0)
    launch("pair_sums_backward", pair_gradients<T, kAnchors, Gradient>, dim3(plan.blocks, plan.strips), plan.threads,
           stream, args, DeviceRho<T>(args.rho), gradient, plan.groups,
           plan.strips > 1 ? plan.strip_gradients : gradient.similarity, plan.owns_moments ? gradient.gram : nullptr);
  if (plan.norms && !plan.owns_moments && args.examples > 0) {
    const int threads = threads_for(args.examples, kPairThreads);
    launch("pair_sums_backward, moments", pair_moments<T, Gradient>,
           dim3(unsigned(args.examples), unsigned(ceil_div(args.examples, threads))), threads, stream, args,
           DeviceRho<T>(args.rho), gradient, gradient.gram);
  }
}

template <class T, int kAnchors, RhoFamily<T> Family>
void launch_set(const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient, const Plan<T>& plan, void* stream) {
  with_sides(describe(args.pairs).sides, [&](auto sides) {
    launch_pairs<T, kAnchors, typename Family::template Gradient<T, sides.value>>(args, gradient, plan, stream);
  });
}

// Gradients of the similarities, and the moments.
template <class T, RhoFamily<T> Family>
void launch_similarities(const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient, const Plan<T>& plan,
                         void* stream) {
  const int64_t m = args.anchors, n = args.examples;
  if (!plan.within) {
    using Gradient = typename Family::template Gradient<T, Sides::kBoth>;
    if (m > 0)
      launch("pair_sums_backward, rows", example_gradients<T, Gradient>, dim3(unsigned(m)),
             threads_for(n, kExampleThreads), stream, args, DeviceRho<T>(args.rho), gradient,
             plan.norms ? gradient.gram : nullptr);
  } else if (args.mask != nullptr) {
    launch_set<T, 1, Family>(args, gradient, plan, stream);
  } else {
    group(args, plan.groups, stream);
    if (plan.owns_moments) clear(gradient.gram + args.first_row * n, args.rows * n, stream);
    launch_set<T, kAnchorsPerBlock<T>, Family>(args, gradient, plan, stream);
  }
}

template <class T>
void launch_norms(const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient, const Plan<T>& plan, void* stream) {
  if (plan.norms)
    launch("pair_sums_backward, norms", norm_gradients<T>, dim3(plan.norm_columns, plan.norm_rows), plan.norm_threads,
           stream, args, plan.within ? args.sqnorm : args.self_sqnorm,
           plan.within ? args.sqnorm_stride : args.self_stride, gradient.gram, plan.row_sums, plan.column_sums);
}

// Adds up what blocks have apart: the strips' gradients of similarities, and the gradients of squared norms.
template <class T>
void launch_parts(const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient, const Plan<T>& plan, void* stream) {
  const int64_t m = args.anchors, n = args.examples;
  Addition<T> strips{}, sqnorm{}, self_sqnorm{};
  if (plan.strip_gradients != nullptr)
    strips = {gradient.similarity, m * n, 1, {plan.strip_gradients, plan.strips, m * n, 0}, {}};
  if (plan.norms) {
    const Parts<T> of_rows{plan.row_sums, plan.norm_columns, args.rows, args.first_row};
    const Parts<T> of_columns{plan.column_sums, plan.norm_rows, n, 0};
    sqnorm = {gradient.sqnorm, n, args.sqnorm_stride, of_columns, plan.within ? of_rows : Parts<T>{}};
    if (!plan.within) self_sqnorm = {gradient.self_sqnorm, m, args.self_stride, of_rows, {}};
  }
  const Addition<T>& other = plan.within ? strips : self_sqnorm;
  if (sqnorm.size + other.size > 0)
    launch("pair_sums_backward, parts", add_parts<T>, dim3(blocks_over<T>(sqnorm.size + other.size)), kNormThreads,
           stream, sqnorm, other);
}

}  // namespace

template <class T>
int64_t pair_sums_backward_workspace(const PairSumsArgs<T>& args) {
  return Plan<T>(args, nullptr).workspace;
}

template <class T>
void pair_sums_backward(const PairSumsArgs<T>& args, const PairSumsGradient<T>& gradient, void* workspace, int device,
                        void* stream) {
  check_sizes(args);
  const DeviceGuard guard(device);
  const Plan<T> plan(args, workspace);
  with_family(args.rho, [&](auto family) { launch_similarities<T, decltype(family)>(args, gradient, plan, stream); });
  launch_norms(args, gradient, plan, stream);
  launch_parts(args, gradient, plan, stream);
}

// float, or what the file that includes this one says.
#ifndef METRIX_ELEMENT
#define METRIX_ELEMENT float
#endif
using Element = METRIX_ELEMENT;

template int64_t pair_sums_backward_workspace<Element>(const PairSumsArgs<Element>&);
template void pair_sums_backward<Element>(const PairSumsArgs<Element>&, const PairSumsGradient<Element>&, void*, int,
                                          void*);

}  // namespace metrix::cuda
