#include "mix_pool.cuh"
#include "mix_pool_backward.cuh"

namespace metrix::cuda {

template void mix_pool<float>(const MixPoolArgs<float>&, const MixPoolInput<float>&, const MixPoolOutput&, int, void*);
template void mix_pool_backward<float>(const MixPoolArgs<float>&, const MixPoolGradient<float>&, int, void*);

}  // namespace metrix::cuda
