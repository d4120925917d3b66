#include "anchor_sums.h"
#include "backward.cuh"
#include "forward.cuh"

namespace metrix::cuda {

template int64_t anchor_sums_workspace<float>(const AnchorSumsArgs<float>&);
template int64_t anchor_sums_backward_workspace<float>(const AnchorSumsArgs<float>&);
template void anchor_sums<float>(const AnchorSumsArgs<float>&, const AnchorSumsOutput<float>&, void*, int, void*);
template void anchor_sums_backward<float>(const AnchorSumsArgs<float>&, const AnchorSumsGradient<float>&, void*, int,
                                          void*);

}  // namespace metrix::cuda
