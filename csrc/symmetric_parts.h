// symmetric_parts: x + x^T in three parts of bfloat16, whose sum it is to 24 bits.
#pragma once

#include <cstdint>

namespace metrix::cuda {

// parts [3, n, n] bfloat16 of x [n, n]: high, middle and low, each rounded from what the ones before leave over. Where
// high is not finite, so is nothing that is made of the parts.
void symmetric_parts(int64_t rows, const float* x, void* parts, int device, void* stream);

}  // namespace metrix::cuda
