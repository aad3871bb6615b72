#include "kernels/softmax.h"

#include "core/isa.h"
#include "core/vecmath.h"
#include "kernels/reduce_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

// row(n) for every row; an exp costs about eight plain operations.
template <class Row>
void for_rows(std::int64_t N, std::int64_t C, const Row& row) {
  parallel_ranges(N, at_least_one(kFoldGrain / 8 / at_least_one(C)),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t n = begin; n < end; ++n) row(n);
                    finish_streaming();
                  });
}

template <class T>
T scalar_log(T x) {
  return static_cast<T>(__builtin_log(static_cast<double>(x)));
}

template <class T>
T row_max(const T* x, std::int64_t C) {
  return fold_array<T, Max<T>>(x, C);
}

// sum of f(c, lanes) over a row
template <class T, class F>
T row_sum(std::int64_t C, const F& f) {
  return fold_sequence<T, Sum<T>>(C, f);
}

// The next row is fetched meanwhile: for rows of 10000, 1.5 ms instead of 2.4 ms in all.
template <class T>
T row_sum_exp(const T* x, T m, std::int64_t C) {
  return row_sum<T>(C, [=](std::int64_t c, std::int64_t lanes) {
    __builtin_prefetch(x + C + c, 0, 2);
    return exp_normal<T>(load_lanes(x + c, lanes, lowest<T>()) - m);
  });
}

// ---- softmax ---------------------------------------------------------------------------------

template <class T>
void forward(const T* x, T* y, std::int64_t N, std::int64_t C) {
  for_rows(N, C, [=](std::int64_t n) {
    const T* x_n = x + n * C;
    T* y_n = y + n * C;
    const T m = row_max(x_n, C);
    const T s = row_sum<T>(C, [=](std::int64_t c, std::int64_t lanes) {
      const Vec<T> e = exp_normal<T>(load_lanes(x_n + c, lanes, lowest<T>()) - m);
      store_lanes(y_n + c, e, lanes);
      return e;
    });
    const T scale = T(1) / s;
    for_lanes<T>(C, [=](std::int64_t c, std::int64_t lanes) {
      store_lanes<T>(y_n + c, load_lanes(y_n + c, lanes) * scale, lanes);
    });
  });
}

template <class T>
void backward(const T* dy, const T* y, T* dx, std::int64_t N, std::int64_t C) {
  const bool streamed = may_stream(dx, N * C, C);
  for_rows(N, C, [=](std::int64_t n) {
    const T *dy_n = dy + n * C, *y_n = y + n * C;
    T* dx_n = dx + n * C;
    const T dot = row_sum<T>(C, [=](std::int64_t c, std::int64_t lanes) {
      return load_lanes(dy_n + c, lanes) * load_lanes(y_n + c, lanes);
    });
    write_lanes(dx_n, C, streamed, [=](std::int64_t c, std::int64_t lanes) {
      return load_lanes(y_n + c, lanes) * (load_lanes(dy_n + c, lanes) - dot);
    });
  });
}

template <class T>
void log_forward(const T* x, T* y, std::int64_t N, std::int64_t C) {
  const bool streamed = may_stream(y, N * C, C);
  for_rows(N, C, [=](std::int64_t n) {
    const T* x_n = x + n * C;
    T* y_n = y + n * C;
    const T m = row_max(x_n, C), log_s = scalar_log(row_sum_exp(x_n, m, C));
    write_lanes(y_n, C, streamed, [=](std::int64_t c, std::int64_t lanes) {
      return (load_lanes(x_n + c, lanes) - m) - log_s;
    });
  });
}

template <class T>
void log_backward(const T* dy, const T* y, T* dx, std::int64_t N, std::int64_t C) {
  const bool streamed = may_stream(dx, N * C, C);
  for_rows(N, C, [=](std::int64_t n) {
    const T *dy_n = dy + n * C, *y_n = y + n * C;
    T* dx_n = dx + n * C;
    const T total = fold_array<T, Sum<T>>(dy_n, C);
    write_lanes(dx_n, C, streamed, [=](std::int64_t c, std::int64_t lanes) {
      return load_lanes(dy_n + c, lanes) - exp_normal<T>(load_lanes(y_n + c, lanes)) * total;
    });
  });
}

// ---- cross-entropy of logits -----------------------------------------------------------------

template <class T>
void keep_max_and_sum(const T* x_n, T* ms, std::int64_t n, std::int64_t N, std::int64_t C) {
  ms[n] = row_max(x_n, C);
  ms[N + n] = row_sum_exp(x_n, ms[n], C);
}

template <class T>
void dense_forward(const T* x, const T* t, T* y, T* ms, std::int64_t N, std::int64_t C) {
  for_rows(N, C, [=](std::int64_t n) {
    const T *x_n = x + n * C, *t_n = t + n * C;
    keep_max_and_sum(x_n, ms, n, N, C);
    const T m = ms[n], log_s = scalar_log(ms[N + n]);
    y[n] = row_sum<T>(C, [=](std::int64_t c, std::int64_t lanes) {
      return load_lanes(t_n + c, lanes) * (log_s - (load_lanes(x_n + c, lanes) - m));
    });
  });
}

template <class T>
void dense_backward(const T* dy, const T* x, const T* t, const T* ms, T* dx, T* dt, std::int64_t N,
                    std::int64_t C) {
  for_rows(N, C, [=](std::int64_t n) {
    const T *x_n = x + n * C, *t_n = t + n * C;
    const T m = ms[n], s = ms[N + n], d = dy[n];
    const T scale = fold_array<T, Sum<T>>(t_n, C) / s, log_s = dt ? scalar_log(s) : T(0);
    for_lanes<T>(C, [=](std::int64_t c, std::int64_t lanes) {
      const Vec<T> shifted = load_lanes(x_n + c, lanes) - m;
      if (dt) store_lanes<T>(dt + n * C + c, d * (log_s - shifted), lanes);
      store_lanes<T>(dx + n * C + c,
                     d * (exp_normal<T>(shifted) * scale - load_lanes(t_n + c, lanes)), lanes);
    });
  });
}

template <class T, class Label>
void sparse_forward(const T* x, const Label* label, T* y, T* ms, std::int64_t N, std::int64_t C) {
  for_rows(N, C, [=](std::int64_t n) {
    const T* x_n = x + n * C;
    keep_max_and_sum(x_n, ms, n, N, C);
    y[n] = scalar_log(ms[N + n]) - (x_n[label[n]] - ms[n]);
  });
}

template <class T, class Label>
void sparse_backward(const T* dy, const T* x, const Label* label, const T* ms, T* dx,
                     std::int64_t N, std::int64_t C) {
  const bool streamed = may_stream(dx, N * C, C);
  for_rows(N, C, [=](std::int64_t n) {
    const T* x_n = x + n * C;
    T* dx_n = dx + n * C;
    const T m = ms[n], scale = T(1) / ms[N + n], d = dy[n];
    const T p_label = exp_normal<T>(broadcast(x_n[label[n]] - m))[0] * scale;
    write_lanes(dx_n, C, streamed, [=](std::int64_t c, std::int64_t lanes) {
      return d * (exp_normal<T>(load_lanes(x_n + c, lanes) - m) * scale);
    });
    dx_n[label[n]] = d * (p_label - T(1));
  });
}

// ---- cross-entropy of probabilities ----------------------------------------------------------

template <class T>
Vec<T> clip(Vec<T> q, T epsilon) {
  q = q < epsilon ? broadcast(epsilon) : q;
  return q > T(1) - epsilon ? broadcast(T(1) - epsilon) : q;
}
template <class T>
T clip_one(T q, T epsilon) {
  return q < epsilon ? epsilon : q > T(1) - epsilon ? T(1) - epsilon : q;
}
// t where q is inside the clipping bounds, else 0.
template <class T>
Vec<T> where_inside(Vec<T> q, Vec<T> t, T epsilon) {
  return ((q >= epsilon) & (q <= T(1) - epsilon)) ? t : Vec<T>{};
}

template <class T>
void dense_of_probabilities(const T* p, const T* t, T* y, std::int64_t N, std::int64_t C,
                            T epsilon) {
  for_rows(N, C, [=](std::int64_t n) {
    const T *p_n = p + n * C, *t_n = t + n * C;
    const T total = fold_array<T, Sum<T>>(p_n, C);
    y[n] = -row_sum<T>(C, [=](std::int64_t c, std::int64_t lanes) {
      return load_lanes(t_n + c, lanes) *
             log<T>(clip<T>(load_lanes(p_n + c, lanes) / total, epsilon));
    });
  });
}

template <class T>
void dense_of_probabilities_backward(const T* dy, const T* p, const T* t, T* dp, T* dt,
                                     std::int64_t N, std::int64_t C, T epsilon) {
  for_rows(N, C, [=](std::int64_t n) {
    const T *p_n = p + n * C, *t_n = t + n * C;
    const T total = fold_array<T, Sum<T>>(p_n, C), d = dy[n];
    const auto inside = [=](std::int64_t c, std::int64_t lanes) {
      return where_inside<T>(load_lanes(p_n + c, lanes) / total, load_lanes(t_n + c, lanes),
                             epsilon);
    };
    const T common = row_sum<T>(C, inside) / total;
    for_lanes<T>(C, [=](std::int64_t c, std::int64_t lanes) {
      const Vec<T> p_c = load_lanes(p_n + c, lanes, T(1)), t_c = inside(c, lanes);
      // 0 / 0 where p is clipped at zero
      const Vec<T> own = t_c == T(0) ? Vec<T>{} : t_c / p_c;
      if (dt) store_lanes<T>(dt + n * C + c, -d * log<T>(clip<T>(p_c / total, epsilon)), lanes);
      store_lanes<T>(dp + n * C + c, d * (common - own), lanes);
    });
  });
}

template <class T, class Label>
void sparse_of_probabilities(const T* p, const Label* label, T* y, std::int64_t N, std::int64_t C,
                             T epsilon) {
  for_rows(N, C, [=](std::int64_t n) {
    const T total = fold_array<T, Sum<T>>(p + n * C, C);
    y[n] = -scalar_log(clip_one(p[n * C + label[n]] / total, epsilon));
  });
}

template <class T, class Label>
void sparse_of_probabilities_backward(const T* dy, const T* p, const Label* label, T* dp,
                                      std::int64_t N, std::int64_t C, T epsilon) {
  for_rows(N, C, [=](std::int64_t n) {
    T* dp_n = dp + n * C;
    const T total = fold_array<T, Sum<T>>(p + n * C, C), p_label = p[n * C + label[n]];
    const bool inside = p_label / total == clip_one(p_label / total, epsilon);
    const T common = inside ? dy[n] / total : T(0);
    for_lanes<T>(C, [=](std::int64_t c, std::int64_t lanes) {
      store_lanes<T>(dp_n + c, broadcast(common), lanes);
    });
    if (inside) dp_n[label[n]] = common - dy[n] / p_label;
  });
}

// ---- binary ----------------------------------------------------------------------------------

template <class T, class Body>
void for_elements(std::int64_t n, const Body& body) {
  parallel_ranges(n, kFoldGrain / 8, [&](std::int64_t begin, std::int64_t end) {
    for_lanes<T>(end - begin, [&](std::int64_t i, std::int64_t lanes) { body(begin + i, lanes); });
  });
}

template <class T>
void binary(const T* x, const T* t, T* y, std::int64_t n) {
  for_elements<T>(n, [=](std::int64_t i, std::int64_t lanes) {
    const Vec<T> v = load_lanes(x + i, lanes);
    store_lanes<T>(y + i, softplus<T>(v) - v * load_lanes(t + i, lanes), lanes);
  });
}

template <class T>
void binary_backward(const T* dy, const T* x, const T* t, T* dx, T* dt, std::int64_t n) {
  for_elements<T>(n, [=](std::int64_t i, std::int64_t lanes) {
    const Vec<T> v = load_lanes(x + i, lanes), d = load_lanes(dy + i, lanes);
    if (dt) store_lanes<T>(dt + i, -d * v, lanes);
    store_lanes<T>(dx + i, d * (sigmoid<T>(v) - load_lanes(t + i, lanes)), lanes);
  });
}

template <class T>
void binary_of_probabilities(const T* p, const T* t, T* y, std::int64_t n, T epsilon) {
  for_elements<T>(n, [=](std::int64_t i, std::int64_t lanes) {
    const Vec<T> q = clip<T>(load_lanes(p + i, lanes, T(0.5)), epsilon),
                 u = load_lanes(t + i, lanes);
    store_lanes<T>(y + i, -(u * log<T>(q) + (T(1) - u) * log<T>(T(1) - q)), lanes);
  });
}

template <class T>
void binary_of_probabilities_backward(const T* dy, const T* p, const T* t, T* dp, T* dt,
                                      std::int64_t n, T epsilon) {
  for_elements<T>(n, [=](std::int64_t i, std::int64_t lanes) {
    const Vec<T> raw = load_lanes(p + i, lanes, T(0.5)), q = clip<T>(raw, epsilon);
    const Vec<T> u = load_lanes(t + i, lanes), d = load_lanes(dy + i, lanes);
    if (dt) store_lanes<T>(dt + i, d * (log<T>(T(1) - q) - log<T>(q)), lanes);
    store_lanes<T>(dp + i, where_inside<T>(raw, d * ((T(1) - u) / (T(1) - q) - u / q), epsilon),
                   lanes);
  });
}

template <class T>
constexpr Softmax<T> kTable = {forward<T>, backward<T>, log_forward<T>, log_backward<T>};

template <class T>
constexpr Crossentropy<T> kDense = {dense_forward<T>,
                                    dense_backward<T>,
                                    dense_of_probabilities<T>,
                                    dense_of_probabilities_backward<T>,
                                    binary<T>,
                                    binary_backward<T>,
                                    binary_of_probabilities<T>,
                                    binary_of_probabilities_backward<T>};

template <class T, class Label>
constexpr SparseCrossentropy<T, Label> kSparse = {
    sparse_forward<T, Label>, sparse_backward<T, Label>, sparse_of_probabilities<T, Label>,
    sparse_of_probabilities_backward<T, Label>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Softmax<float>& implementation<Softmax<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Softmax<double>& implementation<Softmax<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}
template <>
const Crossentropy<float>& implementation<Crossentropy<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kDense<float>;
}
template <>
const Crossentropy<double>& implementation<Crossentropy<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kDense<double>;
}
template <>
const SparseCrossentropy<float, std::int32_t>&
implementation<SparseCrossentropy<float, std::int32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kSparse<float, std::int32_t>;
}
template <>
const SparseCrossentropy<float, std::int64_t>&
implementation<SparseCrossentropy<float, std::int64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kSparse<float, std::int64_t>;
}
template <>
const SparseCrossentropy<double, std::int32_t>&
implementation<SparseCrossentropy<double, std::int32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kSparse<double, std::int32_t>;
}
template <>
const SparseCrossentropy<double, std::int64_t>&
implementation<SparseCrossentropy<double, std::int64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kSparse<double, std::int64_t>;
}

}  // namespace narae
