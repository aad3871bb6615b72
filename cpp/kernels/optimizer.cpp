#include "kernels/optimizer.h"

#include "core/isa.h"
#include "core/parallel.h"
#include "core/vec.h"
#include "core/vecmath.h"
#include "kernels/gemm_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

constexpr std::int64_t kGrain = 8192;  // elements; about 10 us of memory traffic with two slots

template <class T>
Vec<T> root(Vec<T> x) {
  for (int i = 0; i < kLanes<T>; ++i) {
    x[i] = sizeof(T) == 4 ? __builtin_sqrtf(x[i]) : __builtin_sqrt(x[i]);
  }
  return x;
}

// The rules: what happens to the w, g and slots of one register. Step by step values are computed
// in float64, once per update.
template <class T>
struct Step {
  explicit Step(const UpdateArgs<T>& a)
      : lr(*a.learning_rate),
        t(*a.iteration / a.every + 1),
        h(a.hyper + kRule),
        product(a.product ? *a.product : 1.0) {}
  double power(double base, std::int64_t exponent) const {
    return __builtin_pow(base, static_cast<double>(exponent));
  }
  double lr;
  std::int64_t t;
  const double* h;
  double product;
};

template <class T>
struct Sgd {
  static constexpr bool uses(int) { return false; }
  explicit Sgd(const Step<T>& s) : lr(s.lr) {}
  void operator()(Vec<T>& w, Vec<T> g, Vec<T>*) const { w -= lr * g; }
  T lr;
};

template <class T, bool kNesterov>
struct Momentum {
  static constexpr bool uses(int s) { return s < 1; }
  explicit Momentum(const Step<T>& s) : lr(s.lr), mu(s.h[0]) {}
  void operator()(Vec<T>& w, Vec<T> g, Vec<T>* s) const {
    s[0] = mu * s[0] - lr * g;
    w += kNesterov ? mu * s[0] - lr * g : s[0];
  }
  T lr, mu;
};

template <class T>
struct Moments {  // running means of g and g^2
  explicit Moments(const Step<T>& s) : rest_1(1 - s.h[0]), rest_2(1 - s.h[1]), eps(s.h[2]) {}
  void advance(Vec<T> g, Vec<T>* s) const {
    s[0] += (g - s[0]) * rest_1;
    s[1] += (g * g - s[1]) * rest_2;
  }
  T rest_1, rest_2, eps;
};

template <class T, bool kLargest>
struct Adam : Moments<T> {
  static constexpr bool uses(int s) { return kLargest || s < 2; }
  explicit Adam(const Step<T>& s)
      : Moments<T>(s),
        alpha(s.lr * __builtin_sqrt(1 - s.power(s.h[1], s.t)) / (1 - s.power(s.h[0], s.t))) {}
  void operator()(Vec<T>& w, Vec<T> g, Vec<T>* s) const {
    this->advance(g, s);
    if constexpr (kLargest) s[2] = max<T>(s[2], s[1]);
    w -= s[0] * alpha / (root<T>(s[kLargest ? 2 : 1]) + this->eps);
  }
  T alpha;
};

double nadam_u(double beta_1, double decayed) { return beta_1 * (1 - 0.5 * decayed); }

template <class T>
struct Nadam : Moments<T> {
  static constexpr bool uses(int s) { return s < 2; }
  explicit Nadam(const Step<T>& s) : Moments<T>(s) {
    const double u = nadam_u(s.h[0], s.power(0.96, s.t));
    const double u_next = nadam_u(s.h[0], s.power(0.96, s.t + 1));
    from_m = s.lr * u_next / (1 - s.product * u_next);
    from_g = s.lr * (1 - u) / (1 - s.product);
    correction = 1 / (1 - s.power(s.h[1], s.t));
  }
  void operator()(Vec<T>& w, Vec<T> g, Vec<T>* s) const {
    this->advance(g, s);
    w -= (from_m * s[0] + from_g * g) / (root<T>(s[1] * correction) + this->eps);
  }
  T from_m, from_g, correction;
};

template <class T>
struct Adamax {
  static constexpr bool uses(int s) { return s < 2; }
  explicit Adamax(const Step<T>& s)
      : rest_1(1 - s.h[0]), beta_2(s.h[1]), eps(s.h[2]), alpha(s.lr / (1 - s.power(s.h[0], s.t))) {}
  void operator()(Vec<T>& w, Vec<T> g, Vec<T>* s) const {
    s[0] += (g - s[0]) * rest_1;
    s[1] = max<T>(beta_2 * s[1], abs<T>(g));
    w -= alpha * s[0] / (s[1] + eps);
  }
  T rest_1, beta_2, eps, alpha;
};

template <class T, bool kMomentum, bool kCentered>
struct Rmsprop {
  static constexpr bool uses(int s) { return s == 0 || (s == 1 ? kMomentum : kCentered); }
  explicit Rmsprop(const Step<T>& s)
      : lr(s.lr), rho(s.h[0]), rest(1 - s.h[0]), mu(s.h[1]), eps(s.h[2]) {}
  void operator()(Vec<T>& w, Vec<T> g, Vec<T>* s) const {
    s[0] = rho * s[0] + rest * g * g;
    Vec<T> square = s[0];
    if constexpr (kCentered) {
      s[2] = rho * s[2] + rest * g;
      square -= s[2] * s[2];
    }
    Vec<T> d = lr * g / root<T>(square + eps);
    if constexpr (kMomentum) d = s[1] = mu * s[1] + d;
    w -= d;
  }
  T lr, rho, rest, mu, eps;
};

template <class T>
struct Adagrad {
  static constexpr bool uses(int s) { return s < 1; }
  explicit Adagrad(const Step<T>& s) : lr(s.lr), eps(s.h[0]) {}
  void operator()(Vec<T>& w, Vec<T> g, Vec<T>* s) const {
    s[0] += g * g;
    w -= lr * g / root<T>(s[0] + eps);
  }
  T lr, eps;
};

template <class T>
struct Adadelta {
  static constexpr bool uses(int s) { return s < 2; }
  explicit Adadelta(const Step<T>& s) : lr(s.lr), rho(s.h[0]), rest(1 - s.h[0]), eps(s.h[1]) {}
  void operator()(Vec<T>& w, Vec<T> g, Vec<T>* s) const {
    s[0] = rho * s[0] + rest * g * g;
    const Vec<T> d = -(root<T>(s[1] + eps) * g / root<T>(s[0] + eps));
    s[1] = rho * s[1] + rest * d * d;
    w += lr * d;
  }
  T lr, rho, rest, eps;
};

template <class T>
struct Ftrl {
  static constexpr bool uses(int s) { return s < 2; }
  explicit Ftrl(const Step<T>& s)
      : p(s.h[0]),
        l1(s.h[1]),
        rate(1 / s.lr),
        shrinkage(2 * s.h[3]),
        ridge(2 * s.h[2] + s.h[4] / s.lr) {}
  Vec<T> powered(Vec<T> x) const {
    if (p == T(0.5)) return root<T>(x);
    for (int i = 0; i < kLanes<T>; ++i) x[i] = static_cast<T>(__builtin_pow(x[i], p));
    return x;
  }
  void operator()(Vec<T>& w, Vec<T> g, Vec<T>* s) const {
    const Vec<T> q = s[0] + g * g, q_p = powered(q);
    s[1] += g + shrinkage * w - (q_p - powered(s[0])) * rate * w;
    s[0] = q;
    const Vec<T> cut = min<T>(max<T>(s[1], broadcast(-l1)), broadcast(l1));
    w = (cut - s[1]) / (q_p * rate + ridge);
  }
  T p, l1, rate, shrinkage, ridge;
};

template <class T>
struct Lion {
  static constexpr bool uses(int s) { return s < 1; }
  explicit Lion(const Step<T>& s)
      : lr(s.lr), beta_1(s.h[0]), rest_1(1 - s.h[0]), beta_2(s.h[1]), rest_2(1 - s.h[1]) {}
  void operator()(Vec<T>& w, Vec<T> g, Vec<T>* s) const {
    const Vec<T> d = beta_1 * s[0] + rest_1 * g, step = broadcast(lr);
    w -= d > 0 ? step : d < 0 ? -step : d * T(0);  // d * 0 keeps a NaN
    s[0] = beta_2 * s[0] + rest_2 * g;
  }
  T lr, beta_1, rest_1, beta_2, rest_2;
};

template <class T>
bool is_due(const UpdateArgs<T>& a) {
  return (*a.iteration + 1) % a.every == 0;
}

// body(variable, first, last) for every part of a segment in elements [begin, end).
template <class T, class Body>
void for_segments(const UpdateArgs<T>& a, std::int64_t begin, std::int64_t end, const Body& body) {
  std::int64_t low = 0, high = a.count;  // the last segment that starts at or before begin
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (a.layout[3 * middle] <= begin ? low : high) = middle;
  }
  for (std::int64_t i = low; i < a.count && a.layout[3 * i] < end; ++i) {
    const std::int64_t start = a.layout[3 * i], stop = start + a.layout[3 * i + 1];
    const std::int64_t first = start > begin ? start : begin, last = stop < end ? stop : end;
    if (first < last && a.g[i]) body(i, first, last);
  }
}

// The update of elements of variable i.
template <class T, class Rule>
struct Elements {
  Rule rule;
  T factor, shrink, clip;
  bool clips;
  T *w, *slots[3];

  Elements(const UpdateArgs<T>& a, const Rule& of, std::int64_t i)
      : rule(of),
        factor(static_cast<T>(a.hyper[kFactor] * (a.scale ? a.scale[i] : 1.0))),
        shrink(a.layout[3 * i + 2] ? static_cast<T>(a.hyper[kWeightDecay] * *a.learning_rate) : 0),
        clip(static_cast<T>(a.hyper[kClipValue])),
        clips(a.hyper[kClipValue] < __builtin_inf()),
        w(a.w),
        slots{a.slots[0], a.slots[1], a.slots[2]} {}

  // The update of the weights from w[at] on, a register or `lanes` of one.
  template <bool kClips>
  NARAE_INLINE void step(std::int64_t at, Vec<T> g, std::int64_t lanes = kLanes<T>) const {
    Vec<T> weight = load_lanes(w + at, lanes), slot[3] = {};
    g *= factor;
    if (kClips) g = min<T>(max<T>(g, broadcast(-clip)), broadcast(clip));
    weight -= weight * shrink;
    for (int s = 0; s < 3; ++s) {
      if (Rule::uses(s)) slot[s] = load_lanes(slots[s] + at, lanes);
    }
    rule(weight, g, slot);
    store_lanes<T>(w + at, weight, lanes);
    for (int s = 0; s < 3; ++s) {
      if (Rule::uses(s)) store_lanes<T>(slots[s] + at, slot[s], lanes);
    }
  }

  // Of `rows` rows of `cols` weights from w[first] on, `row` apart; their gradients are g_row
  // apart.
  void update(std::int64_t rows, std::int64_t cols, std::int64_t first, std::int64_t row,
              const T* g, std::int64_t g_row) const {
    if (clips) return run<true>(*this, rows, cols, first, row, g, g_row);
    run<false>(*this, rows, cols, first, row, g, g_row);
  }

  // A copy of the members stays in registers, since no store can change it: sgd takes 1.9 instead
  // of 6.5 cycles for a register, 17 instead of 28 us for the 266 610 weights of the MLP.
  template <bool kClips>
  static void run(Elements e, std::int64_t rows, std::int64_t cols, std::int64_t first,
                  std::int64_t row, const T* g, std::int64_t g_row) {
    for (; rows > 0; --rows, first += row, g += g_row) {
      for_lanes<T>(cols, [=](std::int64_t j, std::int64_t lanes) {
        e.template step<kClips>(first + j, load_lanes(g + j, lanes), lanes);
      });
    }
  }
};

// ---- Gradients given by factors. With 32 samples, 784x300 weights and sgd 150 instead of 174 us,
// which is what the product alone takes; 128 samples, 784x256 weights and adam 498 instead of 527
// (Zen 4). Most of it is that a tile asks for its weights and slots while it is summed.

static_assert(kFactorTerms<float> == kKC<float> && kFactorTerms<double> == kKC<double>,
              "sums in one part are those of a product of its own");
static_assert(kFactorRows >= kMR && kFactorColumns >= kNR<float>);

// Each run of terms asks for a part of one array, and a tile must find them all when it updates.
// One run for each was not enough (momentum, 32 samples, 2048x1024: slower in two of three runs),
// with 32 samples and adam 4096x4096 weights took 29 instead of 22 ms. Without fused multiply-adds
// sums do not stay in the registers: 128 samples, adam, 784x256 2.2 instead of 1.6 ms.
#if defined(__FMA__) || defined(__aarch64__)
bool gains_from_factors(std::int64_t B, int slots) { return B >= kRun * (1 + 2 * slots); }
#else
bool gains_from_factors(std::int64_t, int) { return false; }
#endif

// acc = a tile of x^T dy from (m, n) on. Each run of terms asks for the tile's part of one of w and
// the slots, which begin at `first` in it.
template <class T, int NV, class Rule>
NARAE_INLINE void sum_tile(const Elements<T, Rule>& elements, std::int64_t first,
                           const Factors<T>& f, std::int64_t m, std::int64_t n,
                           Vec<T> (&acc)[kMR][NV]) {
  const T *x = f.x + m, *dy = f.dy + n, *wanted = elements.w;
  std::int64_t k = 0;
  for (int next = 0; wanted && k < f.B; k += kRun) {
    const Fetch rows{last_line(wanted + first), f.N * static_cast<std::int64_t>(sizeof(T)), 0};
    add_terms<T, kMR, NV, false, true, false>(smaller(kRun, f.B - k), x, 1, f.K, dy, f.N, 0, acc,
                                              {{rows.from, 0, 0}, rows});
    wanted = nullptr;
    for (; !wanted && next < 3; ++next) wanted = Rule::uses(next) ? elements.slots[next] : nullptr;
  }
  if (k < f.B) add_terms<T, kMR, NV, false, false, false>(f.B - k, x, 1, f.K, dy, f.N, 0, acc);
}

// The update of `rows` x `cols` weights at the end of a tile of x^T dy from (m, n) on.
template <class T, int NV, class Rule>
NARAE_FLATTEN void update_tile(const Elements<T, Rule>& elements, std::int64_t begin,
                               const Factors<T>& f, std::int64_t m, std::int64_t n,
                               std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kCols = NV * kLanes<T>;
  const std::int64_t first = begin + m * f.N + n;
  Vec<T> acc[kMR][NV] = {};
  sum_tile(elements, first, f, m, n, acc);
  const auto for_registers = [&](const auto& body) {
    NARAE_UNROLL
    for (int i = 0; i < kMR; ++i) {
      NARAE_UNROLL
      for (int j = 0; j < NV; ++j) body(i, j * kLanes<T>, acc[i][j]);
    }
  };
  const bool whole = rows == kMR && cols == kCols;
  // Without slots the gradients need not leave their registers. Others need more than there are.
  if (!Rule::uses(0) && whole && !elements.clips) {
    for_registers([e = elements, first, N = f.N](int i, std::int64_t j, Vec<T> g) {
      e.template step<false>(first + i * N + j, g);
    });
    return;
  }
  alignas(kVecBytes) T g[kMR * kCols];
  for_registers([&](int i, std::int64_t j, Vec<T> sum) { store(g + i * kCols + j, sum); });
  if (whole) return elements.update(kMR, kCols, first, f.N, g, kCols);
  const std::int64_t top = kMR - rows, left = kCols - cols;
  elements.update(rows, cols, first + top * f.N + left, f.N, g + top * kCols + left, kCols);
}

// Tiles at the edges are whole ones that overlap those before, whose weights they leave alone.
template <class T, class Rule>
void update_by_factors(const Elements<T, Rule>& elements, std::int64_t begin, const Factors<T>& f) {
  const std::int64_t grain = round_up(1 + (std::int64_t{1} << 19) / (f.N * f.B + 1), kMR);
  parallel_ranges(f.K, grain, [&](std::int64_t m0, std::int64_t m1) {
    for (std::int64_t n = 0; n < f.N; n += kNR<T>) {
      const std::int64_t cols = smaller(kNR<T>, f.N - n);
      const bool narrow = cols <= kLanes<T>;
      const std::int64_t left = smaller(n, f.N - (narrow ? kLanes<T> : kNR<T>));
      for (std::int64_t m = m0; m < m1; m += kMR) {
        (narrow ? update_tile<T, 1, Rule> : update_tile<T, 2, Rule>)(elements, begin, f,
                                                                     smaller(m, f.K - kMR), left,
                                                                     smaller(kMR, f.K - m), cols);
      }
    }
  });
}

template <class T, class Rule>
void update(const UpdateArgs<T>& a) {
  if (!is_due(a)) return;
  const Rule rule{Step<T>(a)};
  for (std::int64_t i = 0; i < a.count; ++i) {
    if (a.factors[i].x)
      update_by_factors(Elements<T, Rule>(a, rule, i), a.layout[3 * i], a.factors[i]);
  }
  parallel_ranges(a.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for_segments(a, begin, end, [&](std::int64_t i, std::int64_t first, std::int64_t last) {
      Elements<T, Rule>(a, rule, i)
          .update(1, last - first, first, 0, a.g[i] + (first - a.layout[3 * i]), 0);
    });
  });
}

template <class T>
void rmsprop(const UpdateArgs<T>& a) {
  if (a.slots[2]) {
    a.slots[1] ? update<T, Rmsprop<T, true, true>>(a) : update<T, Rmsprop<T, false, true>>(a);
  } else {
    a.slots[1] ? update<T, Rmsprop<T, true, false>>(a) : update<T, Rmsprop<T, false, false>>(a);
  }
}

template <class T>
void nadam_product(const UpdateArgs<T>& a) {
  if (!a.product || !is_due(a)) return;
  const Step<T> step(a);
  *a.product *= nadam_u(step.h[0], step.power(0.96, step.t));
}

template <class T>
void accumulate(const UpdateArgs<T>& a) {
  parallel_ranges(a.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for_segments(a, begin, end, [&](std::int64_t i, std::int64_t first, std::int64_t last) {
      const T* g = a.g[i] + (first - a.layout[3 * i]);
      const bool fresh = *a.iteration % a.every == 0;
      for_lanes<T>(last - first, [&](std::int64_t j, std::int64_t lanes) {
        T* total = a.w + first + j;
        const Vec<T> old = fresh ? Vec<T>{} : load_lanes(total, lanes);
        store_lanes<T>(total, old + load_lanes(g + j, lanes), lanes);
      });
    });
  });
}

template <class T>
double sum_of_squares(const T* x, std::int64_t n) {
  Vec<T> sums[4] = {};
  std::int64_t i = 0;
  for (; i + 4 * kLanes<T> <= n; i += 4 * kLanes<T>) {
    for (int k = 0; k < 4; ++k) {
      const Vec<T> v = load(x + i + k * kLanes<T>);
      sums[k] += v * v;
    }
  }
  for_lanes<T>(n - i, [&](std::int64_t j, std::int64_t lanes) {
    const Vec<T> v = load_lanes(x + i + j, lanes);
    sums[0] += v * v;
  });
  return sum<T>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// A part of segment i in chunk c has its own partial sum: both rise, so c + i is unique.
std::int64_t partial_size(std::int64_t n, std::int64_t count) {
  return (n + kGrain - 1) / kGrain + count;
}

template <class T>
void clip(const UpdateArgs<T>& a, double limit, bool global, double* partial, double* scale) {
  if (!is_due(a)) return;
  for (std::int64_t k = 0; k < partial_size(a.n, a.count); ++k) partial[k] = 0;
  parallel_ranges(a.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for_segments(a, begin, end, [&](std::int64_t i, std::int64_t first, std::int64_t last) {
      partial[begin / kGrain + i] =
          sum_of_squares(a.g[i] + (first - a.layout[3 * i]), last - first);
    });
  });
  const double factor = a.hyper[kFactor];
  const auto scale_of = [&](double square) {
    const double norm = __builtin_sqrt(square) * factor;
    return limit / (norm > limit ? norm : limit) + (global ? norm - norm : 0.0);
  };
  double total = 0;
  for (std::int64_t i = 0; i < a.count; ++i) {
    const std::int64_t start = a.layout[3 * i], stop = start + a.layout[3 * i + 1];
    double square = 0;
    for (std::int64_t c = start / kGrain; c * kGrain < stop; ++c) square += partial[c + i];
    scale[i] = scale_of(square);
    total += square;
  }
  for (std::int64_t i = 0; global && i < a.count; ++i) scale[i] = scale_of(total);
}

template <class T>
void average(const UpdateArgs<T>& a, T* average, std::int64_t overwrite_every) {
  const std::int64_t updates = *a.iteration / a.every;
  const T keep = updates ? static_cast<T>(a.hyper[kAverageMomentum]) : T(0);
  const T rest = updates ? static_cast<T>(1 - a.hyper[kAverageMomentum]) : T(1);
  const bool overwrite = overwrite_every > 0 && (updates + 1) % overwrite_every == 0;
  parallel_ranges(a.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for_lanes<T>(end - begin, [&](std::int64_t j, std::int64_t lanes) {
      const std::int64_t at = begin + j;
      const Vec<T> mean =
          keep * load_lanes(average + at, lanes) + rest * load_lanes(a.w + at, lanes);
      store_lanes<T>(average + at, mean, lanes);
      if (overwrite) store_lanes<T>(a.w + at, mean, lanes);
    });
  });
}

template <class T>
constexpr Optimizer<T> kTable = {update<T, Sgd<T>>,
                                 update<T, Momentum<T, false>>,
                                 update<T, Momentum<T, true>>,
                                 update<T, Adam<T, false>>,
                                 update<T, Adam<T, true>>,
                                 update<T, Nadam<T>>,
                                 update<T, Adamax<T>>,
                                 rmsprop<T>,
                                 update<T, Adagrad<T>>,
                                 update<T, Adadelta<T>>,
                                 update<T, Ftrl<T>>,
                                 update<T, Lion<T>>,
                                 gains_from_factors,
                                 nadam_product<T>,
                                 accumulate<T>,
                                 clip<T>,
                                 partial_size,
                                 average<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Optimizer<float>& implementation<Optimizer<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Optimizer<double>& implementation<Optimizer<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}

}  // namespace narae
