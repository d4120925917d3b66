// What all bindings share: tensors as pointers, where a call runs, and names by element type.
//
// Only the files here know Python. The checks, the outputs and the choice of the element type are made by
// metrix_ext/ops, which also keeps the tensors alive that a struct of arguments points into.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <type_traits>

#include "cpu/common/parallel.h"

namespace metrix::bindings {

namespace py = pybind11;
using namespace py::literals;

#ifdef METRIX_CUDA
constexpr bool kCuda = true;
#else
constexpr bool kCuda = false;
#endif

// The first element of a tensor, or null for None.
template <class T>
struct Pointer {
  T* address = nullptr;
  operator T*() const { return address; }
};
template <class T>
using In = Pointer<const T>;
template <class T>
using Out = Pointer<T>;

}  // namespace metrix::bindings

namespace pybind11::detail {

template <class T>
struct type_caster<metrix::bindings::Pointer<T>> {
  PYBIND11_TYPE_CASTER(metrix::bindings::Pointer<T>, const_name("torch.Tensor | None"));

  bool load(handle tensor, bool) {
    if (tensor.is_none()) return true;
    static PyObject* const data_ptr = PyUnicode_InternFromString("data_ptr");
    const auto address = reinterpret_steal<object>(PyObject_CallMethodNoArgs(tensor.ptr(), data_ptr));
    if (!address) {
      if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw error_already_set();
      PyErr_Clear();  // no tensor: a TypeError that names what is wanted
      return false;
    }
    value.address = static_cast<T*>(PyLong_AsVoidPtr(address.ptr()));
    return true;
  }
};

}  // namespace pybind11::detail

namespace metrix::bindings {

// A field name, as an argument of a template.
template <size_t N>
struct Name {
  char text[N];
  constexpr Name(const char (&characters)[N]) { std::copy_n(characters, N, text); }
};

// A field of an argument list of metrix_ext/ops, by its name there.
template <Name name, class Value>
Value field(py::handle arguments) {
  static PyObject* const interned = PyUnicode_InternFromString(name.text);
  const auto value = py::reinterpret_steal<py::object>(PyObject_GetAttr(arguments.ptr(), interned));
  if (!value) throw py::error_already_set();
  return py::cast<Value>(value);
}

// Where a call runs: on the CPU with a number of threads, or on a CUDA device in a stream.
struct Where {
  bool on_cuda = false;
  int threads = 1;
  int device = 0;
  void* stream = nullptr;
  // CUDA kernels that need memory to work in have it from torch, so that a captured graph keeps it.
  void* workspace = nullptr;
  py::object memory{};  // the tensor that this is
};

// Calls one of both, on_cpu(threads) or on_cuda(where). The second is generic, a lambda of auto, and so does not exist
// in a build without CUDA.
template <class OnCpu, class OnCuda>
void run(const Where& where, OnCpu on_cpu, OnCuda on_cuda) {
  if constexpr (kCuda) {
    if (where.on_cuda) return on_cuda(where);
  }
  on_cpu(cpu::threads_of_process(where.threads));
}

// Other threads of Python run during a call.
using Release = py::call_guard<py::gil_scoped_release>;

// "pair_sums" of floats is pair_sums_f32.
template <class T>
std::string named(const char* name) {
  return std::string(name) + (std::is_same_v<T, float> ? "_f32" : "_f64");
}

template <class T, class Function, class... Extra>
void define(py::module_& m, const char* name, Function function, const Extra&... extra) {
  m.def(named<T>(name).c_str(), function, extra..., Release());
}

// One of each file. Classes are local to the module: a process may load several builds of it.
void bind_anchor_sums(py::module_& m);
void bind_batch(py::module_& m);
void bind_mix_pool(py::module_& m);
void bind_pair_lambda(py::module_& m);
void bind_pair_sums(py::module_& m);

}  // namespace metrix::bindings
