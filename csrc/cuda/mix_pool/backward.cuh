// mix_pool, backward: the gradient of each feature map, from where the maxima were. A block of threads takes an example
// and some channels, a thread one or two neighbours of these; sums by position lie in shared memory, where a thread has
// a column of its own.
//
//   index       32 uses of the example at a time, a lane each: the mix, and lambda or 1 - lambda as the example is its
//               first or second; read before they are needed, one or two times 32 ahead           UsesOfWarp
//   for every 64 positions, for every 8 uses of the example:
//     load        d pooled[p, c] and argmax[p, c], 8 of them before the first is needed
//     mix         weight times d pooled
//     accumulate  sum[argmax] += term, in shared memory: no other thread has this column
//   merge       nothing: a block owns its image. Sums are added to d features, their total to d averages
//
// Memory decides: 4 bytes of every use and channel of a half type. 16 warps of a multiprocessor with 8 uses of 64
// channels on their way are 32 KB, twice what hides the latency of 3 TB/s.
#pragma once

#include "channels.cuh"
#include "cuda/common/launch.h"
#include "cuda/common/memory.cuh"
#include "mix_pool.h"

namespace metrix::cuda {

#ifdef METRIX_TINY_BLOCKS
constexpr int kPositionsInShared = 4;
#else
constexpr int kPositionsInShared = 64;
#endif

constexpr int kScatterThreads = 64;
constexpr int kUsesAhead = 8;  // loaded before the first of them is added

// The uses of an example, 32 at a time. Beyond the last one the weight is 0.
template <class T>
class UsesOfWarp {
 public:
  __device__ __forceinline__ UsesOfWarp(const Mixes<T>& mixes, int64_t begin, int64_t end)
      : mixes_(mixes), at_(begin + threadIdx.x % kWarp), end_(end) {
    after_ = which();
    step();
    step();
  }

  // To the next 32.
  __device__ __forceinline__ void step() {
    mix = next_mix_;
    weight = next_weight_;
    const bool is_first = after_ < mixes_.count;
    next_mix_ = is_first ? after_ : after_ - mixes_.count;
    next_weight_ = T(0);
    if (is_there_) {
      const T lambda = mixes_.lambda[next_mix_];
      next_weight_ = is_first ? lambda : T(1) - lambda;
    }
    at_ += kWarp;
    after_ = which();
  }

  // That of this lane.
  int64_t mix = 0;
  T weight = T(0);

 private:
  __device__ __forceinline__ int64_t which() {
    is_there_ = at_ < end_;
    return is_there_ ? mixes_.uses[at_] : 0;
  }

  const Mixes<T>& mixes_;
  int64_t at_, end_, after_, next_mix_ = 0;
  T next_weight_ = T(0);
  bool is_there_;
};

// More than kPositionsInShared positions take several walks. shared_sums is [positions][threads][kChannels].
template <class T, class E, int kChannels>
__global__ void __launch_bounds__(kScatterThreads)
    scatter_gradient(const MixPoolArgs<T> args, const MixPoolGradient<T> gradient, int positions_in_shared) {
  struct alignas(kChannels * sizeof(T)) Sums {
    T of[kChannels];
  };
  Sums* const column = reinterpret_cast<Sums*>(dynamic_shared_memory()) + threadIdx.x;
  const int64_t example = blockIdx.x;
  const int64_t channel = (int64_t(blockIdx.y) * kScatterThreads + threadIdx.x) * kChannels;
  const int64_t begin = args.mixes.begin[example], end = args.mixes.begin[example + 1];
  if (begin == end) return;
  const bool has_channels = channel < args.channels;  // its lane has uses of the warp all the same
  const E* const grad_pooled = static_cast<const E*>(gradient.grad_pooled) + (has_channels ? channel : 0);
  const int16_t* const argmax = gradient.argmax + (has_channels ? channel : 0);
  const int64_t image = args.order[example];
  T* const features = gradient.features + image * args.image_stride + channel * args.channel_stride;
  T total[kChannels] = {};
  for (int from = 0; from < args.positions; from += positions_in_shared) {
    for (int x = 0; x < positions_in_shared; ++x) column[x * kScatterThreads] = {};
    UsesOfWarp<T> uses(args.mixes, begin, end);
#pragma unroll 1
    for (int64_t base = begin; base < end; base += kWarp, uses.step()) {
#pragma unroll 1
      for (int group = 0; group < kWarp && base + group < end; group += kUsesAhead) {
        E grad[kUsesAhead][kChannels];
        int16_t position[kUsesAhead][kChannels];
        METRIX_UNROLL
        for (int k = 0; k < kUsesAhead; ++k) {
          const int64_t at = __shfl_sync(kAllLanes, uses.mix, group + k) * args.channels;
          load_whole(grad_pooled + at, grad[k]);
          load_whole(argmax + at, position[k]);
        }
        METRIX_UNROLL
        for (int k = 0; k < kUsesAhead; ++k) {
          const T weight = __shfl_sync(kAllLanes, uses.weight, group + k);
          if (base + group + k >= end) break;
          METRIX_UNROLL
          for (int c = 0; c < kChannels; ++c) {
            const T term = weight * to_number(grad[k][c]);
            const int x = position[k][c] - from;
            if (unsigned(x) < unsigned(positions_in_shared)) column[x * kScatterThreads].of[c] += term;
            if (from == 0) total[c] += term;
          }
        }
      }
    }
    if (!has_channels) continue;
    for (int x = 0; x < positions_in_shared && from + x < args.positions; ++x) {
      METRIX_UNROLL
      for (int c = 0; c < kChannels; ++c)
        features[(from + x) * args.position_stride + c * args.channel_stride] += column[x * kScatterThreads].of[c];
    }
  }
  if (gradient.averages == nullptr || !has_channels) return;
  METRIX_UNROLL
  for (int c = 0; c < kChannels; ++c) gradient.averages[image * args.channels + channel + c] += total[c];
}

template <class T, class E, int kChannels>
void launch_scatter(const MixPoolArgs<T>& args, const MixPoolGradient<T>& gradient, void* stream) {
  const int positions = int(std::min<int64_t>(args.positions, kPositionsInShared));
  const dim3 blocks(unsigned(args.mixes.examples), unsigned(ceil_div(args.channels, kScatterThreads * kChannels)));
  const int64_t shared = positions * int64_t(kScatterThreads * kChannels * sizeof(T));
  launch("mix_pool_backward", scatter_gradient<T, E, kChannels>, Grid{blocks, kScatterThreads, shared}, stream, args,
         gradient, positions);
}

template <class T>
void mix_pool_backward(const MixPoolArgs<T>& args, const MixPoolGradient<T>& gradient, int device, void* stream) {
  if (args.mixes.count == 0 || args.channels == 0) return;
  const DeviceGuard guard(device);
  with_element<T>(gradient.element, [&](auto element) {
    using E = decltype(element);
    const auto is_pair = [](const auto* first) { return uintptr_t(first) % (2 * sizeof(*first)) == 0; };
    if constexpr (sizeof(E) <= sizeof(float)) {
      if (args.channels % 2 == 0 && is_pair(static_cast<const E*>(gradient.grad_pooled)) && is_pair(gradient.argmax))
        return launch_scatter<T, E, 2>(args, gradient, stream);
    }
    launch_scatter<T, E, 1>(args, gradient, stream);
  });
}

}  // namespace metrix::cuda
