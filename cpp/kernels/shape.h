// Moving elements between strided views: transpose, slice, flip, broadcast, concatenate, pad ...
//
//   move  to[sum_d i_d * to_stride_d] = from[sum_d i_d * from_stride_d]   for all i_d < size_d
//
// Strides are in elements; they may be negative, and 0 in `from`. `to` and `from` must not overlap.
// Elements are moved as unsigned integers of their size.
#pragma once

#include <cstdint>

#include "kernels/elementwise.h"

namespace narae {

struct MoveShape {
  int dims;  // >= 1, outermost first
  std::int64_t size[kMaxDims], from[kMaxDims], to[kMaxDims];
};

template <class T>
struct Move {
  void (*move)(MoveShape shape, const T* from, T* to);
};

}  // namespace narae
