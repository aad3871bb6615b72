#include "kernels/attention.h"

#include "core/isa.h"
#include "core/philox.h"
#include "core/vecmath.h"
#include "kernels/gemm_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

using std::int64_t;

// Keys in a tile s[query][key]. K is packed transposed, so that vectors run over keys and a query
// is one value for all lanes; s is then read the same way against V, and y comes out as it lies.
constexpr int64_t kKeys = 96;
static_assert(kKeys % kNR<float> == 0 && kKeys % Philox::kWords == 0);

// Logits are kept in units of log 2, scale and bias taken times log2(e): 2^s is cheaper than
// exp(s).
template <class T>
constexpr T kLog2E = T(1.4426950408889634074);

template <class T>
constexpr T kLargest = sizeof(T) == 4 ? T(3.4028234663852886e38) : T(1.7976931348623157e308);

// The logit of a key that may not be seen: finite, so that a row of nothing else gives equal
// weights.
template <class T>
constexpr T kHidden = T(-0.98) * kLargest<T>;

template <class T>
bool is_blind(T largest_logit) {
  return largest_logit <= kHidden<T>;
}

// One query head, and where its rows begin.
template <class T>
struct Head {
  const AttentionArgs<T>& p;
  int64_t b, h, g;

  Head(const AttentionArgs<T>& args, int64_t batch, int64_t head)
      : p(args), b(batch), h(head), g(head / (args.H / args.G)) {}

  int64_t q_at(int64_t t) const { return ((b * p.T_ + t) * p.H + h) * p.D; }
  int64_t y_at(int64_t t) const { return ((b * p.T_ + t) * p.H + h) * p.E; }
  int64_t row(int64_t t) const { return (b * p.H + h) * p.T_ + t; }
  int64_t k_at(int64_t j) const { return ((b * p.S + j) * p.G + g) * p.D; }
  int64_t v_at(int64_t j) const { return ((b * p.S + j) * p.G + g) * p.E; }
};

// The right operand of a product: rows of values side by side, `row` apart, in strips of kNR
// columns `strip` apart.
template <class T>
struct Rows {
  const T* data;
  int64_t row, strip;

  Rows from(int64_t k) const { return {data + k * row, row, strip}; }
};

// N channels of `rows` rows, read where they lie unless tiles cannot read parts of registers or the
// rows share a set of the first cache: only then does packing pay.
template <class T>
Rows<T> rows_of(const T* from, int64_t from_row, int64_t rows, int64_t N, T* packed) {
  const bool reads_columns = kReadsParts || N % kNR<T> == 0;
  if (reads_columns && !rows_collide<T>(from_row)) return {from, from_row, kNR<T>};
  for (int64_t n = 0; n < N; n += kNR<T>) {
    StridedB<T>{from, from_row, 1}.pack(0, rows, n, smaller(kNR<T>, N - n), packed + n * rows);
  }
  return {packed, kNR<T>, rows * kNR<T>};
}

// The transpose, times a factor: to[row / kNR][n][kNR].
template <class T>
Rows<T> columns_of(const T* from, int64_t from_row, int64_t rows, int64_t N, T factor, T* to) {
  for (int64_t i = 0; i < rows; i += kNR<T>) {
    StridedB<T>{from, 1, from_row}.pack(0, N, i, smaller(kNR<T>, rows - i), to + i * N);
  }
  for (int64_t i = 0; i < round_up(rows, kNR<T>) * N; i += kNR<T>) {
    store(to + i, load(to + i) * factor);
    store(to + i + kLanes<T>, load(to + i + kLanes<T>) * factor);
  }
  return {to, kNR<T>, N * kNR<T>};
}

// c[i][n] (+)= sum_k a[i * a_row + k * a_col] * b[k][n] for a tile's rows.
template <class T>
void multiply(int64_t rows, int64_t N, int64_t K, const T* a, int64_t a_row, int64_t a_col,
              Rows<T> b, T* c, int64_t c_row, bool accumulate) {
  for (int64_t n = 0; n < N; n += kNR<T>, b.data += b.strip) {
    tile<T, false>(rows, smaller(kNR<T>, N - n), K, a, a_row, a_col, b.data, b.row, c + n, c_row,
                   accumulate);
  }
}

// `keys` keys of a head, transposed.
template <class T>
Rows<T> key_columns(const Head<T>& head, int64_t j0, int64_t keys, T* packed) {
  const AttentionArgs<T>& p = head.p;
  return columns_of(p.k + head.k_at(j0), p.G * p.D, keys, p.D, p.scale * kLog2E<T>, packed);
}

// One flag a lane of Vec<T>.
template <class T>
struct FlagsOf {
  typedef signed char type __attribute__((vector_size(kLanes<T>)));
};

// v = the values `step` apart, 0 from `lanes` on.
template <class V, class X>
void gather(const X* from, int64_t step, int64_t lanes, V& v) {
  v = V{};
  if (step == 1 && lanes == sizeof(V) / sizeof(X)) {
    std::memcpy(&v, from, sizeof v);
  } else {
    for (int64_t i = 0; i < lanes; ++i) v[i] = from[i * step];
  }
}

// s[j] = value for begin <= j < end
template <class T>
void fill(T* s, int64_t begin, int64_t end, T value) {
  if (begin >= end) return;
  for_lanes<T>(end - begin, [&](int64_t j, int64_t lanes) {
    store_lanes<T>(s + begin + j, broadcast(value), lanes);
  });
}

// Hides from one query what bias, mask and causality hide among keys [j0, j0 + seen).
template <class T>
void adjust(const Head<T>& head, int64_t t, int64_t j0, int64_t seen, T* s) {
  const AttentionArgs<T>& p = head.p;
  if (p.bias) {
    const int64_t* stride = p.bias_stride;
    const T* bias = p.bias + head.b * stride[0] + head.h * stride[1] + t * stride[2];
    for_lanes<T>(seen, [&](int64_t j, int64_t lanes) {
      Vec<T> x;
      gather(bias + (j0 + j) * stride[3], stride[3], lanes, x);
      x = x * kLog2E<T> + load(s + j);
      store(s + j, x < kHidden<T> ? broadcast(kHidden<T>) : x);
    });
  }
  if (p.mask) {
    const int64_t* stride = p.mask_stride;
    const bool* mask = p.mask + head.b * stride[0] + head.h * stride[1] + t * stride[2];
    for_lanes<T>(seen, [&](int64_t j, int64_t lanes) {
      typename FlagsOf<T>::type flags;
      gather(mask + (j0 + j) * stride[3], stride[3], lanes, flags);
      const auto shown = __builtin_convertvector(flags, Vec<Int<T>>) != 0;
      store(s + j, shown ? load(s + j) : broadcast(kHidden<T>));
    });
  }
  if (p.causal) fill(s, t < j0 ? 0 : t - j0 + 1, seen, kHidden<T>);
}

// s[query][key] for keys [j0, j0 + seen), -inf up to a whole register. k: as of key_columns.
template <class T>
void logits(const Head<T>& head, int64_t t0, int64_t rows, int64_t j0, int64_t seen, Rows<T> k,
            T* s) {
  const AttentionArgs<T>& p = head.p;
  const int64_t cols = round_up(seen, kLanes<T>);
  multiply(rows, cols, p.D, p.q + head.q_at(t0), p.H * p.D, 1, k, s, kKeys, false);
  for (int64_t t = 0; t < rows; ++t, s += kKeys) {
    adjust(head, t0 + t, j0, seen, s);
    fill(s, seen, cols, -T(__builtin_inf()));
  }
}

// factor[j] = keep / (1 - rate) for one query and keys from j0 on.
template <class T>
void dropout_row(const Head<T>& head, int64_t t, int64_t j0, int64_t cols, T* factor) {
  const AttentionArgs<T>& p = head.p;
  const Philox philox(p.key);
  const int64_t word = head.row(t) * round_up(p.S, 64) + j0;
  std::uint32_t words[Philox::kWords];
  for (int64_t n = 0; n < cols; n += Philox::kWords) {
    philox(static_cast<std::uint64_t>(word + n) / 4).store_words(words);
    for (int j = 0; j < Philox::kWords; ++j) {
      factor[n + j] = words[j] >> 1 >= p.threshold ? p.kept : T(0);
    }
  }
}

// ---- forward ---------------------------------------------------------------------------------

// The largest logits of a query lane by lane.
template <class T>
Vec<T> largest_logits(int64_t cols, const T* s) {
  Vec<T> most = broadcast(-kLargest<T>);
  for (int64_t j = 0; j < cols; j += kLanes<T>) {
    const Vec<T> x = load(s + j);
    most = most < x ? x : most;  // a NaN is not lost: its power goes to the sum
  }
  return most;
}

// Lane i: what row(i) gives, for i < lanes, combined over its lanes.
template <class T, class Row, class Combine = Plus>
Vec<T> fold_each(int64_t lanes, const Row& row, const Combine& combine = {}) {
  Vec<T> rows[kLanes<T>] = {};
  for (int64_t i = 0; i < lanes; ++i) rows[i] = row(i);
  return fold_rows<T>(rows, combine);
}

// s = 2^(s - largest); their sum lane by lane.
template <class T>
Vec<T> exponentials(int64_t cols, T* s, T largest) {
  Vec<T> total = {};
  for (int64_t j = 0; j < cols; j += kLanes<T>) {
    const Vec<T> e = exp2_normal<T>(load(s + j) - largest);
    store(s + j, e);
    total += e;
  }
  return total;
}

// A block of queries of one head.
template <class T>
struct Forward {
  static constexpr int64_t kMaxQueries = 40 * kMR;

  Head<T> head;
  const AttentionArgs<T>& p;
  int64_t begin, end;
  T *k_packed, *v_packed, *s, *m, *l;
  Rows<T> k, v;  // of a tile, k transposed

  Forward(const AttentionArgs<T>& args, int64_t b, int64_t h, int64_t first, int64_t last)
      : head(args, b, h), p(args), begin(first), end(last) {
    k_packed = static_cast<T*>(scratch());
    v_packed = k_packed + kKeys * p.D;
    s = v_packed + kKeys * round_up(p.E, kNR<T>);
    m = s + kMR * kKeys;
    l = m + kMaxQueries;
  }

  void run() {
    for (int64_t t = 0; t < end - begin; ++t) m[t] = -kLargest<T>;
    for (int64_t t = 0; t < (end - begin) * kLanes<T>; ++t) l[t] = T(0);
    for (int64_t j0 = 0; j0 < p.S; j0 += kKeys) {
      const int64_t keys = smaller(kKeys, p.S - j0);
      if (seen(begin, end, j0, keys) == 0) break;
      k = key_columns(head, j0, keys, k_packed);
      v = rows_of(p.v + head.v_at(j0), p.G * p.E, keys, p.E, v_packed);
      for (int64_t t = begin; t < end; t += kMR) queries(t, smaller(kMR, end - t), j0, keys);
    }
    finish();
  }

  // How many of the keys queries [t0, t1) may need. A query that has been blind so far may turn out
  // to weigh all alike: then it needs even those that causality hides.
  int64_t seen(int64_t t0, int64_t t1, int64_t j0, int64_t keys) const {
    if (!p.causal || t1 >= j0 + keys) return keys;
    bool may_be_blind = false;
    for (int64_t t = t0; t < t1 && (p.mask || p.bias); ++t) may_be_blind |= is_blind(m[t - begin]);
    return may_be_blind ? keys : t1 > j0 ? t1 - j0 : 0;
  }

  void queries(int64_t t0, int64_t rows, int64_t j0, int64_t keys) {
    const int64_t n = seen(t0, t0 + rows, j0, keys), cols = round_up(n, kLanes<T>);
    if (n == 0) return;
    T* m_0 = m + t0 - begin;
    T* l_0 = l + (t0 - begin) * kLanes<T>;
    logits(head, t0, rows, j0, n, k, s);
    T shrink[kMR + kLanes<T>];
    for_lanes<T>(rows, [&](int64_t t, int64_t lanes) {
      const auto row = [&](int64_t i) { return largest_logits(cols, s + (t + i) * kKeys); };
      const auto larger = [](Vec<T> a, Vec<T> b) { return a < b ? b : a; };
      const Vec<T> before = load_lanes(m_0 + t, lanes);
      const Vec<T> largest = larger(before, fold_each<T>(lanes, row, larger));
      store(shrink + t, exp2_normal<T>(before - largest));
      store_lanes<T>(m_0 + t, largest, lanes);
    });
    for (int64_t t = 0; t < rows; ++t) {
      T* l_t = l_0 + t * kLanes<T>;
      store(l_t, load(l_t) * shrink[t] + exponentials(cols, s + t * kKeys, m_0[t]));
    }
    for (int64_t t = 0; t < rows && j0 > 0; ++t) scale_row(p.y + head.y_at(t0 + t), shrink[t]);
    for (int64_t t = 0; t < rows && p.key; ++t) {
      T factor[kKeys];
      dropout_row(head, t0 + t, j0, cols, factor);
      for (int64_t j = 0; j < cols; ++j) s[t * kKeys + j] *= factor[j];
    }
    multiply(rows, p.E, n, s, kKeys, 1, v, p.y + head.y_at(t0), p.H * p.E, j0 > 0);
  }

  void finish() {
    const int64_t count = end - begin;
    T* r = p.r + head.row(begin);
    for_lanes<T>(count, [&](int64_t t, int64_t lanes) {
      const auto row = [&](int64_t i) { return load(l + (t + i) * kLanes<T>); };
      store_lanes<T>(r + t, T(1) / fold_each<T>(lanes, row), lanes);
    });
    for (int64_t t = 0; t < count; ++t) {
      T* y = p.y + head.y_at(begin + t);
      if (p.S > 0) {
        scale_row(y, r[t]);
      } else {
        for (int64_t e = 0; e < p.E; ++e) y[e] = T(0);
      }
    }
    std::memcpy(p.m + head.row(begin), m, static_cast<std::size_t>(count) * sizeof(T));
  }

  void scale_row(T* y, T factor) {
    for_lanes<T>(p.E, [&](int64_t e, int64_t lanes) {
      store_lanes<T>(y + e, load_lanes(y + e, lanes) * factor, lanes);
    });
  }
};

template <class T>
void forward(const AttentionArgs<T>& p) {
  // Long blocks, for a tile of keys is packed once a block; but about 16 of them at least
  const int64_t heads = p.B * p.H, wanted = heads ? (heads + 15) / heads : 1;
  const int64_t longest = smaller(round_up(p.T_ / wanted + 1, 4 * kMR), Forward<T>::kMaxQueries);
  const int64_t blocks = (p.T_ + longest - 1) / longest;
  const int64_t work = smaller(longest, p.T_) * p.S * (p.D + p.E);
  parallel_ranges(heads * blocks, 1 + (int64_t{1} << 19) / (work + 1),
                  [&](int64_t first, int64_t last) {
                    for (int64_t i = first; i < last; ++i) {
                      const int64_t bh = i / blocks, t = i % blocks * longest;
                      Forward<T>(p, bh / p.H, bh % p.H, t, smaller(t + longest, p.T_)).run();
                    }
                  });
}

// ---- backward --------------------------------------------------------------------------------

// Keys [j0, j1) of one group and all its queries. dq: of p.dq's shape; rows are added to.
template <class T>
struct Backward {
  static constexpr int64_t kQueries = 56 / kMR * kMR;

  const AttentionArgs<T>& p;
  const T* delta;
  T* dq;
  T *packed[5], *s, *ds;
  Rows<T> k_columns, v_columns, k_rows;  // of a tile of keys

  Backward(const AttentionArgs<T>& args, const T* delta_, T* dq_)
      : p(args), delta(delta_), dq(dq_) {
    const int64_t D = round_up(p.D, kNR<T>), E = round_up(p.E, kNR<T>);
    const int64_t sizes[5] = {kKeys * p.D, kKeys * p.E, kKeys * D, kQueries * D, kQueries * E};
    s = static_cast<T*>(scratch());
    for (int i = 0; i < 5; s += sizes[i++]) packed[i] = s;
    ds = s + kQueries * kKeys;
  }

  void run(int64_t b, int64_t g, int64_t j0, int64_t j1) {
    const int64_t heads = p.H / p.G;
    const Head<T> first(p, b, g * heads);
    for (int64_t t = 0; t < p.T_; ++t) {
      for (int64_t i = 0; i < heads * p.D; ++i) dq[first.q_at(t) + i] = T(0);
    }
    for (int64_t j = j0; j < j1; j += kKeys) {
      const int64_t keys = smaller(kKeys, j1 - j);
      k_columns = key_columns(first, j, keys, packed[0]);
      v_columns = columns_of(p.v + first.v_at(j), p.G * p.E, keys, p.E, T(1), packed[1]);
      k_rows = rows_of(p.k + first.k_at(j), p.G * p.D, keys, p.D, packed[2]);
      for (int64_t i = j; i < j + keys; ++i) {
        for (int64_t d = 0; d < p.D; ++d) p.dk[first.k_at(i) + d] = T(0);
        for (int64_t e = 0; e < p.E; ++e) p.dv[first.v_at(i) + e] = T(0);
      }
      for (int64_t h = 0; h < heads; ++h) {
        const Head<T> head(p, b, g * heads + h);
        for (int64_t t = 0; t < p.T_; t += kQueries) {
          tile_of(head, t, smaller(kQueries, p.T_ - t), j, keys);
        }
      }
    }
  }

  void tile_of(const Head<T>& head, int64_t t0, int64_t queries, int64_t j0, int64_t keys) {
    bool causal = p.causal;  // a blind query weighs even what causality hides
    for (int64_t t = t0; t < t0 + queries; ++t) causal &= !is_blind(p.m[head.row(t)]);
    if (causal && t0 + queries <= j0) return;
    const Rows<T> q = rows_of(p.q + head.q_at(t0), p.H * p.D, queries, p.D, packed[3]),
                  dy = rows_of(p.dy + head.y_at(t0), p.H * p.E, queries, p.E, packed[4]);
    for (int64_t t = 0; t < queries; t += kMR) {
      const int64_t rows = smaller(kMR, queries - t), past = t0 + t + rows - j0;
      const int64_t seen = !causal ? keys : past < 0 ? 0 : smaller(past, keys);
      if (seen > 0) row_tile(head, t0 + t, rows, j0, seen, keys, s + t * kKeys, ds + t * kKeys);
    }
    for (int64_t i = 0; i < keys; i += kMR) {
      const int64_t rows = smaller(kMR, keys - i);
      const int64_t t = causal && j0 + i > t0 ? j0 + i - t0 : 0;  // the first query to see key i
      if (t >= queries) break;
      multiply(rows, p.D, queries - t, ds + t * kKeys + i, 1, kKeys, q.from(t),
               p.dk + head.k_at(j0 + i), p.G * p.D, true);
      multiply(rows, p.E, queries - t, s + t * kKeys + i, 1, kKeys, dy.from(t),
               p.dv + head.v_at(j0 + i), p.G * p.E, true);
    }
  }

  // s = p * keep / (1 - rate) and ds for a few queries, and what they add to dq.
  void row_tile(const Head<T>& head, int64_t t0, int64_t rows, int64_t j0, int64_t seen,
                int64_t keys, T* s_0, T* ds_0) {
    logits(head, t0, rows, j0, seen, k_columns, s_0);
    multiply(rows, round_up(seen, kLanes<T>), p.E, p.dy + head.y_at(t0), p.H * p.E, 1, v_columns,
             ds_0, kKeys, false);  // dp = dy v^T
    for (int64_t t = 0; t < rows; ++t) {
      softmax_row(head, t0 + t, j0, seen, keys, s_0 + t * kKeys, ds_0 + t * kKeys);
    }
    multiply(rows, p.D, seen, ds_0, kKeys, 1, k_rows, dq + head.q_at(t0), p.H * p.D, true);
  }

  // s: logits -> p * keep / (1 - rate);  ds: dp -> scale * ds. Both 0 for keys past `seen`.
  void softmax_row(const Head<T>& head, int64_t t, int64_t j0, int64_t seen, int64_t keys, T* s_t,
                   T* ds_t) {
    const int64_t cols = round_up(seen, kLanes<T>), row = head.row(t);
    const T m = p.m[row], r = p.r[row], delta_t = delta[row];
    const bool blind = is_blind(m);
    T factor[kKeys];
    if (p.key) dropout_row(head, t, j0, cols, factor);
    for (int64_t j = 0; j < cols; j += kLanes<T>) {
      const Vec<T> keep = p.key ? load(factor + j) : broadcast(T(1));
      const Vec<T> weight = exp2_normal<T>(load(s_t + j) - m) * r;
      const Vec<T> d = blind ? Vec<T>{} : weight * (load(ds_t + j) * keep - delta_t);
      store(ds_t + j, d);
      store(s_t + j, weight * keep);
    }
    for (int64_t j = 0; j < seen && p.ds; ++j) p.ds[row * p.S + j0 + j] = ds_t[j];
    for (int64_t j = 0; j < cols; j += kLanes<T>) store(ds_t + j, load(ds_t + j) * p.scale);
    for (int64_t j = cols; j < keys; ++j) s_t[j] = ds_t[j] = T(0);
  }
};

// Few groups: each one's keys are split in ranges, and every range but the first has a dq of its
// own.
template <class T>
int64_t key_ranges(const AttentionArgs<T>& p) {
  const int64_t groups = p.B * p.G, work = p.H * p.T_ * p.S * (p.D + p.E) * p.B;
  if (groups == 0 || groups >= 8 || work < int64_t{1} << 20) return 1;
  const int64_t tiles = (p.S + kKeys - 1) / kKeys;
  return tiles == 0 ? 1 : smaller(8 / groups, tiles);
}

template <class T>
int64_t workspace_size(const AttentionArgs<T>& p) {
  return p.B * p.H * p.T_ * (1 + (key_ranges(p) - 1) * p.D);
}

template <class T>
void make_delta(const AttentionArgs<T>& p, T* delta) {
  parallel_ranges(p.B * p.T_, 1 + (int64_t{1} << 16) / (p.H * p.E + 1),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin * p.H; i < end * p.H; ++i) {
                      const T *y = p.y + i * p.E, *dy = p.dy + i * p.E;
                      Vec<T> total = {};
                      for_lanes<T>(p.E, [&](int64_t e, int64_t lanes) {
                        total += load_lanes(y + e, lanes) * load_lanes(dy + e, lanes);
                      });
                      const int64_t h = i % p.H, t = i / p.H % p.T_, b = i / p.H / p.T_;
                      delta[(b * p.H + h) * p.T_ + t] = sum<T>(total);
                    }
                  });
}

template <class T>
void backward(const AttentionArgs<T>& p) {
  T *delta = p.workspace, *parts = delta + p.B * p.H * p.T_;
  const int64_t groups = p.B * p.G, ranges = key_ranges(p), size = p.B * p.T_ * p.H * p.D;
  make_delta(p, delta);
  // The causal tiles that are skipped have a gradient of 0.
  if (p.ds && p.causal) {
    parallel_ranges(p.B * p.H * p.T_, 1 + (int64_t{1} << 16) / (p.S + 1),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin * p.S; i < end * p.S; ++i) p.ds[i] = T(0);
                    });
  }
  const int64_t tiles = (p.S + kKeys - 1) / kKeys, length = (tiles + ranges - 1) / ranges * kKeys;
  const int64_t work = p.H / p.G * p.T_ * p.S * (p.D + p.E) / ranges;
  parallel_ranges(
      groups * ranges, 1 + (int64_t{1} << 18) / (work + 1), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t bg = i / ranges, r = i % ranges;
          T* dq = r == 0 ? p.dq : parts + (r - 1) * size;
          Backward<T>(p, delta, dq)
              .run(bg / p.G, bg % p.G, smaller(r * length, p.S), smaller((r + 1) * length, p.S));
        }
      });
  if (ranges == 1) return;
  parallel_ranges(size, int64_t{1} << 15, [&](int64_t begin, int64_t end) {
    for (int64_t r = 1; r < ranges; ++r) {
      const T* part = parts + (r - 1) * size;
      for (int64_t i = begin; i < end; ++i) p.dq[i] += part[i];
    }
  });
}

// What fits into the scratch of Backward.
template <class T>
int64_t largest_head() {
  constexpr int64_t kQueries = Backward<T>::kQueries;
  const int64_t room = static_cast<int64_t>(kScratchBytes / sizeof(T)) - 2 * kKeys * kQueries;
  return room / (3 * kKeys + 2 * kQueries) / kNR<T> * kNR<T>;
}

template <class T>
constexpr Attention<T> kTable = {largest_head<T>, forward<T>, workspace_size<T>, backward<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Attention<float>& implementation<Attention<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Attention<double>& implementation<Attention<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}

}  // namespace narae
