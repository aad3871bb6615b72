// Folds (sums, products, maxima ...) in a fixed order, behind reduce, softmax and norm.
//
// Work is cut in blocks by shape alone and blocks are combined pairwise, in order: the same bits
// for any number of threads, and an error that grows with log(n). What is folded is any function
// that gives registers:
//   fold_sequence one sequence: map(i, lanes), lanes past the end must hold the identity
//   fold_rows     y[o]      = fold over r of map(o, r, lanes), lanes along r
//   fold_columns  y[k][o,i] = fold over r of map(o, r, i, lanes).v[k], lanes along i
#pragma once

#include "core/isa.h"
#include "core/parallel.h"
#include "core/vec.h"
#include "core/vecmath.h"

namespace narae::NARAE_ISA {

template <class T>
struct Sum {  // combine takes scalars, registers and parts of registers
  static constexpr T kIdentity = T(0);
  template <class V>
  static V combine(V a, V b) {
    return a + b;
  }
};
template <class T>
struct Prod {
  static constexpr T kIdentity = T(1);
  template <class V>
  static V combine(V a, V b) {
    return a * b;
  }
};

// The ends of T's range, infinities for floats.
template <class T>
constexpr T lowest() {
  if constexpr (T(0.5) != T(0)) {
    return -static_cast<T>(__builtin_inf());
  } else {
    return T(-1) > T(0) ? T(0) : static_cast<T>(T(1) << (8 * sizeof(T) - 1));
  }
}
template <class T>
constexpr T highest() {
  if constexpr (T(0.5) != T(0)) {
    return static_cast<T>(__builtin_inf());
  } else {
    return static_cast<T>(~lowest<T>());
  }
}

template <class T>
struct Max {
  static constexpr T kIdentity = lowest<T>();
  template <class V>
  static V combine(V a, V b) {
    return ((b > a) | (b != b)) ? b : a;  // see vec.h
  }
};
template <class T>
struct Min {
  static constexpr T kIdentity = highest<T>();
  template <class V>
  static V combine(V a, V b) {
    return ((b < a) | (b != b)) ? b : a;
  }
};

inline constexpr std::int64_t kFoldGrain = 32768;  // elements, about 10 us
inline constexpr std::int64_t kPairwiseRows = 64;  // terms of one running sum

inline std::int64_t blocks_of(std::int64_t n, std::int64_t block) {
  return (n + block - 1) / block;
}
inline std::int64_t at_least_one(std::int64_t n) { return n > 1 ? n : 1; }

// Fetches what lies `bytes` ahead of p, fetch_distance() of core/isa.h. Zero asks for what is read
// anyway.
template <class T>
NARAE_INLINE void fetch_ahead(const T* p, std::int64_t bytes) {
  __builtin_prefetch(reinterpret_cast<const char*>(p) + bytes);
}

// ---- one sequence ----------------------------------------------------------------------------

template <class T, int K>
struct Many {
  Vec<T> v[K];
};

template <class T, class Op, int K>
NARAE_INLINE void combine(Many<T, K>& a, const Many<T, K>& b) {
  NARAE_UNROLL
  for (int k = 0; k < K; ++k) a.v[k] = Op::combine(a.v[k], b.v[k]);
}

// K folds at once, of what map(i, lanes).v gives.
template <class T, class Op, int K, class Map>
NARAE_FLATTEN Many<T, K> fold_piece(std::int64_t begin, std::int64_t end, const Map& map) {
  constexpr int kVL = kLanes<T>, kChains = 4;
  Many<T, K> acc[kChains];
  NARAE_UNROLL
  for (int j = 0; j < kChains * K; ++j) acc[j / K].v[j % K] = broadcast(Op::kIdentity);
  std::int64_t i = begin;
  for (; i + kChains * kVL <= end; i += kChains * kVL) {
    NARAE_UNROLL
    for (int j = 0; j < kChains; ++j) combine<T, Op>(acc[j], map(i + j * kVL, std::int64_t{kVL}));
  }
  for (; i + kVL <= end; i += kVL) combine<T, Op>(acc[0], map(i, std::int64_t{kVL}));
  if (i < end) combine<T, Op>(acc[1], map(i, end - i));
  combine<T, Op>(acc[0], acc[1]);
  combine<T, Op>(acc[2], acc[3]);
  combine<T, Op>(acc[0], acc[2]);
  return acc[0];
}

template <class T, class Op, int K, class Map>
inline Many<T, K> fold_lanes(std::int64_t begin, std::int64_t end, const Map& map) {
  constexpr std::int64_t kBlock = kPairwiseRows * 4 * kLanes<T>;
  if (end - begin <= kBlock) return fold_piece<T, Op, K>(begin, end, map);
  const std::int64_t middle = begin + blocks_of((end - begin) / 2, kBlock) * kBlock;
  Many<T, K> all = fold_lanes<T, Op, K>(begin, middle, map);
  combine<T, Op>(all, fold_lanes<T, Op, K>(middle, end, map));
  return all;
}

template <class T, class Op, int K, class Map>
inline void fold_sequences(std::int64_t n, T (&y)[K], const Map& map) {
  // One register is worth its own path: rows of ten classes come by the million.
  const Many<T, K> all = n <= kLanes<T> ? map(std::int64_t{0}, n) : fold_lanes<T, Op, K>(0, n, map);
  NARAE_UNROLL
  for (int k = 0; k < K; ++k) {
    y[k] = fold_halves<T, kLanes<T>>(all.v[k], [](auto a, auto b) { return Op::combine(a, b); });
  }
}

template <class T, class Op, class Map>
inline T fold_sequence(std::int64_t n, const Map& map) {
  T y[1];
  fold_sequences<T, Op, 1>(
      n, y, [&](std::int64_t i, std::int64_t lanes) { return Many<T, 1>{{map(i, lanes)}}; });
  return y[0];
}

template <class T, class Op>
inline Real<T> fold_array(const T* x, std::int64_t n) {
  return fold_sequence<Real<T>, Op>(n, [x](std::int64_t i, std::int64_t lanes) {
    return load_lanes(x + i, lanes, Op::kIdentity);
  });
}

// ---- rows ------------------------------------------------------------------------------------

inline std::int64_t fold_rows_workspace(std::int64_t outer, std::int64_t R) {
  return R > kFoldGrain ? outer * blocks_of(R, kFoldGrain) : 0;
}

template <class T, class Op, class Map>
inline void fold_rows(std::int64_t outer, std::int64_t R, T* y, T* workspace, const Map& map) {
  const auto fold_range = [&](std::int64_t o, std::int64_t r0, std::int64_t r1) {
    return fold_sequence<T, Op>(
        r1 - r0, [&](std::int64_t r, std::int64_t lanes) { return map(o, r0 + r, lanes); });
  };
  // Rows shorter than this are bound by their ends, which wait for one another: four at a time.
  constexpr std::int64_t kShort = 32 * kLanes<T>, kRows = 4;
  if (R <= kFoldGrain) {
    parallel_ranges(outer, at_least_one(kFoldGrain / at_least_one(R)),
                    [&](std::int64_t begin, std::int64_t end) {
                      std::int64_t o = begin;
                      for (; R <= kShort && o + kRows <= end; o += kRows) {
                        T four[kRows];
                        fold_sequences<T, Op, kRows>(
                            R, four, [&](std::int64_t r, std::int64_t lanes) {
                              return Many<T, kRows>{{map(o, r, lanes), map(o + 1, r, lanes),
                                                     map(o + 2, r, lanes), map(o + 3, r, lanes)}};
                            });
                        for (int k = 0; k < kRows; ++k) y[o + k] = four[k];
                      }
                      for (; o < end; ++o) y[o] = fold_range(o, 0, R);
                    });
    return;
  }
  const std::int64_t blocks = blocks_of(R, kFoldGrain);
  parallel_for(outer * blocks, [&](std::int64_t chunk) {
    const std::int64_t begin = chunk % blocks * kFoldGrain, end = begin + kFoldGrain;
    workspace[chunk] = fold_range(chunk / blocks, begin, end < R ? end : R);
  });
  for (std::int64_t o = 0; o < outer; ++o) y[o] = fold_array<T, Op>(workspace + o * blocks, blocks);
}

// ---- columns ---------------------------------------------------------------------------------

// K folds of NV registers side by side, over rows [r0, r1).
template <class T, class Op, int K, int NV, class Map>
inline Many<T, K * NV> fold_strip(std::int64_t r0, std::int64_t r1, std::int64_t i,
                                  std::int64_t lanes, const Map& map) {
  Many<T, K * NV> acc;
  if (r1 - r0 > kPairwiseRows) {
    const std::int64_t middle = r0 + blocks_of((r1 - r0) / 2, kPairwiseRows) * kPairwiseRows;
    acc = fold_strip<T, Op, K, NV>(r0, middle, i, lanes, map);
    const Many<T, K * NV> rest = fold_strip<T, Op, K, NV>(middle, r1, i, lanes, map);
    combine<T, Op>(acc, rest);
    return acc;
  }
  NARAE_UNROLL
  for (int j = 0; j < K * NV; ++j) acc.v[j] = broadcast(Op::kIdentity);
  for (std::int64_t r = r0; r < r1; ++r) {
    NARAE_UNROLL
    for (int j = 0; j < NV; ++j) {
      const Many<T, K> x = map(r, i + j * kLanes<T>, lanes);
      NARAE_UNROLL
      for (int k = 0; k < K; ++k) acc.v[k * NV + j] = Op::combine(acc.v[k * NV + j], x.v[k]);
    }
  }
  return acc;
}

// y[k][i] = fold over r in [r0, r1) of map(r, i, lanes).v[k], strip by strip from i on while NV
// registers of i are left before i1; returns where it stopped.
template <class T, class Op, int K, int NV, class Map>
inline std::int64_t fold_strips(std::int64_t r0, std::int64_t r1, std::int64_t i, std::int64_t i1,
                                T* const (&y)[K], const Map& map) {
  constexpr int kVL = kLanes<T>;
  for (; i + NV * kVL <= i1; i += NV * kVL) {
    const auto total = fold_strip<T, Op, K, NV>(r0, r1, i, kVL, map);
    for (int k = 0; k < K; ++k) {
      for (int j = 0; j < NV; ++j) store(y[k] + i + j * kVL, total.v[k * NV + j]);
    }
  }
  return i;
}

// y[k][i] = y[k][i] folded with rows [r, r + kRows), for i in [i0, i1). `first`: y holds nothing
// yet.
template <class T, class Op, int K, int kRows, class Map>
NARAE_FLATTEN void fold_into(std::int64_t r, std::int64_t i0, std::int64_t i1, bool first,
                             T* const (&y)[K], const Map& map) {
  for_lanes<T>(i1 - i0, [&](std::int64_t n, std::int64_t lanes) {
    Many<T, K> acc;
    NARAE_UNROLL
    for (int k = 0; k < K; ++k)
      acc.v[k] = first ? broadcast(Op::kIdentity) : load_lanes(y[k] + i0 + n, lanes);
    NARAE_UNROLL
    for (int j = 0; j < kRows; ++j) combine<T, Op>(acc, map(r + j, i0 + n, lanes));
    NARAE_UNROLL
    for (int k = 0; k < K; ++k) store_lanes(y[k] + i0 + n, acc.v[k], lanes);
  });
}

// The same for i in [i0, i1), by one thread. Rows that are wider than the registers are read from
// end to end, with the folds in y; where the hardware fetches ahead, long ones eight side by side,
// so that y is read less often and more lines are under way: 4096 x 4096 numbers are summed over
// rows in 2.4 instead of 4.3 ms (Zen 4). Eight short ones would each end before it has guessed what
// comes. Elsewhere `map` fetches the row below, which these would read themselves.
template <class T, class Op, int K, class Map>
inline void fold_block(std::int64_t r0, std::int64_t r1, std::int64_t i0, std::int64_t i1,
                       T* const (&y)[K], const Map& map) {
  constexpr int kVL = kLanes<T>, kWide = kVecBytes == 64 ? 16 : 8;  // half of the registers
  if (i1 - i0 > kWide / K * kVL && r0 < r1 && r1 - r0 <= kPairwiseRows) {
    constexpr std::int64_t kTogether = 8, kLongBytes = 4096;
    const bool is_long =
        fetch_distance() == 0 && (i1 - i0) * static_cast<std::int64_t>(sizeof(T)) >= kLongBytes;
    std::int64_t r = r0;
    for (; is_long && r + kTogether <= r1; r += kTogether)
      fold_into<T, Op, K, kTogether>(r, i0, i1, r == r0, y, map);
    for (; r < r1; ++r) fold_into<T, Op, K, 1>(r, i0, i1, r == r0, y, map);
    return;
  }
  std::int64_t i = fold_strips<T, Op, K, kWide / K>(r0, r1, i0, i1, y, map);
  i = fold_strips<T, Op, K, 4 / K>(r0, r1, i, i1, y, map);
  for (; i < i1; i += kVL) {
    const std::int64_t lanes = i1 - i < kVL ? i1 - i : kVL;
    const auto total = fold_strip<T, Op, K, 1>(r0, r1, i, lanes, map);
    for (int k = 0; k < K; ++k) store_lanes(y[k] + i, total.v[k], lanes);
  }
}

// How (outer, R, inner) is cut: blocks of `rows` times `cols`.
struct ColumnBlocks {
  std::int64_t rows, cols, row_blocks, col_blocks;
  ColumnBlocks(std::int64_t R, std::int64_t inner) {
    cols = inner < 4096 ? at_least_one(inner) : 4096;
    rows = kFoldGrain / cols > kPairwiseRows ? kFoldGrain / cols : kPairwiseRows;
    row_blocks = at_least_one(blocks_of(R, rows));
    col_blocks = blocks_of(inner, cols);
  }
};

inline std::int64_t fold_columns_workspace(std::int64_t outer, std::int64_t R, std::int64_t inner,
                                           int K = 1) {
  const ColumnBlocks cut(R, inner);
  return cut.row_blocks > 1 ? K * outer * cut.row_blocks * inner : 0;
}

// y[o,i] = fold over b of partial[o,b,i]
template <class T, class Op>
inline void combine_blocks(std::int64_t outer, std::int64_t blocks, std::int64_t inner,
                           const T* partial, T* y) {
  constexpr std::int64_t kCols = 1024;
  const std::int64_t strips = blocks_of(inner, kCols);
  parallel_for(outer * strips, [=](std::int64_t chunk) {
    const std::int64_t o = chunk / strips, i0 = chunk % strips * kCols;
    T* const out[1] = {y + o * inner};
    const T* from = partial + o * blocks * inner;
    fold_block<T, Op, 1>(0, blocks, i0, i0 + kCols < inner ? i0 + kCols : inner, out,
                         [=](std::int64_t b, std::int64_t i, std::int64_t lanes) {
                           return Many<T, 1>{{load_lanes(from + b * inner + i, lanes)}};
                         });
  });
}

template <class T, class Op, int K, class Map>
inline void fold_columns(std::int64_t outer, std::int64_t R, std::int64_t inner, T* const (&y)[K],
                         T* workspace, const Map& map) {
  const ColumnBlocks cut(R, inner);
  const std::int64_t blocks = cut.row_blocks * cut.col_blocks;
  // Block b of rows of outer index o goes to row o * row_blocks + b of `to`.
  const auto pass = [&](std::int64_t index, T* const(&to)[K]) {
    const std::int64_t o = index / blocks, b = index % blocks / cut.col_blocks;
    const std::int64_t r0 = b * cut.rows, r1 = r0 + cut.rows < R ? r0 + cut.rows : R;
    const std::int64_t i0 = index % cut.col_blocks * cut.cols;
    T* out[K];
    for (int k = 0; k < K; ++k) out[k] = to[k] + (o * cut.row_blocks + b) * inner;
    fold_block<T, Op, K>(
        r0, r1, i0, i0 + cut.cols < inner ? i0 + cut.cols : inner, out,
        [&](std::int64_t r, std::int64_t i, std::int64_t lanes) { return map(o, r, i, lanes); });
  };
  T* partial[K];
  const std::int64_t partials = outer * cut.row_blocks * inner;
  for (int k = 0; k < K; ++k) partial[k] = cut.row_blocks > 1 ? workspace + k * partials : y[k];
  const std::int64_t rows = R < cut.rows ? at_least_one(R) : cut.rows;
  parallel_ranges(outer * blocks, at_least_one(kFoldGrain / (rows * cut.cols)),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t n = begin; n < end; ++n) pass(n, partial);
                  });
  if (cut.row_blocks == 1) return;
  for (int k = 0; k < K; ++k) combine_blocks<T, Op>(outer, cut.row_blocks, inner, partial[k], y[k]);
}

template <class T>
void divide(T* y, std::int64_t n, T divisor) {
  parallel_ranges(n, kFoldGrain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] /= divisor;
  });
}

}  // namespace narae::NARAE_ISA
