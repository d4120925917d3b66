// Mixed feature maps, pooled. A slab is a few vectors of channels: the maps of its examples are packed side by side,
// small enough for the second-level cache, and the list is walked over them, which a tile of examples after another
// reads from the first.
//
//   index       for a slab of channels, for a vector of them in it                    below (Slab)
//   load          the maps of the examples packed to [positions][lanes]               loops/maps.cpp (pack)
//                 for a group of mixes                                                below (Slab)
//   mix             F_x + ratio F_y, the larger weight taken out of the maximum       math.h (larger_weight)
//   accumulate      the maximum over positions and where it is; times the weight      loops/maps.cpp (pool)
//   backward        the gradient of a mix to its two examples, at the maximum         loops/maps.cpp (scatter)
//   merge         the gradients of the packed maps added to those of the features     loops/maps.cpp (add_unpacked)
#include "mix_pool.h"

#include "cpu/common/buffer.h"
#include "cpu/common/pages.h"
#include "cpu/common/parallel.h"
#include "cpu/common/sizes.h"
#include "cpu/loops/maps.h"
#include "math.h"

namespace metrix::cpu {
namespace {

constexpr int64_t kMostVectors = 4;     // of channels in a slab: a line each of every row, next to each other
constexpr int64_t kMixesTogether = 16;  // a group of 4 x 4 examples

// The channels of a slab, vector by vector.
template <class T>
class Slab {
 public:
  Slab(const MixPoolArgs<T>& args, const MapKernels<T>& kernels, bool averages, int64_t vectors, int64_t slab)
      : args_(args),
        lanes_(kernels.lanes),
        vectors_(vectors),
        averages_(averages),
        begin_(slab * vectors * lanes_),
        end_(std::min(args.channels, begin_ + vectors * lanes_)) {}

  int64_t map_size() const { return (args_.positions + (averages_ ? 1 : 0)) * lanes_; }
  int64_t example_size() const { return vectors_ * map_size(); }

  // body(block, first channel) for every vector.
  template <class Body>
  void for_each_vector(const Body& body) const {
    for (int64_t channel = begin_; channel < end_; channel += lanes_)
      body(MapBlock{std::min(lanes_, end_ - channel), args_.positions, averages_,
                    (channel - begin_) / lanes_ * map_size(), args_.channels},
           channel);
  }

  // body(example) for every one that a mix uses.
  template <class Body>
  void for_each_example(const Body& body) const {
    for (int64_t e = 0; e < args_.mixes.examples; ++e)
      if (args_.mixes.begin[e] < args_.mixes.begin[e + 1]) body(e);
  }

  // body(first mix, count) for every group of mixes.
  template <class Body>
  void for_each_group(const Body& body) const {
    for (int64_t p = 0; p < args_.mixes.count; p += kMixesTogether)
      body(p, std::min(kMixesTogether, args_.mixes.count - p));
  }

 private:
  const MixPoolArgs<T>& args_;
  const int64_t lanes_, vectors_;
  const bool averages_;
  const int64_t begin_, end_;
};

template <class T>
struct Packed {
  Buffer<T> maps;  // [examples][vectors of a slab][positions and average][lanes]
  std::vector<char> finite;
};

template <class T, class Body>
void for_each_channel_slab(const MixPoolArgs<T>& args, const MapKernels<T>& kernels, bool averages, int threads,
                           const Body& body) {
  threads = threads_for(args.mixes.count * args.channels * args.positions, threads);
  // Channels do not meet, so results do not depend on how many a slab has: every thread should have some slabs.
  const int64_t all = ceil_div(args.channels, kernels.lanes);
  const int64_t vectors = std::clamp<int64_t>(all / (2 * threads), 1, kMostVectors);
  for_each_slab<Packed<T>>(ceil_div(all, vectors), threads, [&](Packed<T>& packed, int64_t slab) {
    body(packed, Slab<T>(args, kernels, averages, vectors, slab));
  });
}

}  // namespace

template <class T>
void mix_pool(const MixPoolArgs<T>& args, const MixPoolInput<T>& input, const MixPoolOutput& output, int threads) {
  const MapKernels<T>& kernels = map_kernels<T>();
  const Mixes<T>& list = args.mixes;
  const T* const features = static_cast<const T*>(input.features);
  T* const pooled = static_cast<T*>(output.pooled);
  const bool averages = input.averages != nullptr;
  expect_writes(pooled, list.count * args.channels * int64_t(sizeof(T)));
  if (output.argmax != nullptr) expect_writes(output.argmax, list.count * args.channels * int64_t(sizeof(int16_t)));
  for_each_channel_slab(args, kernels, averages, threads, [&](Packed<T>& packed, const Slab<T>& slab) {
    T* const maps = packed.maps.take(list.examples * slab.example_size());
    packed.finite.assign(list.examples, 1);
    slab.for_each_example([&](int64_t e) {
      const int64_t image = args.order[e];
      slab.for_each_vector([&](const MapBlock& block, int64_t channel) {
        T* const map = maps + e * slab.example_size() + block.offset;
        const T* const from = features + image * args.image_stride + channel * args.channel_stride;
        packed.finite[e] &= kernels.pack(block, from, args.channel_stride, args.position_stride, map);
        if (!averages) return;
        const T* const average = input.averages + image * args.channels + channel;
        std::fill(std::copy(average, average + block.channels, map + args.positions * kernels.lanes),
                  map + slab.map_size(), T(0));
      });
    });
    slab.for_each_group([&](int64_t begin, int64_t count) {
      PooledMix<T> mixes[kMixesTogether];
      bool finite = true;
      for (int64_t k = 0; k < count; ++k) {
        const int64_t i = list.first[begin + k], j = list.second[begin + k];
        const LargerWeight<T> larger = larger_weight(list.lambda[begin + k]);
        finite = finite && packed.finite[i] && packed.finite[j];
        mixes[k] = {maps + (larger.swapped ? j : i) * slab.example_size(),
                    maps + (larger.swapped ? i : j) * slab.example_size(), larger.weight, larger.ratio};
      }
      slab.for_each_vector([&](const MapBlock& block, int64_t channel) {
        const int64_t to = begin * args.channels + channel;
        kernels.pool(block, mixes, count, finite, pooled + to, output.argmax == nullptr ? nullptr : output.argmax + to);
      });
    });
  });
}

template <class T>
void mix_pool_backward(const MixPoolArgs<T>& args, const MixPoolGradient<T>& gradient, int threads) {
  const MapKernels<T>& kernels = map_kernels<T>();
  const Mixes<T>& list = args.mixes;
  const T* const grad_pooled = static_cast<const T*>(gradient.grad_pooled);
  const bool averages = gradient.averages != nullptr;
  for_each_channel_slab(args, kernels, averages, threads, [&](Packed<T>& packed, const Slab<T>& slab) {
    T* const maps = packed.maps.take(list.examples * slab.example_size());
    slab.for_each_example(
        [&](int64_t e) { std::fill(maps + e * slab.example_size(), maps + (e + 1) * slab.example_size(), T(0)); });
    slab.for_each_group([&](int64_t begin, int64_t count) {
      ScatteredMix<T> mixes[kMixesTogether];
      for (int64_t k = 0; k < count; ++k)
        mixes[k] = {maps + list.first[begin + k] * slab.example_size(),
                    maps + list.second[begin + k] * slab.example_size(), list.lambda[begin + k]};
      slab.for_each_vector([&](const MapBlock& block, int64_t channel) {
        const int64_t from = begin * args.channels + channel;
        kernels.scatter(block, mixes, count, grad_pooled + from, gradient.argmax + from);
      });
    });
    slab.for_each_example([&](int64_t e) {
      const int64_t image = args.order[e];
      slab.for_each_vector([&](const MapBlock& block, int64_t channel) {
        const T* const map = maps + e * slab.example_size() + block.offset;
        T* const to = gradient.features + image * args.image_stride + channel * args.channel_stride;
        kernels.add_unpacked(block, map, args.channel_stride, args.position_stride, to);
        if (!averages) return;
        T* const average = gradient.averages + image * args.channels + channel;
        for (int64_t l = 0; l < block.channels; ++l) average[l] += map[args.positions * kernels.lanes + l];
      });
    });
  });
}

template void mix_pool<float>(const MixPoolArgs<float>&, const MixPoolInput<float>&, const MixPoolOutput&, int);
template void mix_pool<double>(const MixPoolArgs<double>&, const MixPoolInput<double>&, const MixPoolOutput&, int);
template void mix_pool_backward<float>(const MixPoolArgs<float>&, const MixPoolGradient<float>&, int);
template void mix_pool_backward<double>(const MixPoolArgs<double>&, const MixPoolGradient<double>&, int);

}  // namespace metrix::cpu
