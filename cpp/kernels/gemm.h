// Matrix products. Row-major C; A and B by their strides, so that a transpose costs nothing.
//
//   matmul         c[b,m,n] = act( sum_k a[b,m,k] * b[b,k,n] + bias[n] )      for every batch index
//   b bias_backward  db[n]    = sum_m dy[m,n]
//
// The gradients of matmul are matmuls:  da = dc b^T,  db = a^T dc.
// C is overwritten and must not overlap A, B or bias. K = 0 gives act(bias). The order of the sum
// over k depends on K alone: the same bits for any number of threads, and for a row computed alone
// or among others. bfloat16: products and sums in float, rounded once, after bias and activation.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "core/isa.h"

namespace narae {

inline constexpr int kMaxBatchDims = 6;

template <class T>
struct MatmulArgs {
  std::int64_t M, N, K;
  const T* a;
  std::int64_t a_row, a_col;  // strides in elements: a[m,k] = a[m * a_row + k * a_col]
  const T* b;
  std::int64_t b_row, b_col;
  T* c;
  const T* bias;  // N values, or nullptr
  // y = act(x), or nullptr; y may be x
  void (*activate)(const Real<T>* x, Real<T>* y, std::int64_t n);
  // Leading dimensions of the batch, outermost first; a stride of 0 broadcasts. C is contiguous.
  int batch_dims;
  std::int64_t batch[kMaxBatchDims], a_batch[kMaxBatchDims], b_batch[kMaxBatchDims];
  Real<T>* workspace;  // workspace_size elements
};

template <class T>
struct Gemm {
  std::int64_t (*workspace_size)(std::int64_t M, std::int64_t N, std::int64_t K);
  void (*matmul)(const MatmulArgs<T>& args);
  void (*bias_backward)(const T* dy, T* db, std::int64_t M, std::int64_t N);
};
template <>
inline constexpr bool kGainsFromBf16<Gemm<BFloat16>> = true;

}  // namespace narae
