// Random draws. Every draw reads its key = (seed, counter) through a pointer, so that a replayed
// call draws fresh numbers, and gives element i from fixed words of that stream (core/philox.h):
// the same numbers for any number of threads. They are the same for every instruction set, too, up
// to the rounding of fused multiply-adds in uniform (low != 0), normal and truncated_normal.
//
//   u[i] in [0, 1)     float32: (word i >> 8) 2^-24;  float64: (words 2i, 2i+1 >> 11) 2^-53
//   uniform            y[i] = low + u[i] span, at most `last`
//   normal             y[2k] = mean + stddev r cos(2 pi u[2k+1]),  y[2k+1] the same with sin,
//                      r = sqrt(-2 log(1 - u[2k]))                                  (Box, Muller)
//   truncated_normal   y[i] = mean + stddev z,  P(z <= t) = the normal one within |z| <= 2
//   dropout            y[i] = x[i] scale where kept[i], else 0;  kept[i] = word i >> 1 >=
//   threshold.
//                      Its backward is itself with the same key: dx[i] = dy[i] scale where kept[i].
//                      y may alias x.
//   bernoulli          y[i] = kept[i]
//   randint            y[i] = low + floor(v[i] range / 2^64),  v[i] = words 2i, 2i+1: each value's
//                      probability is 1 / range to within 2^-64
//   permutation        y = 0 ... n-1 in random order, the n! orders equally likely to within 2^-64
//                      for each exchange
//   categorical        y[n,s] = c with probability softmax(logits[n])[c], from draw n S + s of
//                      float64's u. The sums of exponentials go to the workspace, (N, C) doubles.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"

namespace narae {

template <class T>  // float, double; BFloat16 has dropout alone
struct Random {
  void (*uniform)(const std::int64_t* key, T* y, std::int64_t n, T low, T span, T last);
  void (*normal)(const std::int64_t* key, T* y, std::int64_t n, T mean, T stddev);
  void (*truncated_normal)(const std::int64_t* key, T* y, std::int64_t n, T mean, T stddev);
  void (*dropout)(const std::int64_t* key, const T* x, T* y, std::int64_t n,
                  std::uint32_t threshold, Real<T> scale);
  void (*categorical)(const std::int64_t* key, const T* logits, std::int64_t* y, std::int64_t N,
                      std::int64_t C, std::int64_t S, double* workspace);
};

template <class T>  // std::uint8_t (also for bool), std::int32_t, std::int64_t
struct RandomIntegers {
  void (*bernoulli)(const std::int64_t* key, T* y, std::int64_t n, std::uint32_t threshold);
  void (*randint)(const std::int64_t* key, T* y, std::int64_t n, std::int64_t low,
                  std::uint64_t range);
  void (*permutation)(const std::int64_t* key, T* y, std::int64_t n);
};

struct RandomWords {  // the words themselves, from block `first` on
  void (*words)(const std::int64_t* key, std::uint64_t first, std::uint32_t* y, std::int64_t n);
};

}  // namespace narae
