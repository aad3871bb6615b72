// Reductions and scans along one axis (or several neighbouring ones, taken as one).
// x (outer, R, inner), y (outer, inner), row-major, contiguous.
//
//   sum, prod, max, min   y[o,i] = fold over r of x[o,r,i]
//   argmax, argmin        index[o,i] = first r with x[o,r,i] = y[o,i], the max or min, which is
//                                      workspace
//   cumsum, cumprod       y[o,r,i] = fold over r' <= r of x[o,r',i]      (reverse: r' >= r)
// of floats only:
//   mean                  y = sum / R
//   variance              y[o,i] = sum over r of (x[o,r,i] - m[o,i])^2 / R; m[o,i] = mean, also
//                                  an output
//   logsumexp             y[o,i] = m + log(sum over r of exp(x[o,r,i] - m)); m[o,i] = max, 0 where
//                                  it is infinite, is workspace
//   expand                dx[o,r,i] = dy[o,i] / divisor                   (of sum and mean)
//   extremum_backward     dx[o,r,i] = dy[o,i] * (x[o,r,i] = y[o,i]) / count of such r
//   prod_backward         dx[o,r,i] = dy[o,i] * product of the other x[o,.,i]
//   cumprod_backward      dx[o,r,i] = sum over j >= r of dy[o,j,i] * product of x[o,k,i], k <= j,
//                                     k != r
//
// NaN goes through max and min, and counts as the largest and the smallest. Integer sums
// wrap. Sums are pairwise: see reduce_core.h. An empty fold gives the identity. Outputs are
// overwritten; y of a scan may alias x.
#pragma once

#include <cstdint>

namespace narae {

template <class T>  // float, double, int32_t, int64_t, uint8_t (also bool: max is any, min is all)
struct Reduce {
  using Fold = void (*)(const T* x, T* y, std::int64_t outer, std::int64_t R, std::int64_t inner,
                        T* workspace);
  using Scan = void (*)(const T* x, T* y, std::int64_t outer, std::int64_t R, std::int64_t inner,
                        bool reverse);
  std::int64_t (*workspace_size)(std::int64_t outer, std::int64_t R, std::int64_t inner);
  Fold sum, prod, max, min;
  using Arg = void (*)(const T* x, T* y, std::int32_t* index, std::int64_t outer, std::int64_t R,
                       std::int64_t inner, T* workspace);
  Arg argmax, argmin;
  Scan cumsum, cumprod;
};

template <class T>  // float, double; workspace as Reduce<T>::workspace_size says
struct ReduceFloat {
  typename Reduce<T>::Fold mean;
  void (*variance)(const T* x, T* m, T* y, std::int64_t outer, std::int64_t R, std::int64_t inner,
                   T* workspace);
  void (*logsumexp)(const T* x, T* m, T* y, std::int64_t outer, std::int64_t R, std::int64_t inner,
                    T* workspace);
  void (*expand)(const T* dy, T* dx, std::int64_t outer, std::int64_t R, std::int64_t inner,
                 T divisor);
  void (*extremum_backward)(const T* dy, const T* y, const T* x, T* dx, std::int64_t outer,
                            std::int64_t R, std::int64_t inner);
  void (*prod_backward)(const T* dy, const T* x, T* dx, std::int64_t outer, std::int64_t R,
                        std::int64_t inner);
  void (*cumprod_backward)(const T* dy, const T* x, T* dx, std::int64_t outer, std::int64_t R,
                           std::int64_t inner);
};

}  // namespace narae
