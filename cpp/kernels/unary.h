// Functions of one array, element by element: y[i] = f(x[i]).
//
//   map      exp log sin sqrt floor abs ..., y has x's dtype
//   test     isnan isinf isfinite logical_not, y is bool
//   cast     y = (dtype of y) x: floats are cut to integers, integers wrap around, nonzero is true,
//            numbers are rounded to bfloat16 by way of float
//   copy     y = x
//   fill     y = value
//   add_into y += x
//
// y may be x itself (not in cast). Maximum errors are those of core/vecmath.h or of libm.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "kernels/functions.h"

namespace narae {

template <class T, class R>
using UnaryRow = void (*)(const T* x, R* y, std::int64_t n);

// What a cast's `to` may be, in the order of `Unary::cast`.
enum Dtype { kBool, kUint8, kInt32, kInt64, kBFloat16, kFloat32, kFloat64, kDtypes };

template <class T>
struct Unary {
  Functions<UnaryRow<T, T>> map;
  Functions<UnaryRow<T, bool>> test;
  void (*run_map)(UnaryRow<T, T> row, const T* x, T* y, std::int64_t n);
  void (*run_test)(UnaryRow<T, bool> row, const T* x, bool* y, std::int64_t n);
  void (*cast[kDtypes])(const T* x, void* y, std::int64_t n);
  void (*copy)(const T* x, T* y, std::int64_t n);
  void (*fill)(Real<T> value, T* y, std::int64_t n);
  void (*add_into)(const T* x, T* y, std::int64_t n);
};

}  // namespace narae
