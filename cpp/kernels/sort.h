// Order along the last axis: N rows of C elements, C < 2^31.
//
// NaN counts as larger than all numbers, 0 and -0 as equal. Equal elements stay in the order of
// their indices, in descending order too.
//
//   argsort        index[n,:] = the places of x[n,:] in ascending (descending) order
//   top_k          index[n,:] = the first k of them in descending order, k <= C
//   in_top_k       y[n] = fewer than k of x[n,:] are larger than x[n, target[n]], which is no NaN
//   searchsorted   y[i] = how many of the sorted x[0..C) are less than v[i], or (right) not greater
//
// workspace(C) elements are needed for argsort and top_k: 0 when a row fits the threads' scratch.
#pragma once

#include <cstdint>

namespace narae {

template <class T>  // float, double, std::int32_t, std::int64_t
struct Sort {
  std::int64_t (*workspace_bytes)(std::int64_t C);
  void (*argsort)(const T* x, std::int32_t* index, std::int64_t N, std::int64_t C, bool descending,
                  void* workspace);
  void (*top_k)(const T* x, std::int32_t* index, std::int64_t N, std::int64_t C, std::int64_t k,
                void* workspace);
  void (*in_top_k)(const T* x, const std::int64_t* target, bool* y, std::int64_t N, std::int64_t C,
                   std::int64_t k);
  void (*searchsorted)(const T* x, std::int64_t C, const T* v, std::int32_t* y, std::int64_t n,
                       bool right);
};

}  // namespace narae
