// class_order: the examples sorted by class, and the range of columns that each class then has.
#pragma once

#include <cstdint>

namespace metrix {

// Every element is written.
struct ClassOrder {
  int64_t* order;      // [n] where each example stood; equal labels keep their order
  int64_t* positives;  // [n, 2] first and one-past-last place of the class, by place
  int64_t* place;      // [n] 0 to n - 1
};

namespace cpu {
// labels [n].
void class_order(int64_t examples, const int64_t* labels, const ClassOrder& output);
}  // namespace cpu

namespace cuda {
void class_order(int64_t examples, const int64_t* labels, const ClassOrder& output, int device, void* stream);
}  // namespace cuda

}  // namespace metrix
