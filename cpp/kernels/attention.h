// Scaled dot-product attention, tiled, with an online softmax: no T x S matrix is ever stored.
//
//   s[b,h,t,j] = scale * sum_d q[b,t,h,d] * k[b,j,g,d] + bias[b,h,t,j]        g = h / (H / G)
//   forward    y[b,t,h,e] = sum_j p[b,h,t,j] * keep[b,h,t,j] / (1 - rate) * v[b,j,g,e]
//              p = softmax over j of s = r 2^(s log2(e) - m),   m[b,h,t] = log2(e) max_j s[b,h,t,j]
//   backward   delta = sum_e dy * y,   dp = (dy v^T) * keep / (1 - rate),   ds = p * (dp - delta)
//              dq = scale * ds k,   dk = scale * ds^T q,   dv = (p * keep / (1 - rate))^T dy
//
// q (B, T, H, D), k (B, S, G, D), v (B, S, G, E), y (B, T, H, E), m and r (B, H, T); G divides H.
// bias and mask are read through strides for (b, h, t, j), 0 where they broadcast. A query sees key
// j where mask is true and, if causal, j <= t. A query that may see no key weighs all S keys alike,
// as Keras on JAX does, and gives q and k no gradient. Logits below -0.67 of T's range pass for
// unseen, those above 0.69 of it overflow. m and r are kept apart: in the log-sum-exp, m - log2(r),
// a large m would swallow r. Outputs are overwritten, and overlap no input. Sums run over keys and
// queries in blocks in order: the same bits for any number of threads.
#pragma once

#include <cstdint>

namespace narae {

template <class T>
struct AttentionArgs {
  std::int64_t B, T_, S, H, G, D, E;  // T_: queries
  const T *q, *k, *v;
  T scale;
  bool causal;
  const T* bias;  // or nullptr
  std::int64_t bias_stride[4];
  const bool* mask;  // or nullptr
  std::int64_t mask_stride[4];
  // Dropout: (seed, counter) of Philox, or nullptr. keep(b, h, t, j) is word ((b H + h) T + t) *
  // S' + j of the stream, its upper 31 bits >= threshold = rate * 2^31; S' is S rounded up to 64.
  const std::int64_t* key;
  std::uint32_t threshold;
  T kept;        // 1 / (1 - rate)
  T *y, *m, *r;  // backward reads them
  const T* dy;
  T *dq, *dk, *dv;
  T* ds;         // (B, H, T, S): gradient of the logits, for that of bias; or nullptr
  T* workspace;  // of backward, workspace_size elements
};

template <class T>
struct Attention {
  std::int64_t (*largest_head)();  // D and E may be as large
  void (*forward)(const AttentionArgs<T>& args);
  std::int64_t (*workspace_size)(const AttentionArgs<T>& args);
  void (*backward)(const AttentionArgs<T>& args);
};

}  // namespace narae
