// anchor_sums in double, by warps.
#include "anchor_sums.h"
#include "backward.cuh"
#include "forward.cuh"

namespace metrix::cuda {

template <>
int64_t anchor_sums_workspace<double>(const AnchorSumsArgs<double>& args) {
  return WarpForwardPlan<double>(args, Workspace(nullptr)).workspace;
}

template <>
int64_t anchor_sums_backward_workspace<double>(const AnchorSumsArgs<double>& args) {
  return WarpBackwardPlan<double>(args, Workspace(nullptr)).workspace;
}

template <>
void anchor_sums<double>(const AnchorSumsArgs<double>& args, const AnchorSumsOutput<double>& output, void* workspace,
                         int device, void* stream) {
  if (args.relations.anchors == 0) return;
  const DeviceGuard guard(device);
  warp_forward(args, output, workspace, stream);
}

template <>
void anchor_sums_backward<double>(const AnchorSumsArgs<double>& args, const AnchorSumsGradient<double>& gradient,
                                  void* workspace, int device, void* stream) {
  if (args.mixes.count == 0 || args.size == 0) return;
  const DeviceGuard guard(device);
  warp_backward(args, gradient, workspace, stream);
}

}  // namespace metrix::cuda
