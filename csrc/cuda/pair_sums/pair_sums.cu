// Launches the forward kernels: per_example.cuh for one term per anchor and example, forward.cuh for the sets within
// the examples.
#include "cuda/rho/families.cuh"
#include "forward.cuh"
#include "pair_sums.h"
#include "per_example.cuh"
#include "plan.h"

namespace metrix::cuda {
namespace {

// Blocks that keep a large device busy; more strips than that only add partial sums.
constexpr int64_t kEnoughBlocks = 8192;

template <class T>
struct Plan {
  unsigned blocks, strips;
  int threads;
  ClassGroups groups{};
  PartialSum<T>* partial = nullptr;
  int64_t workspace = 0;

  Plan(const PairSumsArgs<T>& args, void* base) {
    threads = threads_for(args.examples, kPairThreads);
    blocks = blocks_over_anchors(args.anchors, args.mask == nullptr ? kAnchorsPerBlock<T> : 1);
    const int64_t tiles = std::max<int64_t>(1, ceil_div(args.examples, threads));
    strips = unsigned(std::min(tiles, std::max<int64_t>(1, kEnoughBlocks / blocks)));
    Workspace space(base);
    if (is_within_examples(args.pairs)) {
      groups = groups_of(args, space);
      if (strips > 1) partial = space.take<PartialSum<T>>(2 * args.anchors * strips);
    }
    workspace = space.used();
  }
};

template <class T, RhoSum<T> Sum>
void launch_pairs(const PairSumsArgs<T>& args, const PairSumsOutput<T>& output, const Plan<T>& plan, void* stream) {
  launch("pair_sums", sum_pairs<T, Sum>, dim3(plan.blocks, plan.strips), plan.threads, stream, args,
         DeviceRho<T>(args.rho), plan.groups, plan.partial, output);
  if (plan.partial != nullptr)
    launch("pair_sums, merge", merge_sums<T, Sum>, dim3(unsigned(ceil_div(2 * args.anchors, kPairThreads))),
           kPairThreads, stream, args.anchors, int64_t(plan.strips), plan.partial, args.rho, output);
}

template <class T, int kAnchors, RhoFamily<T> Family>
void launch_set(const PairSumsArgs<T>& args, const PairSumsOutput<T>& output, const Plan<T>& plan, void* stream) {
  with_sides(describe(args.pairs).sides, [&](auto sides) {
    launch_pairs<T, typename Family::template Sum<T, kAnchors, sides.value>>(args, output, plan, stream);
  });
}

template <class T, RhoFamily<T> Family>
void forward(const PairSumsArgs<T>& args, const PairSumsOutput<T>& output, void* workspace, void* stream) {
  if (!is_within_examples(args.pairs)) {
    launch("pair_sums, rows", sum_examples<T, Family>, dim3(unsigned(args.anchors)),
           threads_for(args.examples, kExampleThreads), stream, args, DeviceRho<T>(args.rho), output);
    return;
  }
  const Plan<T> plan(args, workspace);
  if (args.mask != nullptr) return launch_set<T, 1, Family>(args, output, plan, stream);
  group(args, plan.groups, stream);
  launch_set<T, kAnchorsPerBlock<T>, Family>(args, output, plan, stream);
}

}  // namespace

template <class T>
int64_t pair_sums_workspace(const PairSumsArgs<T>& args) {
  return Plan<T>(args, nullptr).workspace;
}

template <class T>
void pair_sums(const PairSumsArgs<T>& args, const PairSumsOutput<T>& output, void* workspace, int device,
               void* stream) {
  check_sizes(args);
  if (args.anchors == 0) return;
  const DeviceGuard guard(device);
  with_family(args.rho, [&](auto family) { forward<T, decltype(family)>(args, output, workspace, stream); });
}

// float, or what the file that includes this one says.
#ifndef METRIX_ELEMENT
#define METRIX_ELEMENT float
#endif
using Element = METRIX_ELEMENT;

template int64_t pair_sums_workspace<Element>(const PairSumsArgs<Element>&);
template void pair_sums<Element>(const PairSumsArgs<Element>&, const PairSumsOutput<Element>&, void*, int, void*);

}  // namespace metrix::cuda
