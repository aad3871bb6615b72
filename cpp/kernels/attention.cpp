#include "kernels/attention.h"

#include "core/isa.h"
#include "core/philox.h"
#include "core/vecmath.h"
#include "kernels/gemm_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

using std::int64_t;

// Tiles are kept transposed, s[key][query]: vectors run over queries, so that maxima and sums over
// keys need no shuffles, and K and V are read as they lie, one value for all lanes.
constexpr int64_t kQueries = 64, kKeys = 64;
static_assert(kQueries % kNR<float> == 0);

// The logit of a key that may not be seen: finite, so that a row of nothing else gives equal
// weights.
template <class T>
constexpr T kHidden =
    sizeof(T) == 4 ? T(-0.7 * 3.4028234663852886e38) : T(-0.7 * 1.7976931348623157e308);

template <class T>
bool is_blind(T largest_logit) {
  return largest_logit <= kHidden<T> / 2;
}

// A block of queries of one head, and where its tensors begin.
template <class T>
struct Block {
  const AttentionArgs<T>& p;
  int64_t b, h, g, t0, queries;

  Block(const AttentionArgs<T>& args, int64_t batch, int64_t head, int64_t first)
      : p(args),
        b(batch),
        h(head),
        g(head / (args.H / args.G)),
        t0(first),
        queries(smaller(kQueries, args.T_ - first)) {}

  int64_t cols() const { return round_up(queries, kLanes<T>); }
  int64_t q_at(int64_t t) const { return ((b * p.T_ + t0 + t) * p.H + h) * p.D; }
  int64_t y_at(int64_t t) const { return ((b * p.T_ + t0 + t) * p.H + h) * p.E; }
  int64_t row(int64_t t) const { return (b * p.H + h) * p.T_ + t0 + t; }
  int64_t k_at(int64_t j) const { return ((b * p.S + j) * p.G + g) * p.D; }
  int64_t v_at(int64_t j) const { return ((b * p.S + j) * p.G + g) * p.E; }
  // No query of the block sees key j or a later one.
  bool is_past(int64_t j) const { return p.causal && j > t0 + queries - 1; }
};

// to[d * kNR + t], strip by strip of queries, lanes past the end 0.
template <class T>
void pack_queries(const T* from, int64_t row, int64_t depth, int64_t queries, T factor, T* to) {
  for (int64_t n = 0; n < queries; n += kNR<T>, to += depth * kNR<T>) {
    const int64_t lanes = smaller(kNR<T>, queries - n);
    for (int64_t t = 0; t < kNR<T>; ++t) {
      const T* from_t = from + (n + t) * row;
      for (int64_t d = 0; d < depth; ++d)
        to[d * kNR<T> + t] = t < lanes ? factor * from_t[d] : T(0);
    }
  }
}

template <class T>
void copy_rows(const T* from, int64_t row, int64_t rows, int64_t n, T* to) {
  for (int64_t i = 0; i < rows; ++i, from += row, to += n) {
    for_lanes<T>(n, [&](int64_t j, int64_t lanes) {
      store_lanes<T>(to + j, load_lanes(from + j, lanes), lanes);
    });
  }
}

// c[i][t] (+)= sum_k a[i * a_row + k * a_col] * b[k][t] for a tile's queries t; `strip`: from one
// strip of b to the next.
template <class T>
void multiply(int64_t rows, int64_t cols, int64_t K, const T* a, int64_t a_row, int64_t a_col,
              const T* b, int64_t b_row, int64_t strip, T* c, bool accumulate) {
  for (int64_t n = 0; n < cols; n += kNR<T>) {
    for (int64_t i = 0; i < rows; i += kMR) {
      tile<T, false>(smaller(kMR, rows - i), smaller(kNR<T>, cols - n), K, a + i * a_row, a_row,
                     a_col, b + n / kNR<T> * strip, b_row, c + i * kQueries + n, kQueries,
                     accumulate);
    }
  }
}

// s[key][query] for keys [j0, j0 + keys), with bias, mask and causality.
template <class T>
void logits(const Block<T>& block, int64_t j0, int64_t keys, const T* k, const T* q, T* s) {
  const AttentionArgs<T>& p = block.p;
  const int64_t cols = block.cols(), queries = block.queries;
  multiply(keys, cols, p.D, k, p.D, 1, q, kNR<T>, p.D * kNR<T>, s, false);
  for (int64_t i = 0; i < keys && p.bias; ++i) {
    const int64_t* stride = p.bias_stride;
    const T* bias = p.bias + block.b * stride[0] + block.h * stride[1] + block.t0 * stride[2] +
                    (j0 + i) * stride[3];
    T* s_i = s + i * kQueries;
    for (int64_t t = 0; t < queries; ++t) {
      const T x = s_i[t] + bias[t * stride[2]];
      s_i[t] = x < kHidden<T> ? kHidden<T> : x;
    }
  }
  for (int64_t i = 0; i < keys && p.mask; ++i) {
    const int64_t* stride = p.mask_stride;
    const bool* seen = p.mask + block.b * stride[0] + block.h * stride[1] + block.t0 * stride[2] +
                       (j0 + i) * stride[3];
    T* s_i = s + i * kQueries;
    if (stride[2] == 0) {
      for (int64_t t = 0; t < cols && !*seen; ++t) s_i[t] = kHidden<T>;
    } else {
      for (int64_t t = 0; t < queries; ++t) s_i[t] = seen[t * stride[2]] ? s_i[t] : kHidden<T>;
    }
  }
  for (int64_t i = 0; i < keys && p.causal; ++i) {
    const int64_t hidden = smaller(j0 + i - block.t0, cols);
    for (int64_t t = 0; t < hidden; ++t) s[i * kQueries + t] = kHidden<T>;
  }
}

// factor[t] = keep / (1 - rate) for one key and the block's queries.
template <class T>
void dropout_row(const Block<T>& block, int64_t j, T* factor) {
  const AttentionArgs<T>& p = block.p;
  const Philox philox(p.key);
  const int64_t word = ((block.b * p.H + block.h) * p.S + j) * round_up(p.T_, kQueries) + block.t0;
  std::uint32_t words[Philox::kWords];
  for (int64_t n = 0; n < block.cols(); n += Philox::kWords) {
    philox(static_cast<std::uint64_t>(word + n) / 4).store_words(words);
    for (int t = 0; t < Philox::kWords; ++t) {
      factor[n + t] = words[t] >> 1 >= p.threshold ? p.kept : T(0);
    }
  }
}
static_assert(kQueries % Philox::kWords == 0);

// One block of keys: m, l and acc (E x queries) as if the softmax had ended here.
template <class T>
void online_softmax(const Block<T>& block, int64_t j0, int64_t keys, T* s, T* m, T* l, T* acc) {
  const AttentionArgs<T>& p = block.p;
  for (int64_t n = 0; n < block.cols(); n += kLanes<T>) {
    const Vec<T> m_old = load(m + n);
    Vec<T> m_new = m_old, total = {};
    for (int64_t i = 0; i < keys; ++i) m_new = max<T>(m_new, load(s + i * kQueries + n));
    for (int64_t i = 0; i < keys; ++i) {
      const Vec<T> e = exp<T>(load(s + i * kQueries + n) - m_new);
      store(s + i * kQueries + n, e);
      total += e;
    }
    const Vec<T> shrink = exp<T>(m_old - m_new);
    store(l + n, load(l + n) * shrink + total);
    store(m + n, m_new);
    for (int64_t e = 0; e < p.E; ++e)
      store(acc + e * kQueries + n, load(acc + e * kQueries + n) * shrink);
  }
  for (int64_t i = 0; i < keys && p.key; ++i) {
    T factor[kQueries];
    dropout_row(block, j0 + i, factor);
    for (int64_t t = 0; t < block.cols(); ++t) s[i * kQueries + t] *= factor[t];
  }
}

template <class T>
void forward_block(const Block<T>& block) {
  const AttentionArgs<T>& p = block.p;
  T* q = static_cast<T*>(scratch());
  T* acc = q + kQueries * p.D;
  T* k = acc + kQueries * p.E;
  T* v = k + kKeys * p.D;
  T* s = v + kKeys * p.E;
  T m[kQueries], l[kQueries];
  const int64_t cols = block.cols();
  pack_queries(p.q + block.q_at(0), p.H * p.D, p.D, block.queries, p.scale, q);
  for (int64_t t = 0; t < kQueries; ++t) m[t] = 2 * (kHidden<T> / T(1.5)), l[t] = T(0);
  for (int64_t i = 0; i < kQueries * p.E; ++i) acc[i] = T(0);
  bool blind = false;
  for (int64_t j0 = 0; j0 < p.S; j0 += kKeys) {
    if (block.is_past(j0)) {
      for (int64_t t = 0; t < block.queries && j0 > 0; ++t) blind |= is_blind(m[t]);
      if (!blind) break;
    }
    const int64_t keys = smaller(kKeys, p.S - j0);
    copy_rows(p.k + block.k_at(j0), p.G * p.D, keys, p.D, k);
    copy_rows(p.v + block.v_at(j0), p.G * p.E, keys, p.E, v);
    logits(block, j0, keys, k, q, s);
    online_softmax(block, j0, keys, s, m, l, acc);
    multiply(p.E, cols, keys, v, 1, p.E, s, kQueries, kNR<T>, acc, true);
  }
  for (int64_t t = 0; t < block.queries; ++t) {
    const T inverse = l[t] > T(0) ? T(1) / l[t] : l[t];  // no keys: 0; NaN stays
    T* y = p.y + block.y_at(t);
    for (int64_t e = 0; e < p.E; ++e) y[e] = acc[e * kQueries + t] * inverse;
  }
  for (int64_t n = 0; n < cols; n += kLanes<T>) store(l + n, load(m + n) + log<T>(load(l + n)));
  for (int64_t t = 0; t < block.queries; ++t) p.lse[block.row(t)] = l[t];
}

template <class T>
void forward(const AttentionArgs<T>& p) {
  const int64_t blocks = (p.T_ + kQueries - 1) / kQueries;
  const int64_t work = smaller(kQueries, p.T_) * p.S * (p.D + p.E);
  parallel_ranges(p.B * p.H * blocks, 1 + (int64_t{1} << 19) / (work + 1),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) {
                      const int64_t h = i / blocks % p.H, b = i / blocks / p.H;
                      forward_block(Block<T>(p, b, h, i % blocks * kQueries));
                    }
                  });
}

// A part of the backward pass: queries of heads [h0, h1) of one group against keys [j0, j1).
template <class T>
struct Backward {
  const AttentionArgs<T>& p;
  bool wants_q, wants_kv;  // dq (and ds), dk and dv
  T *q, *dy, *q_rows, *dy_rows, *dq, *k, *v, *s, *ds;
  T lse[kQueries], delta[kQueries], blind[kQueries];  // blind: 1 or 0

  Backward(const AttentionArgs<T>& args, bool for_q, bool for_kv)
      : p(args), wants_q(for_q), wants_kv(for_kv) {
    q = static_cast<T*>(scratch());
    dy = q + kQueries * p.D;
    q_rows = dy + kQueries * p.E;
    dy_rows = q_rows + kQueries * round_up(p.D, kNR<T>);
    dq = dy_rows + kQueries * round_up(p.E, kNR<T>);
    k = dq + kQueries * p.D;
    v = k + kKeys * p.D;
    s = v + kKeys * p.E;
    ds = s + kKeys * kQueries;
  }

  void run(int64_t b, int64_t h0, int64_t h1, int64_t t0, int64_t t1, int64_t j0, int64_t j1) {
    if (wants_kv) {
      const Block<T> first(p, b, h0, 0);
      for (int64_t j = j0; j < j1; ++j) {
        for (int64_t d = 0; d < p.D; ++d) p.dk[first.k_at(j) + d] = T(0);
        for (int64_t e = 0; e < p.E; ++e) p.dv[first.v_at(j) + e] = T(0);
      }
    }
    for (int64_t h = h0; h < h1; ++h) {
      for (int64_t t = t0; t < t1; t += kQueries) queries(Block<T>(p, b, h, t), j0, j1);
    }
  }

  void queries(const Block<T>& block, int64_t j0, int64_t j1) {
    bool any_blind = false;
    for (int64_t t = 0; t < kQueries; ++t) {
      const bool inside = t < block.queries;
      lse[t] = inside ? p.lse[block.row(t)] : T(0);
      blind[t] = inside && is_blind(lse[t]) ? T(1) : T(0);
      any_blind |= blind[t] != T(0);
    }
    if (block.is_past(j0) && !any_blind && !wants_q) return;
    load_block(block);
    for (int64_t j = j0; j < j1 && !(block.is_past(j) && !any_blind); j += kKeys) {
      keys(block, j, smaller(kKeys, j1 - j));
    }
    for (int64_t t = 0; t < block.queries && wants_q; ++t) {
      T* to = p.dq + block.q_at(t);
      for (int64_t d = 0; d < p.D; ++d) to[d] = dq[d * kQueries + t];
    }
  }

  void load_block(const Block<T>& block) {
    const T *q_0 = p.q + block.q_at(0), *dy_0 = p.dy + block.y_at(0);
    pack_queries(q_0, p.H * p.D, p.D, block.queries, p.scale, q);
    pack_queries(dy_0, p.H * p.E, p.E, block.queries, T(1), dy);
    for (int64_t n = 0; n < p.D && wants_kv; n += kNR<T>) {
      StridedB<T>{q_0, p.H * p.D, 1}.pack(0, block.queries, n, smaller(kNR<T>, p.D - n),
                                          q_rows + n * block.queries);
    }
    for (int64_t n = 0; n < p.E && wants_kv; n += kNR<T>) {
      StridedB<T>{dy_0, p.H * p.E, 1}.pack(0, block.queries, n, smaller(kNR<T>, p.E - n),
                                           dy_rows + n * block.queries);
    }
    for (int64_t t = 0; t < kQueries; ++t) {
      delta[t] = T(0);
      if (t >= block.queries) continue;
      const T *y_t = p.y + block.y_at(t), *dy_t = p.dy + block.y_at(t);
      Vec<T> total = {};
      for_lanes<T>(p.E, [&](int64_t e, int64_t lanes) {
        total += load_lanes(y_t + e, lanes) * load_lanes(dy_t + e, lanes);
      });
      delta[t] = sum<T>(total);
    }
    for (int64_t i = 0; i < kQueries * p.D; ++i) dq[i] = T(0);
  }

  void keys(const Block<T>& block, int64_t j0, int64_t keys) {
    const int64_t cols = block.cols();
    copy_rows(p.k + block.k_at(j0), p.G * p.D, keys, p.D, k);
    copy_rows(p.v + block.v_at(j0), p.G * p.E, keys, p.E, v);
    logits(block, j0, keys, k, q, s);
    multiply(keys, cols, p.E, v, p.E, 1, dy, kNR<T>, p.E * kNR<T>, ds, false);  // dp = dy v^T
    softmax(block, j0, keys);
    if (wants_q) multiply(p.D, cols, keys, k, 1, p.D, ds, kQueries, kNR<T>, dq, true);
    if (!wants_kv) return;
    add_outer(keys, block.queries, p.D, ds, q_rows, p.dk + block.k_at(j0), p.G * p.D);
    add_outer(keys, block.queries, p.E, s, dy_rows, p.dv + block.v_at(j0), p.G * p.E);
  }

  // s: logits -> p * keep / (1 - rate);  ds: dp -> scale * ds
  void softmax(const Block<T>& block, int64_t j0, int64_t keys) {
    T factor[kQueries];
    for (int64_t i = 0; i < keys; ++i) {
      if (p.key) dropout_row(block, j0 + i, factor);
      for (int64_t n = 0; n < block.cols(); n += kLanes<T>) {
        T *s_i = s + i * kQueries + n, *ds_i = ds + i * kQueries + n;
        const Vec<T> is_blind = load(blind + n), sees = T(1) - is_blind;
        const Vec<T> keep = p.key ? load(factor + n) : broadcast(T(1));
        const Vec<T> weight =
            is_blind > T(0) ? broadcast(T(1) / T(p.S)) : exp<T>(load(s_i) - load(lse + n));
        store(ds_i, weight * sees * (load(ds_i) * keep - load(delta + n)));
        store(s_i, weight * keep);
      }
      for (int64_t t = 0; t < block.queries && p.ds && wants_q; ++t) {
        p.ds[block.row(t) * p.S + j0 + i] = ds[i * kQueries + t];
      }
      for (int64_t n = 0; n < block.cols(); n += kLanes<T>) {
        store(ds + i * kQueries + n, load(ds + i * kQueries + n) * p.scale);
      }
    }
  }

  // to[key] += sum over queries of a[key][query] * rows[query]
  void add_outer(int64_t keys, int64_t queries, int64_t n, const T* a, const T* rows, T* to,
                 int64_t to_row) {
    for (int64_t j = 0; j < n; j += kNR<T>) {
      for (int64_t i = 0; i < keys; i += kMR) {
        tile<T, false>(smaller(kMR, keys - i), smaller(kNR<T>, n - j), queries, a + i * kQueries,
                       kQueries, 1, rows + j * queries, kNR<T>, to + i * to_row + j, to_row, true);
      }
    }
  }
};

template <class T>
void backward(const AttentionArgs<T>& p) {
  const int64_t heads = p.H / p.G, groups = p.B * p.G;
  // The causal tiles that are skipped have a gradient of 0.
  if (p.ds && p.causal) {
    parallel_ranges(p.B * p.H * p.T_, 1 + (int64_t{1} << 16) / (p.S + 1),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin * p.S; i < end * p.S; ++i) p.ds[i] = T(0);
                    });
  }
  const int64_t work = heads * p.T_ * p.S * (p.D + p.E);
  if (groups >= 8 || work * groups < int64_t{1} << 20) {
    parallel_ranges(groups, 1 + (int64_t{1} << 18) / (work + 1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t g = i % p.G;
        Backward<T>(p, true, true).run(i / p.G, g * heads, (g + 1) * heads, 0, p.T_, 0, p.S);
      }
    });
    return;
  }
  // Few heads: dq by blocks of queries, then dk and dv by blocks of keys. Sums are in the same
  // order.
  const int64_t t_blocks = (p.T_ + kQueries - 1) / kQueries, j_blocks = (p.S + kKeys - 1) / kKeys;
  parallel_for(p.B * p.H * t_blocks, [&](int64_t i) {
    const int64_t t = i % t_blocks * kQueries, h = i / t_blocks % p.H;
    Backward<T>(p, true, false)
        .run(i / t_blocks / p.H, h, h + 1, t, smaller(t + kQueries, p.T_), 0, p.S);
  });
  parallel_for(groups * j_blocks, [&](int64_t i) {
    const int64_t j = i % j_blocks * kKeys, g = i / j_blocks % p.G;
    Backward<T>(p, false, true)
        .run(i / j_blocks / p.G, g * heads, (g + 1) * heads, 0, p.T_, j, smaller(j + kKeys, p.S));
  });
}

// The scratch of Backward: 7 blocks of one head, two of them of whole registers, and two tiles.
template <class T>
int64_t largest_head() {
  const int64_t room = static_cast<int64_t>(kScratchBytes / sizeof(T)) - 2 * kKeys * kQueries;
  return room / (7 * kQueries) / kNR<T> * kNR<T>;
}

template <class T>
constexpr Attention<T> kTable = {largest_head<T>, forward<T>, backward<T>};

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
