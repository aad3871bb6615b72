// What products, convolutions, attention and recurrent cells share: `tile` multiplies kMR rows of A
// by kNR columns of B with that part of C in registers, and `pack` of a source lays operands out
// for it, in strips without gaps:
//   a.pack(m0, rows, k0, depth, to)   to[k * kMR + m], strip by strip, rows past the end are 0
//   b.pack(k0, depth, n0, cols, to)   to[k * kNR + n] of one strip, columns past the end are 0
// A may also be read where it lies, and B if its rows are contiguous.
#pragma once

#include <type_traits>

#include "core/parallel.h"
#include "core/transpose.h"
#include "core/vec.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>  // compilers differ in the builtins for bfloat16, not in the intrinsics
#endif

namespace narae::NARAE_ISA {

// Two bfloat16 that follow one another along a sum, the first in the lower half.
using Pair = std::int32_t;

// What packed operands of T hold, how many terms of a sum that is, and what sums are kept in.
// bfloat16: pairs where the instruction set multiplies them, else float.
#if defined(__AVX512BF16__)
template <class T>
using Packed = std::conditional_t<std::is_same_v<T, BFloat16>, Pair, T>;
#else
template <class T>
using Packed = Real<T>;
#endif
template <class T>
inline constexpr int kTerms = std::is_same_v<Packed<T>, Pair> ? 2 : 1;
// What a row of adjacent terms holds: T, or float where that is what is multiplied.
template <class T>
using Term = std::conditional_t<kTerms<T> == 2, T, Packed<T>>;
template <class P>
using Sum = std::conditional_t<std::is_same_v<P, Pair>, float, P>;

template <class T>
NARAE_INLINE Vec<T> multiply_add(T a, Vec<T> b, Vec<T> c) {
  return c + a * b;
}
#if defined(__AVX512BF16__)
// c + a.second * b.second + a.first * b.first, with denormal numbers as zeros.
NARAE_INLINE Vec<float> multiply_add(Pair a, Vec<Pair> b, Vec<float> c) {
  return (Vec<float>)_mm512_dpbf16_ps((__m512)c, (__m512bh)broadcast(a), (__m512bh)b);
}
#endif

// Tile of C in registers: kMR x (2 registers). 28 of 32 registers hold it with AVX-512, 12 of 16
// otherwise.
#if defined(__AVX512F__)
inline constexpr int kMR = 14;
#elif defined(__aarch64__)
inline constexpr int kMR = 8;
#else
inline constexpr int kMR = 6;
#endif
template <class T>
inline constexpr int kNR = 2 * kLanes<T>;

// Packed values of `depth` terms.
template <class T>
inline std::int64_t packed_depth(std::int64_t depth) {
  return (depth + kTerms<T> - 1) / kTerms<T>;
}

// Blocks, tuned on Zen 4 and 5 (1 MiB of L2): A block 336 KiB, packed strip of B (kKC x kNR) 64 KiB
// at most.
template <class T>
inline constexpr std::int64_t kKC = sizeof(T) == 4 ? 512 : 256;
inline constexpr std::int64_t kMC = 168;  // a multiple of 14, 8 and 6
static_assert(kMC % kMR == 0);

inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
constexpr std::int64_t round_up(std::int64_t n, std::int64_t step) {
  return (n + step - 1) / step * step;
}

// Of `left` rows, those of the next tile: if the last one had very few, the last two are alike.
inline std::int64_t next_tile(std::int64_t left, std::int64_t most = kMR) {
  return left > most + 3 ? most : left > most ? (left + 1) / 2 : left;
}

// Whether rows so far apart, in elements, all fall into one set of the first cache.
template <class T>
inline bool rows_collide(std::int64_t row) {
  return row * static_cast<std::int64_t>(sizeof(T)) % 4096 == 0;
}

// Cache lines that a tile asks for ahead of time, into L2, where requests do not hold up its own
// loads: one for every term of its sum, `step` bytes apart in a run of kRun terms, runs `next`
// bytes apart. A burst of them before every 64 terms was slower.
inline constexpr int kRun = 16, kLine = 64;

struct Fetch {
  const char* from = nullptr;
  std::int64_t step = 0, next = 0;
};

// Of a line's length from p on, the last byte: if p starts no line, the first one has been fetched
// with what lies before.
inline const char* last_line(const void* p) { return static_cast<const char*>(p) + kLine - 1; }

// One for every term, `row` elements apart.
template <class T>
Fetch terms_ahead(const char* first, std::int64_t row) {
  const std::int64_t step = row * static_cast<std::int64_t>(sizeof(T));
  return {first, step, kRun * step};
}

// Of A and B, for later tiles. Of B every line is a row of a strip.
struct Ahead {
  Fetch a, b;
  bool any() const { return a.from || b.from; }
};

// Whether a tile reads part of a register of B. AVX2 could, but all of its 16 registers are taken:
// the mask would push a sum out to memory.
inline constexpr bool kReadsParts = kVecBytes == 64;

// acc[i][j] += sum_k a[i * a_row + k * a_col] * b[k * b_row + j],  i < MR, j < NV registers, the
// last one with `lanes` columns. a and b are moved past the terms.
template <class T, int MR, int NV, bool kPackedA, bool kFetches, bool kRagged>
NARAE_INLINE void add_terms(std::int64_t K, const T*& a, std::int64_t a_row, std::int64_t a_col,
                            const T*& b, std::int64_t b_row, std::int64_t lanes,
                            Vec<Sum<T>> (&acc)[MR][NV], Ahead ahead = {}) {
  constexpr int kVL = kLanes<T>;
  for (std::int64_t k = 0; k < K; ++k) {
    Vec<T> b_k[NV];
    NARAE_UNROLL
    for (int j = 0; j < NV; ++j) {
      const bool part = kRagged && kReadsParts && j == NV - 1;
      b_k[j] = part ? load_partial(b + j * kVL, lanes) : load(b + j * kVL);
    }
    NARAE_UNROLL
    for (int i = 0; i < MR; ++i) {
      const T a_ik = kPackedA ? a[i] : a[i * a_row];
      NARAE_UNROLL
      for (int j = 0; j < NV; ++j) acc[i][j] = multiply_add(a_ik, b_k[j], acc[i][j]);
    }
    a += kPackedA ? kMR : a_col;
    b += b_row;
    if constexpr (kFetches) {
      __builtin_prefetch(ahead.a.from, 0, 2);
      NARAE_UNROLL
      for (int i = 0; i < NV * kVecBytes; i += kLine) __builtin_prefetch(ahead.b.from + i, 0, 2);
      ahead.a.from += ahead.a.step;
      ahead.b.from += ahead.b.step;
    }
  }
}

// c[i,j] (+)= the same sum (+ bias[j]). Packed A: a_row 1, a_col kMR. C is asked for during the
// first terms, if it has sums already or `ahead` says that the product leaves the caches:
// 1024x384x384 2.77 to 2.67 ms, before the first term it was in the way of A and B. A tile that
// fetches B does without: rows of B left out for it are missed later.
template <class T, int MR, int NV, bool kPackedA, bool kFetches, bool kRagged>
NARAE_FLATTEN void micro_kernel(std::int64_t K, const T* a, std::int64_t a_row, std::int64_t a_col,
                                const T* b, std::int64_t b_row, Sum<T>* c, std::int64_t c_row,
                                bool accumulate, std::int64_t lanes, const Sum<T>* bias,
                                const Ahead* ahead) {
  constexpr int kVL = kLanes<T>;
  Vec<Sum<T>> acc[MR][NV] = {};
  const Fetch rows_of_c = {last_line(c), c_row * static_cast<std::int64_t>(sizeof(Sum<T>)), 0};
  Ahead lines = kFetches ? *ahead : Ahead{};
  if (!lines.a.from) lines.a.from = rows_of_c.from;  // there already: nothing else is wanted
  if (!lines.b.from) lines.b.from = rows_of_c.from;
  std::int64_t k = 0;
  const auto add_run = [&](const Ahead& wanted) {
    add_terms<T, MR, NV, kPackedA, true, kRagged>(smaller(kRun, K - k), a, a_row, a_col, b, b_row,
                                                  lanes, acc, wanted);
    lines.a.from += lines.a.next;
    lines.b.from += lines.b.next;
    k += kRun;
  };
  const bool wants_c = accumulate || (ahead && K >= 2 * kRun);
  if (wants_c && !(kFetches && ahead->b.from)) add_run({lines.a, rows_of_c});
  if constexpr (kFetches) {
    while (k < K) add_run(lines);
  } else if (k < K) {
    add_terms<T, MR, NV, kPackedA, false, kRagged>(K - k, a, a_row, a_col, b, b_row, lanes, acc);
  }

  const auto for_registers = [&](const auto& body) {
    Sum<T>* p = c;
    NARAE_UNROLL
    for (int i = 0; i < MR; ++i, p += c_row) {
      NARAE_UNROLL
      for (int j = 0; j < NV; ++j) body(p + j * kVL, acc[i][j], j);
    }
  };
  const auto load_part = [&](const Sum<T>* p, int j) {
    return kRagged && j == NV - 1 ? load_partial(p, lanes) : load(p);
  };
  if (accumulate) {
    for_registers([&](Sum<T>* p, Vec<Sum<T>>& sum, int j) { sum = load_part(p, j) + sum; });
  }
  if (bias) {
    Vec<Sum<T>> add[NV];
    NARAE_UNROLL
    for (int j = 0; j < NV; ++j) add[j] = load_part(bias + j * kVL, j);
    for_registers([&](Sum<T>*, Vec<Sum<T>>& sum, int j) { sum += add[j]; });
  }
  for_registers([&](Sum<T>* p, Vec<Sum<T>>& sum, int j) {
    if (kRagged && j == NV - 1) {
      store_partial<Sum<T>>(p, sum, lanes);
    } else {
      store(p, sum);
    }
  });
}

// The micro-kernel for any 0 < rows <= kMR and 0 < cols <= kNR. Unless kReadsParts b has whole
// registers to read even past `cols`.
template <class T, bool kPackedA, int MR = kMR>
inline void tile(std::int64_t rows, std::int64_t cols, std::int64_t K, const T* a,
                 std::int64_t a_row, std::int64_t a_col, const T* b, std::int64_t b_row, Sum<T>* c,
                 std::int64_t c_row, bool accumulate, const Sum<T>* bias = nullptr,
                 const Ahead* ahead = nullptr) {
  if constexpr (MR > 1) {
    if (rows < MR) {
      return tile<T, kPackedA, MR - 1>(rows, cols, K, a, a_row, a_col, b, b_row, c, c_row,
                                       accumulate, bias, ahead);
    }
  }
  constexpr int kVL = kLanes<T>;
  const std::int64_t lanes = (cols - 1) % kVL + 1;
  const bool fetches = ahead && ahead->any();
  const auto kernel = cols == kNR<T> ? fetches ? micro_kernel<T, MR, 2, kPackedA, true, false>
                                               : micro_kernel<T, MR, 2, kPackedA, false, false>
                      : cols > kVL   ? micro_kernel<T, MR, 2, kPackedA, false, true>
                      : cols == kVL  ? micro_kernel<T, MR, 1, kPackedA, false, false>
                                     : micro_kernel<T, MR, 1, kPackedA, false, true>;
  kernel(K, a, a_row, a_col, b, b_row, c, c_row, accumulate, lanes, bias, ahead);
}

// Of a matrix with the terms of a sum `step` apart, `left` of them: the packed values of the next
// one or two terms at `lanes` places.
template <class T>
NARAE_INLINE Vec<Packed<T>> load_terms(const T* from, std::int64_t step, std::int64_t left,
                                       std::int64_t lanes) {
  if constexpr (kTerms<T> == 1) {
    return load_lanes(from, lanes);
  } else {  // a bfloat16 is the upper half of a float
    const Vec<float> second = left > 1 ? load_lanes(from + step, lanes) : Vec<float>{};
    return (Vec<Pair>)((Words)load_lanes(from, lanes) >> 16 | (Words)second);
  }
}

// The packed values of `lanes` runs of adjacent terms, the last of which may be half a pair.
template <class T>
NARAE_INLINE Vec<Packed<T>> load_run(const T* from, std::int64_t lanes) {
  if constexpr (kTerms<T> == 1) {
    return load_lanes(from, lanes);
  } else {
    return load_lanes(reinterpret_cast<const Pair*>(from), lanes);
  }
}

// to[k * kWidth + i] = from[i * row + k] for i < count, 0 up to kWidth: squares of registers are
// transposed. Where kWidth is no whole number of registers, the last square of a row is stored
// first and the next row covers what it wrote too much. depth: of whole pairs.
template <class T, int kWidth>
inline void pack_transposed(const T* from, std::int64_t row, std::int64_t depth, std::int64_t count,
                            Packed<T>* to) {
  constexpr int kVL = kLanes<T>, kLast = (kWidth - 1) / kVL * kVL;
  // Into L2, for rows come out of L3 or memory: what follows in a row, or the next rows if short.
  constexpr std::int64_t kAhead = 512 / sizeof(T);
  const std::int64_t ahead = depth * kTerms<T> > kAhead ? kAhead : kWidth * row;
  for (std::int64_t k = 0; k < depth; k += kVL, from += kVL * kTerms<T>, to += kVL * kWidth) {
    const std::int64_t lanes = smaller(kVL, depth - k);
    NARAE_UNROLL
    for (int i0 = kLast; i0 >= 0; i0 -= kVL) {
      Vec<Packed<T>> square[kVL];
      NARAE_UNROLL
      for (int i = 0; i < kVL; ++i) {
        square[i] = Vec<Packed<T>>{};
        if (i0 + i >= count) continue;
        const T* run = from + (i0 + i) * row;
        __builtin_prefetch(run + ahead, 0, 2);
        square[i] = load_run(run, lanes);
      }
      transpose<Packed<T>>(square);
      const std::int64_t width = smaller(kVL, kWidth - i0);
      for (int j = 0; j < lanes; ++j) {
        store_lanes<Packed<T>>(to + j * kWidth + i0, square[j], k + j + 1 < depth ? kVL : width);
      }
    }
  }
}

// A strip of a matrix: to[k * kWidth + i] = from[k * k_step + i * i_step] for i < count, 0 up to
// kWidth; of pairs the terms k and k + 1, the last with a zero if there is no other.
template <class T, int kWidth>
inline void pack_strip(const T* from, std::int64_t k_step, std::int64_t i_step, std::int64_t depth,
                       std::int64_t count, Packed<T>* to) {
  constexpr int kVL = kLanes<T>;
  if (std::is_same_v<Packed<T>, T> && i_step == 1 && count == kWidth) {
    for (std::int64_t k = 0; k < depth; ++k, from += k_step, to += kWidth) {
      std::memcpy(to, from, kWidth * sizeof(T));
    }
    return;
  }
  std::int64_t k = 0;
  if (k_step == 1 && i_step != 1) {
    k = depth - depth % kTerms<T>;
    pack_transposed<T, kWidth>(from, i_step, k / kTerms<T>, count, to);
    from += k, to += k / kTerms<T> * kWidth;
  }
  for (; k < depth; k += kTerms<T>, from += kTerms<T> * k_step, to += kWidth) {
    NARAE_UNROLL
    for (int i = 0; i < kWidth; i += kVL) {
      Vec<Packed<T>> terms = {};
      if (i_step == 1) {
        if (i < count) terms = load_terms(from + i, k_step, depth - k, smaller(kVL, count - i));
      } else {
        for (int j = i; j < smaller(i + kVL, count); ++j) {
          terms[j - i] = load_terms(from + j * i_step, k_step, depth - k, 1)[0];
        }
      }
      store_lanes<Packed<T>>(to + i, terms, smaller(kVL, kWidth - i));
    }
  }
}

// Rounds what is to be multiplied: denormal numbers may become the zeros that products take them
// for.
NARAE_INLINE Halves round_terms(Vec<float> v) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh((__m512)v);
#else
  return round_to_halves(v);
#endif
}
template <class E>
NARAE_INLINE void store_terms(E* to, Vec<E> v) {
  if constexpr (std::is_same_v<E, BFloat16>) {
    const Halves h = round_terms(v);
    std::memcpy(to, &h, sizeof h);
  } else {
    store(to, v);
  }
}

// The first or second term of packed values ...
template <class T>
NARAE_INLINE Vec<Real<T>> term_of(Vec<Packed<T>> values, int term) {
  if constexpr (kTerms<T> == 1) {
    return values;
  } else {
    return (Vec<float>)(term == 0 ? (Words)values << 16 : (Words)values & 0xffff0000);
  }
}
// ... and to = them: the first term of a pair is put before the second.
template <class T>
NARAE_INLINE void put_term(Packed<T>* to, Vec<Real<T>> value, int term) {
  if constexpr (kTerms<T> == 1) {
    store(to, value);
  } else {
    const Words bits = (Words)widen(round_terms(value));
    store(to, (Vec<Pair>)(term == 0 ? bits >> 16 : bits | (Words)load(to)));
  }
}

// A matrix given by strides, as a source of A (strips of kMR rows) ...
template <class T>
struct StridedA {
  const T* data;
  std::int64_t row, col;

  void pack(std::int64_t m0, std::int64_t rows, std::int64_t k0, std::int64_t depth,
            Packed<T>* to) const {
    const T* from = data + m0 * row + k0 * col;
    const std::int64_t packed = packed_depth<T>(depth);
    std::int64_t i = 0;
    // All whole strips together, some terms at a time: cache lines of A are used while they are
    // there, and those of the strips, which may share their sets, are filled one after the other.
    if (std::is_same_v<Packed<T>, T> && row == 1) {
      constexpr std::int64_t kTogether = 16;
      const std::int64_t whole = rows / kMR * kMR;
      for (std::int64_t first = 0; first < depth; first += kTogether) {
        const std::int64_t last = smaller(depth, first + kTogether);
        for (i = 0; i < whole; i += kMR) {
          for (std::int64_t k = first; k < last; ++k)
            std::memcpy(to + i * depth + k * kMR, from + i + k * col, kMR * sizeof(T));
        }
      }
      i = whole;
    }
    for (; i < rows; i += kMR) {
      pack_strip<T, kMR>(from + i * row, col, row, depth, smaller(kMR, rows - i), to + i * packed);
    }
  }
};

// ... and of B (one strip of kNR columns).
template <class T>
struct StridedB {
  const T* data;
  std::int64_t row, col;

  void pack(std::int64_t k0, std::int64_t depth, std::int64_t n0, std::int64_t cols,
            Packed<T>* to) const {
    pack_strip<T, kNR<T>>(data + k0 * row + n0 * col, row, col, depth, cols, to);
  }
};

}  // namespace narae::NARAE_ISA
