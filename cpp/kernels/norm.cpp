#include "kernels/norm.h"

#include "core/isa.h"
#include "kernels/reduce_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

template <class T>
T inverse_root(T x) {
  return T(1) / static_cast<T>(sizeof(T) == 4 ? __builtin_sqrtf(static_cast<float>(x))
                                              : __builtin_sqrt(static_cast<double>(x)));
}

// p[i], or `otherwise` where there is no p.
template <class T>
Vec<T> load_or(const T* p, std::int64_t i, std::int64_t lanes, T otherwise) {
  return p ? load_lanes(p + i, lanes) : broadcast(otherwise);
}

// ---- rows ------------------------------------------------------------------------------------

// Rows handled by one chunk: its columns' sums are one partial of dgamma and dbeta.
inline std::int64_t rows_of_block(std::int64_t C) {
  const std::int64_t rows = kFoldGrain / 4 / at_least_one(C);
  return rows > 16 ? rows : 16;
}

template <class T>
std::int64_t rows_workspace_size(std::int64_t N, std::int64_t C) {
  return 2 * blocks_of(N, rows_of_block(C)) * C;
}

template <class T, bool kCentred>
void rows_forward(const T* x, const T* gamma, const T* beta, T* y, T* mean, T* r, std::int64_t N,
                  std::int64_t C, T epsilon) {
  parallel_ranges(N, rows_of_block(C), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const T* x_n = x + n * C;
      T* y_n = y + n * C;
      const T m = kCentred ? fold_array<T, Sum<T>>(x_n, C) / T(C) : T(0);
      const T squares = fold_sequence<T, Sum<T>>(C, [=](std::int64_t c, std::int64_t lanes) {
        const Vec<T> d = load_lanes(x_n + c, lanes, m) - m;
        return d * d;
      });
      const T r_n = inverse_root(squares / T(C) + epsilon);
      if (kCentred) mean[n] = m;
      r[n] = r_n;
      for_lanes<T>(C, [=](std::int64_t c, std::int64_t lanes) {
        Vec<T> v = (load_lanes(x_n + c, lanes) - m) * r_n;
        if (gamma) v *= load_lanes(gamma + c, lanes);
        if (beta) v += load_lanes(beta + c, lanes);
        store_lanes<T>(y_n + c, v, lanes);
      });
    }
  });
}

template <class T, bool kCentred>
void row_backward(const T* dy_n, const T* x_n, const T* gamma, T m, T r, T* dx_n, std::int64_t C) {
  const auto g = [=](std::int64_t c, std::int64_t lanes) {
    const Vec<T> d = load_lanes(dy_n + c, lanes);
    return gamma ? d * load_lanes(gamma + c, lanes) : d;
  };
  const auto x_hat = [=](std::int64_t c, std::int64_t lanes) {
    return (load_lanes(x_n + c, lanes, m) - m) * r;
  };
  const T along =
      fold_sequence<T, Sum<T>>(
          C, [=](std::int64_t c, std::int64_t lanes) { return g(c, lanes) * x_hat(c, lanes); }) /
      T(C);
  const T shift = kCentred ? fold_sequence<T, Sum<T>>(C, g) / T(C) : T(0);
  for_lanes<T>(C, [=](std::int64_t c, std::int64_t lanes) {
    store_lanes<T>(dx_n + c, r * (g(c, lanes) - shift - x_hat(c, lanes) * along), lanes);
  });
}

template <class T, bool kCentred>
void rows_backward(const T* dy, const T* x, const T* gamma, const T* mean, const T* r, T* dx,
                   T* dgamma, T* dbeta, std::int64_t N, std::int64_t C, T* workspace) {
  const std::int64_t rows = rows_of_block(C), blocks = blocks_of(N, rows);
  parallel_for(blocks, [=](std::int64_t b) {
    const std::int64_t begin = b * rows, end = begin + rows < N ? begin + rows : N;
    // The sums first: dx may alias dy.
    if (dgamma || dbeta) {
      T* const partial[2] = {workspace + b * C, workspace + (blocks + b) * C};
      fold_block<T, Sum<T>, 2>(
          begin, end, 0, C, partial, [=](std::int64_t n, std::int64_t c, std::int64_t lanes) {
            const Vec<T> d = load_lanes(dy + n * C + c, lanes);
            const T m = kCentred ? mean[n] : T(0);
            return Many<T, 2>{{d * ((load_lanes(x + n * C + c, lanes) - m) * r[n]), d}};
          });
    }
    for (std::int64_t n = begin; n < end; ++n) {
      row_backward<T, kCentred>(dy + n * C, x + n * C, gamma, kCentred ? mean[n] : T(0), r[n],
                                dx + n * C, C);
    }
  });
  if (dgamma) combine_blocks<T, Sum<T>>(1, blocks, C, workspace, dgamma);
  if (dbeta) combine_blocks<T, Sum<T>>(1, blocks, C, workspace + blocks * C, dbeta);
}

template <class T>
void rms_forward(const T* x, const T* gamma, T* y, T* r, std::int64_t N, std::int64_t C,
                 T epsilon) {
  rows_forward<T, false>(x, gamma, nullptr, y, nullptr, r, N, C, epsilon);
}

template <class T>
void rms_backward(const T* dy, const T* x, const T* gamma, const T* r, T* dx, T* dgamma,
                  std::int64_t N, std::int64_t C, T* workspace) {
  rows_backward<T, false>(dy, x, gamma, nullptr, r, dx, dgamma, nullptr, N, C, workspace);
}

// ---- channels --------------------------------------------------------------------------------

// Sums of K quantities, and three coefficients for each channel.
template <class T>
std::int64_t channels_workspace_size(std::int64_t N, std::int64_t S, std::int64_t C) {
  return fold_columns_workspace(N, S, C, 2) + 3 * N * C;
}

// body(n, first channel, channels) for every group.
template <class Body>
void for_groups(std::int64_t N, std::int64_t C, std::int64_t groups, const Body& body) {
  const std::int64_t wide = C / groups;
  parallel_ranges(N, at_least_one(kFoldGrain / 4 / at_least_one(C)),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t n = begin; n < end; ++n) {
                      for (std::int64_t g = 0; g < groups; ++g) body(n, n * C + g * wide, wide);
                    }
                  });
}

// Replaces the sum of each channel by its group's mean.
template <class T>
void average_groups(T* sums, std::int64_t N, std::int64_t S, std::int64_t C, std::int64_t groups) {
  for_groups(N, C, groups, [=](std::int64_t, std::int64_t first, std::int64_t wide) {
    const T mean = fold_array<T, Sum<T>>(sums + first, wide) / T(S * wide);
    for (std::int64_t c = 0; c < wide; ++c) sums[first + c] = mean;
  });
}

// The second pass also gives the rounding error of the first one's mean: sum of x - mean.
template <class T>
void channel_moments(const T* x, T* mean, T* variance, std::int64_t N, std::int64_t S,
                     std::int64_t C, std::int64_t groups, T* workspace) {
  T* error = workspace + fold_columns_workspace(N, S, C, 2);
  T *const means[1] = {mean}, *const deviations[2] = {variance, error};
  const auto element = [=](std::int64_t n, std::int64_t s, std::int64_t c, std::int64_t lanes) {
    return load_lanes(x + (n * S + s) * C + c, lanes);
  };
  fold_columns<T, Sum<T>, 1>(
      N, S, C, means, workspace,
      [=](std::int64_t n, std::int64_t s, std::int64_t c, std::int64_t lanes) {
        return Many<T, 1>{{element(n, s, c, lanes)}};
      });
  average_groups(mean, N, S, C, groups);
  fold_columns<T, Sum<T>, 2>(
      N, S, C, deviations, workspace,
      [=](std::int64_t n, std::int64_t s, std::int64_t c, std::int64_t lanes) {
        const Vec<T> d = element(n, s, c, lanes) - load_lanes(mean + n * C + c, lanes);
        return Many<T, 2>{{d * d, d}};
      });
  average_groups(variance, N, S, C, groups);
  average_groups(error, N, S, C, groups);
  for (std::int64_t i = 0; i < N * C; ++i) {
    mean[i] += error[i];
    const T v = variance[i] - error[i] * error[i];
    variance[i] = v < T(0) ? T(0) : v;
  }
}

// row(n, offset of the row) for every position.
template <class Row>
void for_positions(std::int64_t N, std::int64_t S, std::int64_t C, const Row& row) {
  parallel_ranges(N * S, at_least_one(kFoldGrain / at_least_one(C)),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t i = begin; i < end; ++i) row(i / S, i * C);
                  });
}

template <class T>
void channel_forward(const T* x, const T* mean, const T* variance, const T* gamma, const T* beta,
                     T* y, std::int64_t N, std::int64_t S, std::int64_t C, T epsilon,
                     T* workspace) {
  T* scale = workspace;  // gamma * r
  for (std::int64_t i = 0; i < N * C; ++i) {
    scale[i] = inverse_root(variance[i] + epsilon) * (gamma ? gamma[i % C] : T(1));
  }
  for_positions(N, S, C, [=](std::int64_t n, std::int64_t offset) {
    for_lanes<T>(C, [=](std::int64_t c, std::int64_t lanes) {
      const Vec<T> d = load_lanes(x + offset + c, lanes) - load_lanes(mean + n * C + c, lanes);
      store_lanes<T>(y + offset + c,
                     d * load_lanes(scale + n * C + c, lanes) + load_or(beta, c, lanes, T(0)),
                     lanes);
    });
  });
}

template <class T>
void channel_sums(const T* dy, const T* x, const T* mean, const T* variance, T* dgamma, T* dbeta,
                  std::int64_t N, std::int64_t S, std::int64_t C, T epsilon, T* workspace) {
  T* const sums[2] = {dgamma, dbeta};
  fold_columns<T, Sum<T>, 2>(
      N, S, C, sums, workspace,
      [=](std::int64_t n, std::int64_t s, std::int64_t c, std::int64_t lanes) {
        const std::int64_t i = (n * S + s) * C + c;
        const Vec<T> d = load_lanes(dy + i, lanes);
        return Many<T, 2>{
            {d * (load_lanes(x + i, lanes) - load_lanes(mean + n * C + c, lanes)), d}};
      });
  for (std::int64_t i = 0; i < N * C; ++i) dgamma[i] *= inverse_root(variance[i] + epsilon);
}

// dx = r * (dy * gamma - mean(g) - x_hat * mean(g * x_hat)) = scale * dy - shift - slope * (x -
// mean)
template <class T>
void channel_backward(const T* dy, const T* x, const T* mean, const T* variance, const T* gamma,
                      const T* dgamma, const T* dbeta, T* dx, std::int64_t N, std::int64_t S,
                      std::int64_t C, std::int64_t groups, T epsilon, T* workspace) {
  T *scale = workspace, *shift = workspace + N * C, *slope = workspace + 2 * N * C;
  for (std::int64_t i = 0; i < N * C; ++i) {
    const T gamma_c = gamma ? gamma[i % C] : T(1);
    scale[i] = inverse_root(variance[i] + epsilon) * gamma_c;
    shift[i] = dbeta[i] * gamma_c;
    slope[i] = dgamma[i] * gamma_c;
  }
  average_groups(shift, N, S, C, groups);
  average_groups(slope, N, S, C, groups);
  for (std::int64_t i = 0; i < N * C; ++i) {
    const T r = inverse_root(variance[i] + epsilon);
    shift[i] *= r;
    slope[i] *= r * r;
  }
  for_positions(N, S, C, [=](std::int64_t n, std::int64_t offset) {
    for_lanes<T>(C, [=](std::int64_t c, std::int64_t lanes) {
      const std::int64_t i = n * C + c;
      const Vec<T> d = load_lanes(x + offset + c, lanes) - load_lanes(mean + i, lanes);
      store_lanes<T>(dx + offset + c,
                     load_lanes(scale + i, lanes) * load_lanes(dy + offset + c, lanes) -
                         load_lanes(shift + i, lanes) - load_lanes(slope + i, lanes) * d,
                     lanes);
    });
  });
}

template <class T>
constexpr Norm<T> kTable = {
    rows_forward<T, true>, rows_workspace_size<T>,     rows_backward<T, true>, rms_forward<T>,
    rms_backward<T>,       channels_workspace_size<T>, channel_moments<T>,     channel_forward<T>,
    channel_sums<T>,       channel_backward<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Norm<float>& implementation<Norm<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Norm<double>& implementation<Norm<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}

}  // namespace narae
