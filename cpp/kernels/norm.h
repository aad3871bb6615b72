// Normalizations: x_hat = (x - mean) * r, r = 1 / sqrt(variance + epsilon), y = gamma * x_hat +
// beta. The variance is the population's, in two passes: a large mean does no harm. gamma and beta
// may be null: ones and zeros.
//
// Over the columns of each row, x (N, C), gamma, beta (C):
//   layer_forward    mean[n], r[n] over c
//   layer_backward   dx = r * (g - mean_c(g) - x_hat * mean_c(g * x_hat)),   g = dy * gamma
//                    dgamma = sum_n dy * x_hat,   dbeta = sum_n dy
//   rms_forward      y = gamma * x * r,   r[n] = 1 / sqrt(mean_c(x^2) + epsilon)
//   rms_backward     dx = r * (g - x_hat * mean_c(g * x_hat)),   dgamma = sum_n dy * x_hat
//
// By channels, x (N, S, C) of S positions, in `groups` groups of neighbouring channels. Moments are
// (N, C), equal within a group. Batch normalization is N = 1, groups = C; instance normalization
// groups = C; group normalization the rest.
//   channel_moments   mean, variance over the positions and a group's channels
//   channel_forward   y = gamma * x_hat + beta with given moments
//   channel_sums      dbeta[n,c] = sum_s dy,   dgamma[n,c] = sum_s dy * x_hat
//   channel_backward  dx = r * (g - mean(g) - x_hat * mean(g * x_hat)), means over the group, taken
//                     from dbeta and dgamma of channel_sums
//
// Of bfloat16 only x, y, dy and dx are: all else is float.
// Outputs are overwritten; y may alias x and dx may alias dy (not in *_sums). dgamma and dbeta of
// the backward kernels may be null.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"

namespace narae {

template <class T>
struct Norm {
  void (*layer_forward)(const T* x, const Real<T>* gamma, const Real<T>* beta, T* y, Real<T>* mean,
                        Real<T>* r, std::int64_t N, std::int64_t C, Real<T> epsilon);
  std::int64_t (*rows_workspace_size)(std::int64_t N, std::int64_t C);
  void (*layer_backward)(const T* dy, const T* x, const Real<T>* gamma, const Real<T>* mean,
                         const Real<T>* r, T* dx, Real<T>* dgamma, Real<T>* dbeta, std::int64_t N,
                         std::int64_t C, Real<T>* workspace);
  void (*rms_forward)(const T* x, const Real<T>* gamma, T* y, Real<T>* r, std::int64_t N,
                      std::int64_t C, Real<T> epsilon);
  void (*rms_backward)(const T* dy, const T* x, const Real<T>* gamma, const Real<T>* r, T* dx,
                       Real<T>* dgamma, std::int64_t N, std::int64_t C, Real<T>* workspace);

  std::int64_t (*channels_workspace_size)(std::int64_t N, std::int64_t S, std::int64_t C);
  void (*channel_moments)(const T* x, Real<T>* mean, Real<T>* variance, std::int64_t N,
                          std::int64_t S, std::int64_t C, std::int64_t groups, Real<T>* workspace);
  void (*channel_forward)(const T* x, const Real<T>* mean, const Real<T>* variance,
                          const Real<T>* gamma, const Real<T>* beta, T* y, std::int64_t N,
                          std::int64_t S, std::int64_t C, Real<T> epsilon, Real<T>* workspace);
  void (*channel_sums)(const T* dy, const T* x, const Real<T>* mean, const Real<T>* variance,
                       Real<T>* dgamma, Real<T>* dbeta, std::int64_t N, std::int64_t S,
                       std::int64_t C, Real<T> epsilon, Real<T>* workspace);
  void (*channel_backward)(const T* dy, const T* x, const Real<T>* mean, const Real<T>* variance,
                           const Real<T>* gamma, const Real<T>* dgamma, const Real<T>* dbeta, T* dx,
                           std::int64_t N, std::int64_t S, std::int64_t C, std::int64_t groups,
                           Real<T> epsilon, Real<T>* workspace);
};

}  // namespace narae
