#include "backward.cuh"
#include "forward.cuh"
#include "mix_pool.h"

namespace metrix::cuda {

template void mix_pool<double>(const MixPoolArgs<double>&, const MixPoolInput<double>&, const MixPoolOutput&, int,
                               void*);
template void mix_pool_backward<double>(const MixPoolArgs<double>&, const MixPoolGradient<double>&, int, void*);

}  // namespace metrix::cuda
