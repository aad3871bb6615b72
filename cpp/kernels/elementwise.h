// Functions of two and three arrays, element by element, with NumPy's broadcasting.
//
//   binary   y = f(a, b)                 add subtract multiply divide maximum power ...
//   compare  y = f(a, b)                 equal less logical_and ..., y is bool
//   where    y = condition ? a : b
//   sum_to   y[o,i] = sum_r x[o,r,i]     the gradient of a broadcast
//
// y is contiguous and overwritten; it may be a or b itself when that input is not broadcast.
// Numbers behave as NumPy's: integers wrap around, an integer divided by zero gives 0, NaN in
// either argument of maximum or minimum comes out.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "kernels/functions.h"

namespace narae {

inline constexpr int kMaxDims = 8;

// How `Inputs` arrays are read along the dimensions of y, outermost first: a stride (in elements)
// of 0 repeats. In the last dimension strides are 0 or 1. dims >= 1.
template <int Inputs>
struct Broadcast {
  int dims;
  std::int64_t size[kMaxDims];
  std::int64_t stride[Inputs][kMaxDims];
};

// One row: a step of 0 repeats the first element. Not both steps are 0, unless n is 1.
template <class T, class R>
using BinaryRow = void (*)(const T* a, std::int64_t a_step, const T* b, std::int64_t b_step, R* y,
                           std::int64_t n);

template <class T>
struct Elementwise {
  Functions<BinaryRow<T, T>> binary;
  Functions<BinaryRow<T, bool>> compare;
  void (*run_binary)(BinaryRow<T, T> row, Broadcast<2> shape, const T* a, const T* b, T* y);
  void (*run_compare)(BinaryRow<T, bool> row, Broadcast<2> shape, const T* a, const T* b, bool* y);
  // Partial sums over pieces of R go to workspace, then are added in order.
  std::int64_t (*sum_to_workspace)(std::int64_t O, std::int64_t R, std::int64_t I);
  void (*sum_to)(const T* x, T* y, std::int64_t O, std::int64_t R, std::int64_t I,
                 Real<T>* workspace);
};

// Elements are moved as unsigned integers of their size.
template <class T>
struct Select {
  void (*where)(Broadcast<3> shape, const bool* condition, const T* a, const T* b, T* y);
};

}  // namespace narae
