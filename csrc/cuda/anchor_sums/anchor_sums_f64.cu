#include "anchor_sums.h"
#include "backward.cuh"
#include "forward.cuh"

namespace metrix::cuda {

template int64_t anchor_sums_workspace<double>(const AnchorSumsArgs<double>&);
template int64_t anchor_sums_backward_workspace<double>(const AnchorSumsArgs<double>&);
template void anchor_sums<double>(const AnchorSumsArgs<double>&, const AnchorSumsOutput<double>&, void*, int, void*);
template void anchor_sums_backward<double>(const AnchorSumsArgs<double>&, const AnchorSumsGradient<double>&, void*, int,
                                           void*);

}  // namespace metrix::cuda
