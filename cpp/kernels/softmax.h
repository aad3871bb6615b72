// Softmax over the last axis, and the cross-entropies. N rows, C columns, row-major, contiguous.
//
//   forward        y[n,c]  = exp(x[n,c] - m[n]) / s[n],   m[n] = max_j x[n,j],
//                                                         s[n] = sum_j exp(x[n,j] - m[n])
//   backward       dx[n,c] = y[n,c] * (dy[n,c] - sum_j y[n,j] * dy[n,j])      needs y, not x
//   log_forward    y[n,c]  = x[n,c] - m[n] - log s[n]
//   log_backward   dx[n,c] = dy[n,c] - exp(y[n,c]) * sum_j dy[n,j]
//
// Cross-entropy of logits x with targets t (dense) or with one class label[n] a row (sparse). The
// row's maximum and sum are kept in ms (2, N), so that backward reads the logits once more and
// nothing else:
//   forward        y[n]    = sum_c t[n,c] * (log s[n] - (x[n,c] - m[n]))
//   backward       dx[n,c] = dy[n] * (p[n,c] * sum_j t[n,j] - t[n,c]),   p = softmax(x)
//                  dt[n,c] = dy[n] * (log s[n] - (x[n,c] - m[n]))        unless dt is null
// of probabilities p, with q = clip(p / sum_j p[n,j], epsilon, 1 - epsilon):
//   of_probabilities           y[n]    = -sum_c t[n,c] * log q[n,c]
//   of_probabilities_backward  dp[n,c] = dy[n] * (sum_j t'[n,j] / sum_j p[n,j] - t'[n,c] / p[n,c]),
//                                        t' = t where p is not clipped, else 0
//                              dt[n,c] = -dy[n] * log q[n,c]             unless dt is null
// Binary cross-entropy, element by element, of logits x or probabilities p:
//   binary         y = max(x, 0) - x * t + log1p(exp(-|x|)),  dx = dy * (sigmoid(x) - t), dt =
//   -dy*x binary_of_probabilities  y = -t * log q - (1 - t) * log(1 - q),   q = clip(p)
//
// Labels are in [0, C): the caller has checked them. Outputs are overwritten. y may alias x, dx may
// alias dy where shapes agree.
#pragma once

#include <cstdint>

namespace narae {

template <class T>
struct Softmax {
  void (*forward)(const T* x, T* y, std::int64_t N, std::int64_t C);
  void (*backward)(const T* dy, const T* y, T* dx, std::int64_t N, std::int64_t C);
  void (*log_forward)(const T* x, T* y, std::int64_t N, std::int64_t C);
  void (*log_backward)(const T* dy, const T* y, T* dx, std::int64_t N, std::int64_t C);
};

template <class T>
struct Crossentropy {
  void (*forward)(const T* x, const T* t, T* y, T* ms, std::int64_t N, std::int64_t C);
  void (*backward)(const T* dy, const T* x, const T* t, const T* ms, T* dx, T* dt, std::int64_t N,
                   std::int64_t C);
  void (*of_probabilities)(const T* p, const T* t, T* y, std::int64_t N, std::int64_t C, T epsilon);
  void (*of_probabilities_backward)(const T* dy, const T* p, const T* t, T* dp, T* dt,
                                    std::int64_t N, std::int64_t C, T epsilon);
  void (*binary)(const T* x, const T* t, T* y, std::int64_t n);
  void (*binary_backward)(const T* dy, const T* x, const T* t, T* dx, T* dt, std::int64_t n);
  void (*binary_of_probabilities)(const T* p, const T* t, T* y, std::int64_t n, T epsilon);
  void (*binary_of_probabilities_backward)(const T* dy, const T* p, const T* t, T* dp, T* dt,
                                           std::int64_t n, T epsilon);
};

template <class T, class Label>  // int32_t or int64_t
struct SparseCrossentropy {
  void (*forward)(const T* x, const Label* label, T* y, T* ms, std::int64_t N, std::int64_t C);
  void (*backward)(const T* dy, const T* x, const Label* label, const T* ms, T* dx, std::int64_t N,
                   std::int64_t C);
  void (*of_probabilities)(const T* p, const Label* label, T* y, std::int64_t N, std::int64_t C,
                           T epsilon);
  void (*of_probabilities_backward)(const T* dy, const T* p, const Label* label, T* dp,
                                    std::int64_t N, std::int64_t C, T epsilon);
};

}  // namespace narae
