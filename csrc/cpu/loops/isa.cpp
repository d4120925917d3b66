// Picks the kernels by what the processor has. METRIX_CPU_ISA lowers the choice, for tests and for reports.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "dots.h"
#include "maps.h"
#include "rows.h"

namespace metrix::cpu {

namespace {

template <class T>
struct Tables {
  const RowKernels<T>* rows;
  const MapKernels<T>* maps;
  const DotKernels<T>* dots;
};

struct InstructionSet {
  const char* name;
  Tables<float> f32;
  Tables<double> f64;
};

}  // namespace

#define METRIX_DECLARE(isa)                       \
  extern const RowKernels<float> kRowsF32_##isa;  \
  extern const RowKernels<double> kRowsF64_##isa; \
  extern const MapKernels<float> kMapsF32_##isa;  \
  extern const MapKernels<double> kMapsF64_##isa; \
  extern const DotKernels<float> kDotsF32_##isa;  \
  extern const DotKernels<double> kDotsF64_##isa; \
  static const InstructionSet kSet_##isa = {      \
      #isa, {&kRowsF32_##isa, &kMapsF32_##isa, &kDotsF32_##isa}, {&kRowsF64_##isa, &kMapsF64_##isa, &kDotsF64_##isa}};
METRIX_DECLARE(baseline)
#ifdef METRIX_X86
METRIX_DECLARE(avx2)
METRIX_DECLARE(avx512)
#endif

namespace {

InstructionSet choose() {
  const char* named = std::getenv("METRIX_CPU_ISA");
  const bool any = named == nullptr || *named == '\0';
  const auto wanted = [&](const char* name) { return any || std::strcmp(named, name) == 0; };
#ifdef METRIX_X86
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && wanted("avx512")) return kSet_avx512;
  if (has_avx2 && wanted("avx2")) return kSet_avx2;
#endif
  if (wanted("baseline")) return kSet_baseline;
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
  return *chosen().f32.rows;
}
template <>
const RowKernels<double>& row_kernels<double>() {
  return *chosen().f64.rows;
}

template <>
const MapKernels<float>& map_kernels<float>() {
  return *chosen().f32.maps;
}
template <>
const MapKernels<double>& map_kernels<double>() {
  return *chosen().f64.maps;
}

template <>
const DotKernels<float>& dot_kernels<float>() {
  return *chosen().f32.dots;
}
template <>
const DotKernels<double>& dot_kernels<double>() {
  return *chosen().f64.dots;
}

const char* instruction_set() { return chosen().name; }

}  // namespace metrix::cpu
