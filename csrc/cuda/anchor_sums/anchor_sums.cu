// anchor_sums in float: embeddings in bfloat16 on tensor cores where a block has room for their tiles, others by warps.
#include "anchor_sums.h"
#include "backward.cuh"
#include "forward.cuh"
#include "tiles_backward.cuh"
#include "tiles_forward.cuh"

namespace metrix::cuda {

// Before it is known what the device has room for: whatever is chosen fits.
template <>
int64_t anchor_sums_workspace<float>(const AnchorSumsArgs<float>& args) {
  const int64_t of_tiles = is_for_tiles(args) ? TileForwardPlan(args, Workspace(nullptr)).workspace : 0;
  return std::max(of_tiles, WarpForwardPlan<float>(args, Workspace(nullptr)).workspace);
}

template <>
int64_t anchor_sums_backward_workspace<float>(const AnchorSumsArgs<float>& args) {
  const int64_t of_tiles = is_for_tiles(args) ? TileBackwardPlan(args, Workspace(nullptr)).workspace : 0;
  return std::max(of_tiles, WarpBackwardPlan<float>(args, Workspace(nullptr)).workspace);
}

template <>
void anchor_sums<float>(const AnchorSumsArgs<float>& args, const AnchorSumsOutput<float>& output, void* workspace,
                        int device, void* stream) {
  if (args.relations.anchors == 0) return;
  const DeviceGuard guard(device);
  const int stages = tile_stages(args, device);
  if (stages > 0)
    tile_forward(args, output, workspace, stages, stream);
  else
    warp_forward(args, output, workspace, stream);
}

template <>
void anchor_sums_backward<float>(const AnchorSumsArgs<float>& args, const AnchorSumsGradient<float>& gradient,
                                 void* workspace, int device, void* stream) {
  if (args.mixes.count == 0 || args.size == 0) return;
  const DeviceGuard guard(device);
  const int stages = tile_stages(args, device);
  if (stages > 0)
    tile_backward(args, gradient, workspace, stages, stream);
  else
    warp_backward(args, gradient, workspace, stream);
}

}  // namespace metrix::cuda
