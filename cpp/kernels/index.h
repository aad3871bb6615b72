// Reading and writing by index.
//
// Indices are int64 and in range: the bindings check them, and count negative ones from the end, in
// a pass of their own. x is seen as (A, R, B): R along the indexed axis, A before it, B after it.
//
//   gather            y[a,i,:] = x[a, index[i], :]                 x (A, R, B), y (A, I, B), by
//   bytes take_along_axis   y[a,i,b] = x[a, index[a,i,b], b]             x (A, R, B), y (A, I, B)
//   update            y[a, index[i], :] = values[a,i,:]            y is base before; of equal
//   indices
//                                                                  the last one counts
//   hot               y[n,c] = one where index[n,t] = c for any t, else 0; others are ignored
//
//   combine_<op>      y[a, index[i], :] <op>= values[a,i,:]        y is base before, or `start`
//   where
//                                                                  base is nullptr
//   add_along_axis    y[a, index[a,i,b], b] += values[a,i,b]       y is 0 before
//
// The backward passes: of gather, take_along_axis: combine_add, add_along_axis; of combine_add:
// gather. Values that meet are combined in the order of i, whatever the number of threads: each
// chunk of work owns a part of y, and looks through all indices for those that lead there.
// y overlaps no input, except that update and combine may be given base = y.
#pragma once

#include <cstdint>

namespace narae {

struct Gather {
  // I indices, rows of row_bytes = B elements
  void (*gather)(const void* x, const std::int64_t* index, void* y, std::int64_t A, std::int64_t R,
                 std::int64_t I, std::int64_t row_bytes);
};

template <class T>
struct ScatterArgs {
  const T* base;
  const std::int64_t* index;
  const T* values;
  T* y;
  std::int64_t A, R, B, I;
  T start;
};

template <class T>  // unsigned integers of 1, 2, 4 or 8 bytes: elements as bits
struct IndexBits {
  void (*take_along_axis)(const T* x, const std::int64_t* index, T* y, std::int64_t A,
                          std::int64_t R, std::int64_t B, std::int64_t I);
  void (*update)(ScatterArgs<T> args);
  void (*hot)(const std::int64_t* index, T* y, std::int64_t N, std::int64_t I, std::int64_t C,
              T one);
};

template <class T>  // float, double, std::int32_t, std::int64_t
struct IndexNumbers {
  void (*combine_add)(ScatterArgs<T> args);
  void (*combine_max)(ScatterArgs<T> args);
  void (*combine_min)(ScatterArgs<T> args);
  void (*combine_multiply)(ScatterArgs<T> args);
  void (*add_along_axis)(const T* values, const std::int64_t* index, T* y, std::int64_t A,
                         std::int64_t R, std::int64_t B, std::int64_t I);
};

}  // namespace narae
