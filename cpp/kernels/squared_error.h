// Mean squared error over the last axis. N rows, C columns, row-major, contiguous.
//
//   forward   y[n]    = 1/C sum_c (p[n,c] - t[n,c])^2
//   backward  dp[n,c] = 2/C dy[n] (p[n,c] - t[n,c])        and dt = -dp
//
// Without columns y is NaN. Outputs are overwritten and alias nothing.
#pragma once

#include <cstdint>

namespace narae {

template <class T>
struct SquaredError {
  std::int64_t (*workspace_size)(std::int64_t N, std::int64_t C);  // elements
  void (*forward)(const T* t, const T* p, T* y, T* workspace, std::int64_t N, std::int64_t C);
  void (*backward)(const T* dy, const T* t, const T* p, T* dp, std::int64_t N, std::int64_t C);
};

}  // namespace narae
