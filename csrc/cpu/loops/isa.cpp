// Picks the kernels by what the processor has. METRIX_CPU_ISA lowers the choice, for tests and for reports.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "lambdas.h"
#include "maps.h"
#include "products.h"
#include "rows.h"

namespace metrix::cpu {

namespace {

template <class T>
struct Tables {
  const RowKernels<T>* rows;
  const MapKernels<T>* maps;
  const ProductKernels<T>* products;
  const LambdaKernels<T>* lambdas;
};

struct InstructionSet {
  const char* name;
  Tables<float> f32;
  Tables<double> f64;
};

}  // namespace

#define METRIX_TABLES(type, Number, isa)                                                                             \
  extern const RowKernels<Number> kRows##type##isa;                                                                  \
  extern const MapKernels<Number> kMaps##type##isa;                                                                  \
  extern const ProductKernels<Number> kProducts##type##isa;                                                          \
  extern const LambdaKernels<Number> kLambdas##type##isa;                                                            \
  static constexpr Tables<Number> kTables##type##isa = {&kRows##type##isa, &kMaps##type##isa, &kProducts##type##isa, \
                                                        &kLambdas##type##isa};
#define METRIX_DECLARE(isa)        \
  METRIX_TABLES(F32_, float, isa)  \
  METRIX_TABLES(F64_, double, isa) \
  static constexpr InstructionSet kSet_##isa = {#isa, kTablesF32_##isa, kTablesF64_##isa};
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

template <class T>
const Tables<T>& tables() {
  if constexpr (sizeof(T) == sizeof(float))
    return chosen().f32;
  else
    return chosen().f64;
}

}  // namespace

template <class T>
const RowKernels<T>& row_kernels() {
  return *tables<T>().rows;
}
template <class T>
const MapKernels<T>& map_kernels() {
  return *tables<T>().maps;
}
template <class T>
const ProductKernels<T>& product_kernels() {
  return *tables<T>().products;
}
template <class T>
const LambdaKernels<T>& lambda_kernels() {
  return *tables<T>().lambdas;
}

template const RowKernels<float>& row_kernels();
template const RowKernels<double>& row_kernels();
template const MapKernels<float>& map_kernels();
template const MapKernels<double>& map_kernels();
template const ProductKernels<float>& product_kernels();
template const ProductKernels<double>& product_kernels();
template const LambdaKernels<float>& lambda_kernels();
template const LambdaKernels<double>& lambda_kernels();

const char* instruction_set() { return chosen().name; }

}  // namespace metrix::cpu
