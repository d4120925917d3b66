// mix_pool: the mixes of feature maps, pooled over positions, without the mixed maps.
//
//   pooled[p, c] = max over hw of (lambda F_i[c, hw] + (1 - lambda) F_j[c, hw])
//                  + lambda avg_i[c] + (1 - lambda) avg_j[c]                       (averages given)
//
// The larger weight is taken out of the maximum, w max(F_x + r F_y) with r <= 1: one fused multiply-add and one
// maximum for an element.
#pragma once

#include <cstdint>

#include "mixes.h"

namespace metrix {

// T is float, or double for double features: the type of lambda, of averages and of what is added up.
template <class T>
struct MixPoolArgs {
  Mixes<T> mixes;
  int64_t channels, positions;  // positions = h w, at most 32,767
  // Example e, channel c, position x of a feature map is at order[e] * image + c * channel + x * position elements.
  const int64_t* order;  // [n]
  int64_t image_stride, channel_stride, position_stride;
};

template <class T>
struct MixPoolInput {
  Element element;
  const void* features;  // [images, c, positions] strided
  const T* averages;     // [images, c] by image, not by example; or null
};

// Every element is written.
struct MixPoolOutput {
  void* pooled;     // [p, c] in the type of the features
  int16_t* argmax;  // [p, c] the first position of the maximum; or null
};

template <class T>
struct MixPoolGradient {
  Element element;
  const void* grad_pooled;  // [p, c]
  const int16_t* argmax;    // [p, c]
  // Added to.
  T* features;  // [images, c, positions] strided
  T* averages;  // [images, c] by image; or null
};

namespace cpu {
// Elements are kFloat or kDouble.
template <class T>
void mix_pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, int threads);

template <class T>
void mix_pool_backward(const MixPoolArgs<T>& args, const MixPoolGradient<T>& gradient, int threads);
}  // namespace cpu

namespace cuda {
// Throw std::runtime_error if a launch fails. Nothing is allocated and nothing waits, so a graph can capture them.
template <class T>
void mix_pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, int device,
              void* stream);

template <class T>
void mix_pool_backward(const MixPoolArgs<T>& args, const MixPoolGradient<T>& gradient, int device, void* stream);
}  // namespace cuda

}  // namespace metrix
