// anchor_sums: for each anchor the two sums of Eq. (9) over a list of mixed embeddings.
//
// A mix serves few anchors, those of the classes of its two examples (all but neg-neg), so similarities are taken
// where they are used and no [m, p] matrix exists.
#pragma once

#include <cstdint>

#include "mixes.h"

namespace metrix {

// T is float, or double if element is kDouble.
template <class T>
struct AnchorSumsArgs {
  Mixes<T> mixes;
  AnchorRelations relations;
  Pairs pairs;
  Rho rho;
  bool both_orders;        // a mix serves anchors that have its second as the first too, with 1 - lambda
  int64_t size;            // d
  Element element;         // of mixed
  const void* mixed;       // [p, d] z
  bool normalize;          // the similarity is that of z / max(|z|, 1e-12); otherwise of z itself
  const T* inverse_norms;  // [p] 1 / max(|z|, 1e-12), or null: then z is taken as it is. On CUDA made by the kernels
  const T* anchors;        // [m, d]
  // The anchors that a class has, for a walk from a mix to its anchors: those of example e are
  // anchor_order[anchors_of[2 e]] to anchor_order[anchors_of[2 e + 1] - 1]. Some may not use the mix.
  // Null: any anchor may be meant (neg-neg, or a mask).
  const int64_t* anchor_order;  // [m]
  const int64_t* anchors_of;    // [n, 2]
};

// Every element is written.
template <class T>
struct AnchorSumsOutput {
  T* sums;     // [m, 2] positive, negative; natural logarithms of sums of exponentials, minus infinity if empty
  T* nonzero;  // [m, 2] linear: the number of terms that are not 0; exponential: 0
};

template <class T>
struct AnchorSumsGradient {
  const T* sums;       // [m, 2] over all lists of the same anchors
  const T* grad_sums;  // [m, 2]
  void* mixed;         // [p, d] every element is written, in the type of mixed
  T* anchors;          // [m, d] added to
};

namespace cpu {
// Elements are kFloat or kDouble.
template <class T>
void anchor_sums(const AnchorSumsArgs<T>& args, const AnchorSumsOutput<T>& output, int threads);

template <class T>
void anchor_sums_backward(const AnchorSumsArgs<T>& args, const AnchorSumsGradient<T>& gradient, int threads);
}  // namespace cpu

namespace cuda {
// Bytes of device memory that a call works in, a function of the shapes alone.
template <class T>
int64_t anchor_sums_workspace(const AnchorSumsArgs<T>& args);

template <class T>
int64_t anchor_sums_backward_workspace(const AnchorSumsArgs<T>& args);

// Throw std::runtime_error if a launch fails. Nothing is allocated and nothing waits, so a graph can capture them.
template <class T>
void anchor_sums(const AnchorSumsArgs<T>& args, const AnchorSumsOutput<T>& output, void* workspace, int device,
                 void* stream);

template <class T>
void anchor_sums_backward(const AnchorSumsArgs<T>& args, const AnchorSumsGradient<T>& gradient, void* workspace,
                          int device, void* stream);
}  // namespace cuda

}  // namespace metrix
