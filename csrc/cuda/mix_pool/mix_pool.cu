#include "backward.cuh"
#include "forward.cuh"
#include "mix_pool.h"

namespace metrix::cuda {

template void mix_pool<float>(const MixPoolArgs<float>&, const MixPoolInput<float>&, const MixPoolOutput&, int, void*);
template void mix_pool_backward<float>(const MixPoolArgs<float>&, const MixPoolGradient<float>&, int, void*);

}  // namespace metrix::cuda
