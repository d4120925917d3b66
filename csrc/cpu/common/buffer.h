#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace metrix::cpu {

// A cache-line aligned array that only grows; growing leaves the contents undefined.
template <class T>
class Buffer {
 public:
  T* take(int64_t size) {
    if (size > capacity_) {
      const int64_t rounded = (size + kLine - 1) / kLine * kLine;
      data_.reset(static_cast<T*>(std::aligned_alloc(64, size_t(rounded) * sizeof(T))));
      if (!data_) throw std::bad_alloc();
      capacity_ = rounded;
    }
    return data_.get();
  }

 private:
  static constexpr int64_t kLine = 16;  // elements, of 64 bytes or a multiple
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t capacity_ = 0;
};

}  // namespace metrix::cpu
