#include "class_order.h"

#include <algorithm>
#include <numeric>

namespace metrix::cpu {

void class_order(int64_t examples, const int64_t* labels, const ClassOrder& output) {
  int64_t* const end = output.order + examples;
  std::iota(output.order, end, int64_t(0));
  std::iota(output.place, output.place + examples, int64_t(0));
  std::sort(output.order, end,
            [labels](int64_t a, int64_t b) { return labels[a] != labels[b] ? labels[a] < labels[b] : a < b; });
  for (int64_t begin = 0, next = 0; begin < examples; begin = next) {
    while (next < examples && labels[output.order[next]] == labels[output.order[begin]]) ++next;
    for (int64_t place = begin; place < next; ++place) {
      output.positives[2 * place] = begin;
      output.positives[2 * place + 1] = next;
    }
  }
}

}  // namespace metrix::cpu
