// mix_pool, backward: the gradient of each feature map, from where the maxima were. A block of threads takes an example
// and some channels, a thread one of these; the sums by position lie in shared memory, where a thread has a column.
//
//   index       the uses of the example in mixes, in their order                              Mixes::uses
//   for every 64 positions, for every 4 uses of the example:
//     load        d pooled[p, c] and argmax[p, c], 4 of them before the first is needed
//     mix         lambda or 1 - lambda times d pooled, as the example is the first or the second
//     accumulate  sum[argmax] += term, in shared memory: no other thread has this column
//   merge       nothing: a block owns its image. Sums are added to d features, their total to d averages
#pragma once

#include "cuda/common/elements.cuh"
#include "cuda/common/launch.h"
#include "mix_pool.h"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kPositionsInShared = 4;
#else
constexpr int kPositionsInShared = 64;
#endif

// 32 KB of sums, so that several blocks share a multiprocessor.
template <class T>
constexpr int kScatterThreads = sizeof(T) == 4 ? 128 : 64;

constexpr int kUsesAhead = 4;  // loaded before the first of them is added

// More than kPositionsInShared positions take several walks.
template <class T, class E>
__global__ void __launch_bounds__(kScatterThreads<T>)
    scatter_gradient(const MixPoolArgs<T> args, const MixPoolGradient<T> gradient) {
  __shared__ T shared_sums[kPositionsInShared][kScatterThreads<T>];
  const int64_t example = blockIdx.x, channel = int64_t(blockIdx.y) * kScatterThreads<T> + threadIdx.x;
  const int64_t begin = args.mixes.begin[example], end = args.mixes.begin[example + 1];
  if (channel >= args.channels || begin == end) return;
  const E* const grad_pooled = static_cast<const E*>(gradient.grad_pooled) + channel;
  const int64_t image = args.order[example];
  T* const features = gradient.features + image * args.image_stride + channel * args.channel_stride;
  T total = T(0);
  for (int from = 0; from < args.positions; from += kPositionsInShared) {
    for (int x = 0; x < kPositionsInShared; ++x) shared_sums[x][threadIdx.x] = T(0);
    for (int64_t use = begin; use < end; use += kUsesAhead) {
      T term[kUsesAhead];
      int position[kUsesAhead];
      METRIX_UNROLL
      for (int k = 0; k < kUsesAhead; ++k) {
        term[k] = T(0);
        position[k] = 0;
        if (use + k >= end) continue;
        const int64_t which = args.mixes.uses[use + k];
        const bool is_first = which < args.mixes.count;
        const int64_t mix = is_first ? which : which - args.mixes.count, at = mix * args.channels;
        const T lambda = args.mixes.lambda[mix];
        term[k] = (is_first ? lambda : T(1) - lambda) * to_number(grad_pooled[at]);
        position[k] = int(gradient.argmax[at + channel]) - from;
      }
      METRIX_UNROLL
      for (int k = 0; k < kUsesAhead; ++k) {
        if (unsigned(position[k]) < unsigned(kPositionsInShared)) shared_sums[position[k]][threadIdx.x] += term[k];
        if (from == 0) total += term[k];
      }
    }
    for (int x = 0; x < kPositionsInShared && from + x < args.positions; ++x)
      features[(from + x) * args.position_stride] += shared_sums[x][threadIdx.x];
  }
  if (gradient.averages != nullptr) gradient.averages[image * args.channels + channel] += total;
}

template <class T>
void mix_pool_backward(const MixPoolArgs<T>& args, const MixPoolGradient<T>& gradient, int device, void* stream) {
  if (args.mixes.count == 0 || args.channels == 0) return;
  const DeviceGuard guard(device);
  with_element<T>(gradient.element, [&](auto element) {
    const dim3 grid(unsigned(args.mixes.examples), unsigned(ceil_div(args.channels, kScatterThreads<T>)));
    launch("mix_pool_backward", scatter_gradient<T, decltype(element)>, grid, kScatterThreads<T>, stream, args,
           gradient);
  });
}

}  // namespace metrix::cuda
