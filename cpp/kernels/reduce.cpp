#include "kernels/reduce.h"

#include <type_traits>

#include "core/isa.h"
#include "core/vecmath.h"
#include "kernels/reduce_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

// Integers are summed and multiplied as unsigned: they wrap.
template <class T>
struct WrapOf {
  using type = T;
};
template <>
struct WrapOf<std::int32_t> {
  using type = std::uint32_t;
};
template <>
struct WrapOf<std::int64_t> {
  using type = std::uint64_t;
};
template <class T>
using Wrap = typename WrapOf<T>::type;

// What is folded: f(x, p), and the x whose f is the identity.
template <class T, class Op>
struct Plain {
  NARAE_INLINE static T fill(T) { return Op::kIdentity; }
  NARAE_INLINE static Vec<T> map(Vec<T> x, Vec<T>) { return x; }
};
template <class T>
struct SquaredDeviation {
  NARAE_INLINE static T fill(T p) { return p; }
  NARAE_INLINE static Vec<T> map(Vec<T> x, Vec<T> p) { return (x - p) * (x - p); }
};
template <class T>
struct Exponential {
  NARAE_INLINE static T fill(T) { return lowest<T>(); }
  NARAE_INLINE static Vec<T> map(Vec<T> x, Vec<T> p) {
    const Vec<T> d = x - p;
    return d > 0 ? d : exp_normal<T>(d);  // only infinity is above the maximum
  }
};

template <class T, class Op, class F>
void fold_around(const T* x, const T* p, T* y, std::int64_t outer, std::int64_t R,
                 std::int64_t inner, T* workspace) {
  const std::int64_t ahead = fetch_distance();
  if (inner == 1) {
    fold_rows<T, Op>(outer, R, y, workspace,
                     [=](std::int64_t o, std::int64_t r, std::int64_t lanes) {
                       const T* x_r = x + o * R + r;
                       fetch_ahead(x_r, ahead);
                       const T p_o = p ? p[o] : T(0);
                       return F::map(load_lanes(x_r, lanes, F::fill(p_o)), broadcast(p_o));
                     });
    return;
  }
  T* const out[1] = {y};
  // Where rows are longer than that, the same place of the row below.
  const auto row = inner * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t below = ahead > 0 && row > ahead ? row : ahead;
  fold_columns<T, Op, 1>(outer, R, inner, out, workspace,
                         [=](std::int64_t o, std::int64_t r, std::int64_t i, std::int64_t lanes) {
                           const T* x_i = x + (o * R + r) * inner + i;
                           fetch_ahead(x_i, below);
                           const Vec<T> p_o = p ? load_lanes(p + o * inner + i, lanes) : Vec<T>{};
                           return Many<T, 1>{{F::map(load_lanes(x_i, lanes), p_o)}};
                         });
}

template <class T, template <class> class Op>
void fold_all(const T* x, T* y, std::int64_t outer, std::int64_t R, std::int64_t inner,
              T* workspace) {
  fold_around<T, Op<T>, Plain<T, Op<T>>>(x, nullptr, y, outer, R, inner, workspace);
}

template <class T, template <class> class Op>
void fold_wrapping(const T* x, T* y, std::int64_t outer, std::int64_t R, std::int64_t inner,
                   T* workspace) {
  using W = Wrap<T>;
  fold_all<W, Op>(reinterpret_cast<const W*>(x), reinterpret_cast<W*>(y), outer, R, inner,
                  reinterpret_cast<W*>(workspace));
}

template <class T>
void mean(const T* x, T* y, std::int64_t outer, std::int64_t R, std::int64_t inner, T* workspace) {
  fold_all<T, Sum>(x, y, outer, R, inner, workspace);
  divide(y, outer * inner, static_cast<T>(R));
}

// body(first o, count): several folds of the same elements. What fits in the cache is folded there:
// the variance of each of 4096 rows takes 1.3 ms instead of 2.4 with a mean of all rows first.
// Nothing that fits is cut in blocks, so no workspace is shared.
template <class Body>
void for_cached(std::int64_t outer, std::int64_t R, std::int64_t inner, const Body& body) {
  if (R * inner > kFoldGrain) return body(std::int64_t{0}, outer);
  parallel_ranges(outer, at_least_one(kFoldGrain / 4 / at_least_one(R * inner)),
                  [&](std::int64_t begin, std::int64_t end) { body(begin, end - begin); });
}

template <class T>
void variance(const T* x, T* m, T* y, std::int64_t outer, std::int64_t R, std::int64_t inner,
              T* workspace) {
  for_cached(outer, R, inner, [=](std::int64_t o, std::int64_t n) {
    const T* x_o = x + o * R * inner;
    T *m_o = m + o * inner, *y_o = y + o * inner;
    mean(x_o, m_o, n, R, inner, workspace);
    fold_around<T, Sum<T>, SquaredDeviation<T>>(x_o, m_o, y_o, n, R, inner, workspace);
    divide(y_o, n * inner, static_cast<T>(R));
  });
}

template <class T>
void logsumexp(const T* x, T* m, T* y, std::int64_t outer, std::int64_t R, std::int64_t inner,
               T* workspace) {
  for_cached(outer, R, inner, [=](std::int64_t o, std::int64_t n) {
    const T* x_o = x + o * R * inner;
    T *m_o = m + o * inner, *y_o = y + o * inner;
    fold_all<T, Max>(x_o, m_o, n, R, inner, workspace);
    for (std::int64_t i = 0; i < n * inner; ++i) m_o[i] = m_o[i] - m_o[i] == T(0) ? m_o[i] : T(0);
    fold_around<T, Sum<T>, Exponential<T>>(x_o, m_o, y_o, n, R, inner, workspace);
    parallel_ranges(n * inner, kFoldGrain / 16, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        y_o[i] = m_o[i] + static_cast<T>(__builtin_log(static_cast<double>(y_o[i])));
    });
  });
}

template <class T>
std::int64_t workspace_size(std::int64_t outer, std::int64_t R, std::int64_t inner) {
  return inner == 1 ? fold_rows_workspace(outer, R) : fold_columns_workspace(outer, R, inner);
}

// ---- sequences along r -----------------------------------------------------------------------

// One sequence, or a register of neighbouring ones: get(p, r), set(p, r, value).
template <class T>
struct OneAt {
  std::int64_t offset;
  T get(const T* p, std::int64_t r) const { return p[offset + r]; }
  void set(T* p, std::int64_t r, T value) const { p[offset + r] = value; }
};
template <class T>
struct LanesAt {
  std::int64_t offset, stride, lanes;
  Vec<T> get(const T* p, std::int64_t r) const {
    return load_lanes(p + offset + r * stride, lanes);
  }
  void set(T* p, std::int64_t r, Vec<T> value) const {
    store_lanes(p + offset + r * stride, value, lanes);
  }
};

// body(along, across): `along` walks R elements, `across` is at (o, i) of an (outer, inner) array.
template <class T, class Body>
void for_sequences(std::int64_t outer, std::int64_t R, std::int64_t inner, const Body& body) {
  if (inner == 1) {
    parallel_ranges(outer, at_least_one(kFoldGrain / 4 / at_least_one(R)),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t o = begin; o < end; ++o) body(OneAt<T>{o * R}, OneAt<T>{o});
                    });
    return;
  }
  constexpr int kVL = kLanes<T>;
  const std::int64_t strips = blocks_of(inner, kVL);
  parallel_ranges(outer * strips, at_least_one(kFoldGrain / kVL / at_least_one(R)),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t n = begin; n < end; ++n) {
                      const std::int64_t o = n / strips, i = n % strips * kVL;
                      const std::int64_t lanes = inner - i < kVL ? inner - i : kVL;
                      body(LanesAt<T>{o * R * inner + i, inner, lanes},
                           LanesAt<T>{o * inner + i, 0, lanes});
                    }
                  });
}

template <class T, template <class> class Op>
void scan(const T* x_signed, T* y_signed, std::int64_t outer, std::int64_t R, std::int64_t inner,
          bool reverse) {
  using W = Wrap<T>;
  if (R == 0) return;
  const W* x = reinterpret_cast<const W*>(x_signed);
  W* y = reinterpret_cast<W*>(y_signed);
  for_sequences<W>(outer, R, inner, [=](auto along, auto) {
    const std::int64_t first = reverse ? R - 1 : 0, step = reverse ? -1 : 1;
    auto total = along.get(x, first);
    along.set(y, first, total);
    for (std::int64_t n = 1; n < R; ++n) {
      const std::int64_t r = first + n * step;
      total = Op<W>::combine(total, along.get(x, r));
      along.set(y, r, total);
    }
  });
}

template <class T>
bool is_match(T x, T y) {
  return (x == y) | (x != x);
}

// The first match in [r, R): of each lane the first register that has one, then of these the least.
template <class T>
std::int32_t first_lane(const T* x, T y, std::int64_t r, std::int64_t R) {
  if constexpr (sizeof(T) == 1) {  // lanes cannot number the elements
    while (!is_match(x[r], y)) ++r;
    return static_cast<std::int32_t>(r);
  } else {
    Vec<Int<T>> place, first = broadcast(static_cast<Int<T>>(R));
    for (int i = 0; i < kLanes<T>; ++i) place[i] = static_cast<Int<T>>(r) + i;
    for_lanes<T>(R - r, [&](std::int64_t i, std::int64_t lanes) {
      const Vec<T> v = load_lanes(x + r + i, lanes);
      const auto hits = (v == y) | (v != v);  // past R too: these are not the least
      first = (hits & (place < first)) ? place : first;
      place += kLanes<T>;
    });
    return static_cast<std::int32_t>(min_lane<Int<T>>(first));
  }
}

// Sixteen registers at a time, then those that hold the match.
template <class T>
std::int32_t first_match(const T* x, T y, std::int64_t R) {
  using Mask = decltype(Vec<T>{} == Vec<T>{});
  using Lane = std::remove_reference_t<decltype(Mask{}[0])>;
  constexpr int kVL = kLanes<T>, kBlock = 16 * kVL;
  std::int64_t r = 0;
  for (; r + kBlock <= R; r += kBlock) {
    Mask hits = {};
    NARAE_UNROLL
    for (int j = 0; j < 16; ++j) {
      const Vec<T> v = load(x + r + j * kVL);
      hits |= (v == y) | (v != v);
    }
    if (fold_halves<Lane, kVL>(hits, [](auto a, auto b) { return a | b; })) {
      return first_lane(x, y, r, r + kBlock);
    }
  }
  return first_lane(x, y, r, R);
}

// index[i] = the first r with a match in column i of n. From the last row up: the first one stays.
// No branch: compilers vectorize it.
template <class T>
void first_matches(const T* x, const T* y, std::int32_t* index, std::int64_t R, std::int64_t stride,
                   std::int64_t n) {
  for (std::int64_t r = R - 1; r >= 0; --r) {
    for (std::int64_t i = 0; i < n; ++i)
      index[i] = is_match(x[r * stride + i], y[i]) ? static_cast<std::int32_t>(r) : index[i];
  }
}

template <class T>
void find(const T* x, const T* y, std::int32_t* index, std::int64_t outer, std::int64_t R,
          std::int64_t inner) {
  constexpr std::int64_t kColumns = 1024;  // index and y of so many stay in the cache
  const std::int64_t strips = blocks_of(inner, kColumns);
  const std::int64_t width = inner < kColumns ? inner : kColumns;
  parallel_ranges(outer * strips, at_least_one(kFoldGrain / at_least_one(R * width)),
                  [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t k = begin; k < end; ++k) {
                      const std::int64_t o = k / strips, i = k % strips * kColumns;
                      const T *x_o = x + o * R * inner + i, *y_o = y + o * inner + i;
                      std::int32_t* to = index + o * inner + i;
                      if (inner == 1) {
                        *to = first_match(x_o, *y_o, R);
                      } else {
                        const std::int64_t n = kColumns < inner - i ? kColumns : inner - i;
                        first_matches(x_o, y_o, to, R, inner, n);
                      }
                    }
                  });
}

// The extremum of a long row and its place, which is looked for in the first block that has it
// only: 4096 x 4096 numbers take 2.0 instead of 3.2 ms.
constexpr std::int64_t kBlock = 1024;

template <class T, class Op>
void arg_row(const T* x, T* y, std::int32_t* index, std::int64_t R) {
  const std::int64_t ahead = fetch_distance();
  const auto extremum = [=](std::int64_t r) {
    return fold_sequence<T, Op>(kBlock < R - r ? kBlock : R - r,
                                [=](std::int64_t i, std::int64_t lanes) {
                                  fetch_ahead(x + r + i, ahead);
                                  return load_lanes(x + r + i, lanes, Op::kIdentity);
                                });
  };
  T best = extremum(0);
  std::int64_t at = 0;
  for (std::int64_t r = kBlock; r < R && best == best; r += kBlock) {
    const T next = Op::combine(best, extremum(r));
    if (next != best) best = next, at = r;  // a NaN differs too, and is the last one
  }
  *y = best;
  *index =
      static_cast<std::int32_t>(at) + first_match(x + at, best, kBlock < R - at ? kBlock : R - at);
}

template <class T, template <class> class Op>
void arg(const T* x, T* y, std::int32_t* index, std::int64_t outer, std::int64_t R,
         std::int64_t inner, T* workspace) {
  if (inner == 1 && R > kBlock) {
    return parallel_ranges(outer, at_least_one(kFoldGrain / R),
                           [=](std::int64_t begin, std::int64_t end) {
                             for (std::int64_t o = begin; o < end; ++o)
                               arg_row<T, Op<T>>(x + o * R, y + o, index + o, R);
                           });
  }
  for_cached(outer, R, inner, [=](std::int64_t o, std::int64_t n) {
    fold_all<T, Op>(x + o * R * inner, y + o * inner, n, R, inner, workspace);
    find(x + o * R * inner, y + o * inner, index + o * inner, n, R, inner);
  });
}

template <class T>
void expand(const T* dy, T* dx, std::int64_t outer, std::int64_t R, std::int64_t inner, T divisor) {
  if (inner == 1) {  // runs of R equal values
    return parallel_ranges(outer * R, kFoldGrain, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end;) {
        const std::int64_t o = n / R, stop = (o + 1) * R < end ? (o + 1) * R : end;
        for (const T value = dy[o] / divisor; n < stop; ++n) dx[n] = value;
      }
    });
  }
  parallel_ranges(outer * R, at_least_one(kFoldGrain / at_least_one(inner)),
                  [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t n = begin; n < end; ++n) {
                      const T* dy_o = dy + n / R * inner;
                      T* dx_n = dx + n * inner;
                      for (std::int64_t i = 0; i < inner; ++i) dx_n[i] = dy_o[i] / divisor;
                    }
                  });
}

template <class T>
void extremum_backward(const T* dy, const T* y, const T* x, T* dx, std::int64_t outer,
                       std::int64_t R, std::int64_t inner) {
  for_sequences<T>(outer, R, inner, [=](auto along, auto across) {
    auto best = across.get(y, 0);
    decltype(best) zero{}, one = zero + T(1), count = zero;
    for (std::int64_t r = 0; r < R; ++r) count += along.get(x, r) == best ? one : zero;
    // Nothing equals a NaN: then all are 0 / 0.
    const auto share = across.get(dy, 0) / count, none = zero / count;
    for (std::int64_t r = 0; r < R; ++r) along.set(dx, r, along.get(x, r) == best ? share : none);
  });
}

template <class T>
void prod_backward(const T* dy, const T* x, T* dx, std::int64_t outer, std::int64_t R,
                   std::int64_t inner) {
  for_sequences<T>(outer, R, inner, [=](auto along, auto across) {
    auto before = across.get(dy, 0);
    for (std::int64_t r = 0; r < R; ++r) {
      along.set(dx, r, before);
      before = before * along.get(x, r);
    }
    auto after = along.get(x, R - 1);
    for (std::int64_t r = R - 2; r >= 0; --r) {
      along.set(dx, r, along.get(dx, r) * after);
      after = after * along.get(x, r);
    }
  });
}

// dx[r] = before[r] * after[r],  before[r] = product of x[k], k < r,  after[r] = dy[r] + x[r+1] *
// after[r+1]: no division, so zeros are no matter.
template <class T>
void cumprod_backward(const T* dy, const T* x, T* dx, std::int64_t outer, std::int64_t R,
                      std::int64_t inner) {
  if (R == 0) return;
  for_sequences<T>(outer, R, inner, [=](auto along, auto) {
    auto after = along.get(dy, R - 1);
    along.set(dx, R - 1, after);
    for (std::int64_t r = R - 2; r >= 0; --r) {
      after = along.get(dy, r) + along.get(x, r + 1) * after;
      along.set(dx, r, after);
    }
    auto before = along.get(x, 0);
    for (std::int64_t r = 1; r < R; ++r) {
      along.set(dx, r, along.get(dx, r) * before);
      before = before * along.get(x, r);
    }
  });
}

template <class T>
constexpr Reduce<T> kTable = {workspace_size<T>, fold_wrapping<T, Sum>, fold_wrapping<T, Prod>,
                              fold_all<T, Max>,  fold_all<T, Min>,      arg<T, Max>,
                              arg<T, Min>,       scan<T, Sum>,          scan<T, Prod>};

template <class T>
constexpr ReduceFloat<T> kFloatTable = {
    mean<T>,          variance<T>,        logsumexp<T>, expand<T>, extremum_backward<T>,
    prod_backward<T>, cumprod_backward<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Reduce<float>& implementation<Reduce<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Reduce<double>& implementation<Reduce<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}
template <>
const Reduce<std::int32_t>& implementation<Reduce<std::int32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::int32_t>;
}
template <>
const Reduce<std::int64_t>& implementation<Reduce<std::int64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::int64_t>;
}
template <>
const Reduce<std::uint8_t>& implementation<Reduce<std::uint8_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::uint8_t>;
}
template <>
const ReduceFloat<float>& implementation<ReduceFloat<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kFloatTable<float>;
}
template <>
const ReduceFloat<double>& implementation<ReduceFloat<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kFloatTable<double>;
}

}  // namespace narae
