// The inner loops of mix_pool, compiled once per instruction set: feature maps of a vector of channels.
//
// A packed map is [positions][lanes], and one row more where averages are pooled too: the average, which mixes as a
// position does. Channels that a map lacks are 0.
#pragma once

#include <cstdint>

namespace metrix::cpu {

// weight (larger + ratio smaller), of packed maps.
template <class T>
struct PooledMix {
  const T *larger, *smaller;
  T weight, ratio;
};

// lambda first + (1 - lambda) second, of the gradients of packed maps.
template <class T>
struct ScatteredMix {
  T *first, *second;
  T lambda;
};

// Some channels of some maps, [mixes or examples][channels], rows stride apart.
struct MapBlock {
  int64_t channels;   // at most lanes
  int64_t positions;  // without the average
  bool averages;      // whether there is one
  int64_t offset;     // from a pointer of a mix to the map of these channels
  int64_t stride;     // between the rows of pooled, of its gradient and of argmax
};

template <class T>
struct MapKernels {
  int64_t lanes;
  // Whether all values are finite.
  bool (*pack)(const MapBlock&, const T* map, int64_t channel_stride, int64_t position_stride, T* packed);
  // finite: all values of the mixes are. argmax may be null.
  void (*pool)(const MapBlock&, const PooledMix<T>* mixes, int64_t count, bool finite, T* pooled, int16_t* argmax);
  void (*scatter)(const MapBlock&, const ScatteredMix<T>* mixes, int64_t count, const T* grad_pooled,
                  const int16_t* argmax);
  void (*add_unpacked)(const MapBlock&, const T* packed, int64_t channel_stride, int64_t position_stride, T* map);
};

// The kernels of the instruction set that row_kernels() has.
template <class T>
const MapKernels<T>& map_kernels();

}  // namespace metrix::cpu
