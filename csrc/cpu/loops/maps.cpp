// Compiled once per instruction set, as rows.cpp is.
#include "maps.h"

#include <type_traits>
#include <utility>

#include "simd.h"

namespace metrix::cpu {
namespace {

constexpr int kTogether = 4;  // mixes, so that one's maximum does not wait for its last

template <class T>
using Index = decltype(Vector<T>{} > Vector<T>{});

// As many 16-bit integers as a vector has lanes.
template <class T>
struct NarrowOf;
template <>
struct NarrowOf<float> {
  typedef int16_t type __attribute__((vector_size(METRIX_VECTOR_BYTES / 2)));
};
template <>
struct NarrowOf<double> {
  typedef int16_t type __attribute__((vector_size(METRIX_VECTOR_BYTES / 4)));
};

template <class T>
METRIX_FN void store_some(T* to, Vector<T> v, int64_t count) {
  if (count == kLanes<T>) {
    store(to, v);
  } else {
    for (int64_t l = 0; l < count; ++l) to[l] = v[l];
  }
}

template <class T>
METRIX_FN void store_index(int16_t* to, Index<T> index, int64_t count) {
  const auto narrow = __builtin_convertvector(index, typename NarrowOf<T>::type);
  if (count == kLanes<T>) {
    __builtin_memcpy(to, &narrow, sizeof(narrow));
  } else {
    for (int64_t l = 0; l < count; ++l) to[l] = narrow[l];
  }
}

// Element l of what two vectors become when the off-diagonal blocks of size half of their rows change places: of the
// upper row, or of the lower one. Indices from kLanes on are of the lower row.
template <class T>
constexpr int exchanged(int l, int half, bool lower) {
  const bool right = (l & half) != 0;
  if (lower) return right ? l + int(kLanes<T>) : l + half;
  return right ? l - half + int(kLanes<T>) : l;
}

template <int half, class T, int... l>
METRIX_FN void exchange(Vector<T>& upper, Vector<T>& lower, std::integer_sequence<int, l...>) {
  const Vector<T> above = upper;
  upper = __builtin_shufflevector(above, lower, exchanged<T>(l, half, false)...);
  lower = __builtin_shufflevector(above, lower, exchanged<T>(l, half, true)...);
}

// A square of as many vectors as a vector has lanes, in place: blocks of half the size change places, then within each.
template <int half, class T>
METRIX_FN void transpose(Vector<T>* rows) {
  if constexpr (half > 0) {
    METRIX_UNROLL
    for (int r = 0; r < kLanes<T>; ++r)
      if ((r & half) == 0) exchange<half, T>(rows[r], rows[r + half], std::make_integer_sequence<int, kLanes<T>>());
    transpose<half / 2, T>(rows);
  }
}

// Rows far apart are on a page each, which no hardware prefetcher crosses.
template <int Write, class T>
METRIX_FN void prefetch_rows(const T* rows, int64_t count, int64_t stride) {
  for (int64_t k = 0; k < count; ++k) __builtin_prefetch(rows + k * stride, Write);
}

template <class T>
bool pack(const MapBlock& block, const T* map, int64_t channel_stride, int64_t position_stride, T* packed) {
  constexpr int64_t lanes = kLanes<T>;
  const bool whole = block.channels == lanes;
  if (whole && channel_stride == 1) {
    for (int64_t x = 0; x < block.positions; ++x) store(packed + x * lanes, load(map + x * position_stride));
  } else if (whole && position_stride == 1) {
    int64_t x = 0;
    for (; x + lanes <= block.positions; x += lanes) {
      Vector<T> rows[lanes];
      METRIX_UNROLL
      for (int64_t l = 0; l < lanes; ++l) rows[l] = load(map + l * channel_stride + x);
      transpose<lanes / 2, T>(rows);
      METRIX_UNROLL
      for (int64_t l = 0; l < lanes; ++l) store(packed + (x + l) * lanes, rows[l]);
    }
    for (; x < block.positions; ++x)
      for (int64_t l = 0; l < lanes; ++l) packed[x * lanes + l] = map[l * channel_stride + x];
  } else {
    if (!whole)
      for (int64_t k = 0; k < block.positions * lanes; ++k) packed[k] = T(0);
    for (int64_t l = 0; l < block.channels; ++l)
      for (int64_t x = 0; x < block.positions; ++x)
        packed[x * lanes + l] = map[l * channel_stride + x * position_stride];
  }
  Vector<T> difference{};  // x - x is 0 for a finite x and NaN otherwise
  for (int64_t x = 0; x < block.positions; ++x) difference += load(packed + x * lanes) - load(packed + x * lanes);
  return sum<T>(difference) == T(0);
}

template <class T>
void add_unpacked(const MapBlock& block, const T* packed, int64_t channel_stride, int64_t position_stride, T* map) {
  constexpr int64_t lanes = kLanes<T>;
  if (block.channels == lanes && channel_stride == 1) {
    for (int64_t x = 0; x < block.positions; ++x) {
      T* row = map + x * position_stride;
      store(row, load(row) + load(packed + x * lanes));
    }
    return;
  }
  int64_t x = 0;
  if (block.channels == lanes && position_stride == 1) {
    for (; x + lanes <= block.positions; x += lanes) {
      Vector<T> rows[lanes];
      METRIX_UNROLL
      for (int64_t l = 0; l < lanes; ++l) rows[l] = load(packed + (x + l) * lanes);
      transpose<lanes / 2, T>(rows);
      METRIX_UNROLL
      for (int64_t l = 0; l < lanes; ++l) {
        T* row = map + l * channel_stride + x;
        store(row, load(row) + rows[l]);
      }
    }
  }
  for (int64_t l = 0; l < block.channels; ++l)
    for (int64_t y = x; y < block.positions; ++y)
      map[l * channel_stride + y * position_stride] += packed[y * lanes + l];
}

template <class T>
METRIX_FN Vector<T> at(const PooledMix<T>& mix, int64_t offset) {
  return load(mix.larger + offset) + mix.ratio * load(mix.smaller + offset);
}

// The maximum keeps a NaN, and the first of equal positions. Where all is finite no NaN can come of it, and a
// maximum is one instruction.
template <bool Finite, bool WithArgmax, class T>
void pool_of(const MapBlock& block, const PooledMix<T>* mixes, int64_t count, T* pooled, int16_t* argmax) {
  constexpr int64_t lanes = kLanes<T>;
  using Lane = std::remove_reference_t<decltype(Index<T>{}[0])>;
  prefetch_rows<1>(pooled, count, block.stride);
  if constexpr (WithArgmax) prefetch_rows<1>(argmax, count, block.stride);
  for (int64_t begin = 0; begin < count; begin += kTogether) {
    PooledMix<T> mix[kTogether];
    Vector<T> top[kTogether];
    Index<T> position[kTogether] = {};
    METRIX_UNROLL
    for (int k = 0; k < kTogether; ++k) {
      mix[k] = mixes[begin + k < count ? begin + k : count - 1];
      top[k] = at(mix[k], block.offset);
    }
    for (int64_t x = 1; x < block.positions; ++x) {
      const Index<T> here = Index<T>{} + Lane(x);
      METRIX_UNROLL
      for (int k = 0; k < kTogether; ++k) {
        const Vector<T> value = at(mix[k], block.offset + x * lanes);
        if constexpr (Finite) {
          // Two comparisons: the maximum is one instruction, and does not wait for the mask of the other.
          if constexpr (WithArgmax) position[k] = select(value <= top[k], position[k], here);
          top[k] = select(value > top[k], value, top[k]);
        } else {
          const Index<T> above = (value > top[k]) | ((value != value) & (top[k] == top[k]));
          if constexpr (WithArgmax) position[k] = select(above, here, position[k]);
          top[k] = select(above, value, top[k]);
        }
      }
    }
    METRIX_UNROLL
    for (int k = 0; k < kTogether; ++k) {
      if (begin + k >= count) break;
      const int64_t row = (begin + k) * block.stride;
      if (block.averages) top[k] += at(mix[k], block.offset + block.positions * lanes);
      store_some<T>(pooled + row, mix[k].weight * top[k], block.channels);
      if constexpr (WithArgmax) store_index<T>(argmax + row, position[k], block.channels);
    }
  }
}

template <class T>
void pool(const MapBlock& block, const PooledMix<T>* mixes, int64_t count, bool finite, T* pooled, int16_t* argmax) {
  if (argmax == nullptr)
    finite ? pool_of<true, false>(block, mixes, count, pooled, argmax)
           : pool_of<false, false>(block, mixes, count, pooled, argmax);
  else
    finite ? pool_of<true, true>(block, mixes, count, pooled, argmax)
           : pool_of<false, true>(block, mixes, count, pooled, argmax);
}

template <class T>
void scatter(const MapBlock& block, const ScatteredMix<T>* mixes, int64_t count, const T* grad_pooled,
             const int16_t* argmax) {
  constexpr int64_t lanes = kLanes<T>;
  prefetch_rows<0>(grad_pooled, count, block.stride);
  prefetch_rows<0>(argmax, count, block.stride);
  for (int64_t p = 0; p < count; ++p) {
    const T lambda = mixes[p].lambda, rest = T(1) - lambda;
    T* const first = mixes[p].first + block.offset;
    T* const second = mixes[p].second + block.offset;
    const T* const grad = grad_pooled + p * block.stride;
    const int16_t* const position = argmax + p * block.stride;
    for (int64_t l = 0; l < block.channels; ++l) {
      const int64_t to = position[l] * lanes + l;
      first[to] += lambda * grad[l];
      second[to] += rest * grad[l];
    }
    if (!block.averages) continue;
    for (int64_t l = 0; l < block.channels; ++l) {
      first[block.positions * lanes + l] += lambda * grad[l];
      second[block.positions * lanes + l] += rest * grad[l];
    }
  }
}

template <class T>
constexpr MapKernels<T> kTable = {kLanes<T>, pack<T>, pool<T>, scatter<T>, add_unpacked<T>};

}  // namespace

extern const MapKernels<float> METRIX_OF_ISA(kMapsF32_) = kTable<float>;
extern const MapKernels<double> METRIX_OF_ISA(kMapsF64_) = kTable<double>;

}  // namespace metrix::cpu
