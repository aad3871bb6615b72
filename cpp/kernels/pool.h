// Pooling over one to three spatial axes, channels last. Fewer axes: leading ones of size 1.
//
//   max_forward       y[n,o,c] = max of x[n,i,c] over the cells i of o's window
//   max_backward      dx[n,i,c] = sum of dy[n,o,c] over the windows whose first largest cell is i
//   average_forward   y[n,o,c] = mean of x[n,i,c] over the cells i of o's window
//   average_backward  dx[n,i,c] = sum of dy[n,o,c] / cells(o) over the windows that i lies in
//
// The window of o are the cells i = o * stride - before + k, 0 <= k < window, that lie inside the
// image: padding is never the largest, and is not counted. Each window has one at least, and each
// axis a window. x (N, *in, C), y (N, *out, C). Outputs are overwritten and overlap no input. A NaN
// comes out of max_forward.
#pragma once

#include <cstdint>

namespace narae {

struct PoolShape {
  std::int64_t N, C;
  std::int64_t in[3], out[3], window[3], stride[3], before[3];
};

template <class T>
struct Pooling {
  void (*max_forward)(PoolShape shape, const T* x, T* y);
  void (*max_backward)(PoolShape shape, const T* dy, const T* x, const T* y, T* dx);
  void (*average_forward)(PoolShape shape, const T* x, T* y);
  void (*average_backward)(PoolShape shape, const T* dy, T* dx);
};

}  // namespace narae
