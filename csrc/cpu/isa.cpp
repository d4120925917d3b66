// Picks the row kernels by what the processor has. METRIX_CPU_ISA lowers the choice, for tests and for reports.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "rows.h"

namespace metrix::cpu {

#define METRIX_DECLARE(isa)                      \
  extern const RowKernels<float> kRowsF32_##isa; \
  extern const RowKernels<double> kRowsF64_##isa;
METRIX_DECLARE(baseline)
#ifdef METRIX_X86
METRIX_DECLARE(avx2)
METRIX_DECLARE(avx512)
#endif

namespace {

struct InstructionSet {
  const char* name;
  const RowKernels<float>* f32;
  const RowKernels<double>* f64;
};

InstructionSet choose() {
  const char* named = std::getenv("METRIX_CPU_ISA");
  const bool any = named == nullptr || *named == '\0';
  const auto wanted = [&](const char* name) { return any || std::strcmp(named, name) == 0; };
#ifdef METRIX_X86
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && wanted("avx512")) return {"avx512", &kRowsF32_avx512, &kRowsF64_avx512};
  if (has_avx2 && wanted("avx2")) return {"avx2", &kRowsF32_avx2, &kRowsF64_avx2};
#endif
  if (wanted("baseline")) return {"baseline", &kRowsF32_baseline, &kRowsF64_baseline};
  throw std::runtime_error("METRIX_CPU_ISA=" + std::string(named) +
                           " is not one of baseline, avx2, avx512, or this processor lacks it");
}

const InstructionSet& chosen() {
  static const InstructionSet set = choose();
  return set;
}

}  // namespace

template <>
const RowKernels<float>& row_kernels<float>() {
  return *chosen().f32;
}

template <>
const RowKernels<double>& row_kernels<double>() {
  return *chosen().f64;
}

const char* instruction_set() { return chosen().name; }

}  // namespace metrix::cpu
