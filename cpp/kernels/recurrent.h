// Recurrent networks over whole sequences: B sequences of `steps` steps, U units, G gates. The
// products x @ w + b of all steps come in as one matrix product; what is left is
// a[b,t] = x[b,t] @ w + b + h[b,t-1] @ u and the cell's arithmetic, step by step.
//
//   simple_rnn (G 1)  h = activation(a)
//   lstm (G 4)        i, f, o = sigmoid(a_i, a_f, a_o),  g = tanh(a_g),  in the order i, f, g, o
//                     c = f * c[t-1] + i * g,   h = o * tanh(c)
//   gru (G 3)         z, r = sigmoid(a_z, a_r),   g = tanh(x_g + r * (h[t-1] @ u_g + bias_g))
//                     h = z * h[t-1] + (1 - z) * g,   in the order z, r, g;  bias is added to h @ u
//
// Where mask[b,t] is false the states stay, and y is the state that stays. With `reverse` steps run
// from the last to the first; y[b,t] is still the output at x[b,t].
// Backward gives the gradients da of x @ w + b and dha of h[t-1] @ u (the same array but for gru)
// and of the initial states; those of x, w, u, b are matrix products of them:
//   dx = da w^T,  dw = x^T da,  du = previous^T dha,  db = sum of da, dbias = sum of dha
// Sequences are independent and are split over threads; u is packed once a call.
#pragma once

#include <cstdint>

namespace narae {

enum class Activation { linear, relu, sigmoid, tanh };

template <class T>
struct RecurrentArgs {
  std::int64_t B, steps, U;
  const T* u;                // (U, G * U)
  const T *h0, *c0;          // (B, U); c0 for lstm alone
  const std::uint8_t* mask;  // (B, steps), or nullptr
  bool reverse;
  Activation activation;  // of simple_rnn
  const T* bias;          // (G * U), of gru, or nullptr
  // Forward: gates holds x @ w + b and is overwritten by the activated gates, which backward needs.
  T* gates;  // (B, steps, G * U)
  T* y;      // (B, steps, U)
  T* kept;   // (B, steps, U): c of lstm, h @ u_g + bias_g of gru
  T *h, *c;  // (B, U): final states
  // Backward; gates, y and kept are read.
  const T *dy, *dh, *dc;
  T *da, *dha;   // (B, steps, G * U)
  T *dh0, *dc0;  // (B, U)
  T* workspace;  // workspace_size elements
};

template <class T>
struct Recurrent {
  using Kernel = void (*)(const RecurrentArgs<T>& args);
  std::int64_t (*workspace_size)(std::int64_t B, std::int64_t U, std::int64_t G);
  Kernel simple_rnn_forward, simple_rnn_backward;
  Kernel lstm_forward, lstm_backward;
  Kernel gru_forward, gru_backward;
  // h[b,t-1] for every step (reverse: h[b,t+1]), h0 at the first
  void (*previous)(const T* y, const T* h0, T* out, std::int64_t B, std::int64_t steps,
                   std::int64_t U, bool reverse);
};

}  // namespace narae
