// The inner loops of matrix products, with as many accumulators as the registers of an instruction set hold. Included
// by rows.cpp alone.
#pragma once

#include "rows.h"
#include "simd.h"

namespace metrix::cpu {
namespace {

constexpr bool kManyRegisters = METRIX_VECTOR_BYTES == 64;  // 32 instead of 16

template <class T>
void inner_products(int64_t size, const T* const x[kGramTile], const T* const y[kGramTile],
                    T out[kGramTile][kGramTile]) {
  constexpr int kColumns = kManyRegisters ? kGramTile : kGramTile / 2;
  for (int begin = 0; begin < kGramTile; begin += kColumns) {
    Vector<T> sums[kGramTile][kColumns] = {};
    int64_t k = 0;
    for (; k + kLanes<T> <= size; k += kLanes<T>) {
      Vector<T> y_k[kColumns];
      METRIX_UNROLL
      for (int c = 0; c < kColumns; ++c) y_k[c] = load(y[begin + c] + k);
      METRIX_UNROLL
      for (int r = 0; r < kGramTile; ++r) {
        const Vector<T> x_k = load(x[r] + k);
        METRIX_UNROLL
        for (int c = 0; c < kColumns; ++c) sums[r][c] += x_k * y_k[c];
      }
    }
    for (int r = 0; r < kGramTile; ++r)
      for (int c = 0; c < kColumns; ++c) {
        T total = sum<T>(sums[r][c]);
        for (int64_t tail = k; tail < size; ++tail) total += x[r][tail] * y[begin + c][tail];
        out[r][begin + c] = total;
      }
  }
}

// weighted_sums of the columns that Vectors vectors hold.
template <int Vectors, class T>
METRIX_FN void weighted_strip(const WeightedSums<T>& sums, int64_t column) {
  Vector<T> totals[kSumsTile][Vectors] = {};
  if (sums.add)
    for (int64_t r = 0; r < sums.rows; ++r)
      for (int v = 0; v < Vectors; ++v) totals[r][v] = load(sums.out + r * sums.stride + column + v * kLanes<T>);
  for (int64_t k = 0; k < sums.count; ++k) {
    Vector<T> x_k[Vectors];
    METRIX_UNROLL
    for (int v = 0; v < Vectors; ++v) x_k[v] = load(sums.x + k * sums.stride + column + v * kLanes<T>);
    METRIX_UNROLL
    for (int r = 0; r < kSumsTile; ++r) {
      METRIX_UNROLL
      for (int v = 0; v < Vectors; ++v) totals[r][v] += sums.weights[k * kSumsTile + r] * x_k[v];
    }
  }
  METRIX_UNROLL
  for (int r = 0; r < kSumsTile; ++r) {
    if (r == sums.rows) return;
    METRIX_UNROLL
    for (int v = 0; v < Vectors; ++v) store(sums.out + r * sums.stride + column + v * kLanes<T>, totals[r][v]);
  }
}

template <class T>
void weighted_sums(const WeightedSums<T>& sums) {
  constexpr int kVectors = kManyRegisters ? 4 : 2;
  int64_t column = 0;
  for (; column + kVectors * kLanes<T> <= sums.columns; column += kVectors * kLanes<T>)
    weighted_strip<kVectors>(sums, column);
  for (; column + kLanes<T> <= sums.columns; column += kLanes<T>) weighted_strip<1>(sums, column);
  for (; column < sums.columns; ++column)
    for (int64_t r = 0; r < sums.rows; ++r) {
      T total = sums.add ? sums.out[r * sums.stride + column] : T(0);
      for (int64_t k = 0; k < sums.count; ++k)
        total += sums.weights[k * kSumsTile + r] * sums.x[k * sums.stride + column];
      sums.out[r * sums.stride + column] = total;
    }
}

}  // namespace
}  // namespace metrix::cpu
