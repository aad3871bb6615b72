// Optimizers: one pass over flat memory updates the weights of all variables of one dtype.
//
// The weights w and each slot (m, v, ...) are flat arrays of n elements in which every variable has
// a segment; the gradients g stay where the backward pass put them, one array per variable, or are
// given by two factors whose product is never stored: each block of it updates its weights while it
// is in the cache. Before the rule, in this order:
//   g = g * factor * scale[variable]                 loss scale, clipping by norm
//   g = min(max(g, -clip), clip)                     clipping by value
//   w = w - w * weight_decay * lr                    where the layout says so
// Rules, with lr the learning rate and t = iteration / every + 1 the number of this update:
//   sgd       w = w - lr g
//   momentum  m = mu m - lr g;  w = w + m            nesterov  w = w + mu m - lr g  (with the new
//   m) adam      m += (1 - b1) (g - m);  v += (1 - b2) (g^2 - v)
//             w = w - lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)
//   amsgrad   adam that divides by the largest v so far
//   nadam     adam with Nesterov's look ahead; u(t) = b1 (1 - 0.96^t / 2), p = u(1) ... u(t)
//             w = w - lr (u(t+1) m / (1 - p u(t+1)) + (1 - u(t)) g / (1 - p))
//                     / (sqrt(v / (1 - b2^t)) + eps)
//   adamax    m as adam;  v = max(b2 v, |g|);  w = w - lr / (1 - b1^t) m / (v + eps)
//   rmsprop   v = rho v + (1 - rho) g^2;  d = lr g / sqrt(v + eps);  w = w - d
//             with momentum  m = mu m + d;  w = w - m     centered  a = rho a + (1 - rho) g,
//             and v - a^2 in place of v under the root
//   adagrad   v += g^2;  w = w - lr g / sqrt(v + eps)
//   adadelta  v = rho v + (1 - rho) g^2;  d = -sqrt(u + eps) / sqrt(v + eps) g
//             u = rho u + (1 - rho) d^2;  w = w + lr d
//   ftrl      q = v + g^2;  z += g + 2 l2s w - (q^p - v^p) / lr w;  v = q
//             w = (clip(z, -l1, l1) - z) / (q^p / lr + 2 l2 + beta / lr)
//   lion      w = w - lr sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g
// Numbers that may change between steps are memory: hyper, learning_rate, iteration. With every > 1
// gradients are accumulated, and only each every-th iteration does something.
#pragma once

#include <cstdint>

namespace narae {

// Of hyper, a float64 array: four common numbers, then up to five of the rule's own, in the order
// momentum | b1 b2 eps | rho mu eps | eps | rho eps | p l1 l2 l2s beta | b1 b2.
enum OptimizerHyper { kWeightDecay, kFactor, kClipValue, kAverageMomentum, kRule, kHyperSize = 9 };

// A gradient g = x^T dy, (K, N), of a dense kernel: B <= kFactorTerms, K >= kFactorRows, N >=
// kFactorColumns. They must not overlap what the update changes.
template <class T>
struct Factors {
  const T *x, *dy;  // (B, K) and (B, N)
  std::int64_t B, K, N;
};
template <class T>
inline constexpr std::int64_t kFactorTerms = 2048 / sizeof(T);
inline constexpr std::int64_t kFactorRows = 16, kFactorColumns = 32;

template <class T>
struct UpdateArgs {
  std::int64_t n, count;       // elements of the flat arrays, variables
  const std::int64_t* layout;  // count rows, rising: first element, size, 1 if weights decay
  // count gradients, each by its address in g or else by its factors; a variable with neither (a
  // nullptr, and an x that is one) is left as it is. Accumulation and clipping read g alone.
  const T* const* g;
  const Factors<T>* factors;
  const double* scale;  // count factors, or nullptr
  T* w;
  T* slots[3];      // in the order in which the formulas name them; nullptr where there is none
  double* product;  // nadam: p, advanced by nadam_product before the update
  const double* hyper;
  const float* learning_rate;
  const std::int64_t* iteration;  // steps done so far
  std::int64_t every;
};

template <class T>
struct Optimizer {
  using Update = void (*)(const UpdateArgs<T>&);
  Update sgd, momentum, nesterov, adam, amsgrad, nadam, adamax, rmsprop, adagrad, adadelta, ftrl,
      lion;
  // Whether a rule with so many slots is faster by the factors of B samples than by their product.
  bool (*gains_from_factors)(std::int64_t B, int slots);
  void (*nadam_product)(const UpdateArgs<T>& args);  // p = p u(t)
  // w += g, at every iteration: the accumulator of gradients is passed as w.
  void (*accumulate)(const UpdateArgs<T>& args);
  // scale[i] = limit / max(norm of variable i's gradient, limit), or one norm over all of them, and
  // then NaN if it is not finite. partial: partial_size(n, count) elements of workspace. Sums are
  // of fixed chunks in a fixed order.
  void (*clip)(const UpdateArgs<T>& args, double limit, bool global, double* partial,
               double* scale);
  std::int64_t (*partial_size)(std::int64_t n, std::int64_t count);
  // average = mu average + (1 - mu) w, at the first update average = w; at each overwrite_every-th
  // update (0: never) then w = average.
  void (*average)(const UpdateArgs<T>& args, T* average, std::int64_t overwrite_every);
};

}  // namespace narae
