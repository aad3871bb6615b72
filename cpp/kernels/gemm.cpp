#include "kernels/gemm.h"

#include "kernels/gemm_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

// A sum of K terms is split in equal parts of at most kKC, as are M rows in blocks of at most kMC:
// a part with few terms would read and write all sums for them, a block with few rows read all of
// B.
template <class T>
std::int64_t part_of_terms(std::int64_t K) {
  const std::int64_t parts = (K + kKC<T> - 1) / kKC<T>;
  return parts > 1 ? round_up((K + parts - 1) / parts, kRun) : K;
}

inline std::int64_t part_of_rows(std::int64_t M) {
  const std::int64_t parts = (M + kMC - 1) / kMC;
  return parts > 1 ? round_up((M + parts - 1) / parts, kMR) : M;
}

// What a tile adds when its sum is complete at term `end`.
template <class T>
const T* last_bias(const MatmulArgs<T>& p, std::int64_t end, std::int64_t n) {
  return p.bias && end == p.K ? p.bias + n : nullptr;
}

// Of rows [m0, m1) and columns [n0, n1) of C: c += bias, where tiles have not added it, and
// c = act(c), short rows that follow one another in one call.
template <class T>
void add_bias(const MatmulArgs<T>& p, std::int64_t m0, std::int64_t m1, std::int64_t n0,
              std::int64_t n1) {
  for (std::int64_t m = m0; p.bias && m < m1; ++m) {
    for_lanes<T>(n1 - n0, [&](std::int64_t j, std::int64_t lanes) {
      T* c = p.c + m * p.N + n0 + j;
      store_lanes<T>(c, load_lanes(c, lanes) + load_lanes(p.bias + n0 + j, lanes), lanes);
    });
  }
}

template <class T>
void activate(const MatmulArgs<T>& p, std::int64_t m0, std::int64_t m1, std::int64_t n0,
              std::int64_t n1) {
  const std::int64_t step = n1 - n0 == p.N ? 1 + 2048 / p.N : 1;
  for (std::int64_t m = m0; p.activate && m < m1; m += step) {
    T* c = p.c + m * p.N + n0;
    p.activate(c, c, smaller(step, m1 - m) * (n1 - n0));
  }
}

// The sums of one or two rows that registers hold. The wider a strip, the more of B is read in one
// run and the more loads are under way: 1x784x300 takes 5.1 us in one strip of 19 registers, 6.2 in
// three of 8.
constexpr int kRowSums = kMR > 8 ? 24 : 12;

// c[m, n] (+)= sum_k a[m, k] b[k, n] for kRows rows and `registers` <= R registers of columns, the
// last of which ends with the columns and may overlap the one before.
template <class T, int kRows, int R = kRowSums / kRows>
void row_strip(int registers, std::int64_t cols, std::int64_t K, const T* a, std::int64_t a_row,
               std::int64_t a_col, const T* b, std::int64_t b_row, T* c, std::int64_t c_row,
               bool accumulate, bool streamed) {
  if constexpr (R > 1) {
    if (registers < R) {
      return row_strip<T, kRows, R - 1>(registers, cols, K, a, a_row, a_col, b, b_row, c, c_row,
                                        accumulate, streamed);
    }
  }
  const auto column = [&](int j) { return j < R - 1 ? j * kLanes<T> : cols - kLanes<T>; };
  Vec<T> acc[kRows][R] = {};
  for (std::int64_t k = 0; k < K; ++k, a += a_col, b += b_row) {
    NARAE_UNROLL
    for (int j = 0; j < R; ++j) {
      const Vec<T> b_k = load(b + column(j));
      NARAE_UNROLL
      for (int i = 0; i < kRows; ++i) acc[i][j] += a[i * a_row] * b_k;
    }
  }
  NARAE_UNROLL
  for (int i = 0; i < kRows; ++i) {  // all loads before a store: columns overlap
    T* c_i = c + i * c_row;
    NARAE_UNROLL
    for (int j = 0; j < R; ++j)
      acc[i][j] = accumulate ? load(c_i + column(j)) + acc[i][j] : acc[i][j];
    NARAE_UNROLL
    for (int j = 0; j < R; ++j) {
      streamed ? stream(c_i + column(j), acc[i][j]) : store(c_i + column(j), acc[i][j]);
    }
  }
}

// Columns [n0, n1) of one or two rows, at least a register of them, in equal strips.
template <class T, int kRows>
void row_strips(const MatmulArgs<T>& p, std::int64_t m0, std::int64_t n0, std::int64_t n1,
                bool streamed = false) {
  const std::int64_t registers = (n1 - n0 + kLanes<T> - 1) / kLanes<T>, most = kRowSums / kRows;
  const std::int64_t strips = (registers + most - 1) / most;
  for (std::int64_t i = 0; i < strips; ++i) {
    const std::int64_t first = registers * i / strips, last = registers * (i + 1) / strips;
    const std::int64_t n = n0 + first * kLanes<T>, cols = smaller(n0 + last * kLanes<T>, n1) - n;
    for (std::int64_t k = 0, part = part_of_terms<T>(p.K); k < p.K; k += part) {
      row_strip<T, kRows>(static_cast<int>(last - first), cols, smaller(part, p.K - k),
                          p.a + m0 * p.a_row + k * p.a_col, p.a_row, p.a_col, p.b + k * p.b_row + n,
                          p.b_row, p.c + m0 * p.N + n, p.N, k > 0, streamed);
    }
  }
}

// ---- What a tile fetches for later ones. An operand that L2 keeps beside the others is not
// fetched.

template <class T>
bool leaves_cache(std::int64_t elements) {
  return elements * static_cast<std::int64_t>(sizeof(T)) > 256 << 10;
}

// `rows` rows of A. Of columns side by side the last one is asked for: its cache lines hold the
// others, or the tile before had them.
template <class T>
Fetch rows_ahead(const MatmulArgs<T>& p, const T* a, std::int64_t rows) {
  constexpr std::int64_t kSize = sizeof(T);
  if (p.a_col == 1) return {last_line(a), p.a_row * kSize, kRun * kSize};
  if (!leaves_cache<T>(p.M * p.K)) return {};
  return terms_ahead<T>(reinterpret_cast<const char*>(a + (rows - 1) * p.a_row), p.a_col);
}

// ---- Products without packing

template <class T>
bool rows_share_set(const MatmulArgs<T>& p) {
  return p.a_col == 1 && rows_collide<T>(p.a_row);
}

// A strip of B with a long sum asks for its own rows, so many ahead; others ask for the next strip.
// More would not stay in L2 where rows are a power of two apart: 64x1600x512, a transposed,
// 0.96 instead of 1.14 ms.
constexpr std::int64_t kRowsAhead = 96;

// Few terms and many sums: C is what moves, and is written row by row and past the caches if large.
// Where few registers make short strips C must be larger to gain (1024x8x1024, AVX2: 0.48 instead
// of 0.32 ms).
template <class T>
bool has_short_sums(const MatmulArgs<T>& p) {
  constexpr int kLeast = kRowSums > 12 ? 4 : 16;  // times what leaves the cache: 1 MiB or 4
  return p.K <= 16 && p.N >= 4 * kLanes<T> && leaves_cache<T>(p.M * p.N / kLeast);
}

// One or two rows at a time.
template <class T>
void row_product(const MatmulArgs<T>& p, std::int64_t m0, std::int64_t m1, std::int64_t n0,
                 std::int64_t n1) {
  const bool streamed =
      has_short_sums(p) && !p.bias && !p.activate && may_stream(p.c, p.M * p.N, p.N);
  for (std::int64_t m = m0; m < m1; m += 2) {
    const std::int64_t end = smaller(m + 2, m1);
    (end - m == 1 ? row_strips<T, 1> : row_strips<T, 2>)(p, m, n0, n1, streamed);
    add_bias(p, m, end, n0, n1);
    activate(p, m, end, n0, n1);
  }
  if (streamed) finish_streaming();
}

// Rows [m0, m1), columns [n0, n1) with A read where it is; B too when its rows are contiguous, but
// for a ragged last strip unless kReadsParts. Splits the sum as the blocked product does.
template <class T>
void direct_product(const MatmulArgs<T>& p, std::int64_t m0, std::int64_t m1, std::int64_t n0,
                    std::int64_t n1) {
  if ((m1 - m0 <= 2 || has_short_sums(p)) && p.b_col == 1 && n1 - n0 >= kLanes<T>)
    return row_product(p, m0, m1, n0, n1);
  T* strip = static_cast<T*>(scratch());
  const StridedB<T> source_b{p.b, p.b_row, p.b_col};
  // Rows so far apart fall into the same few sets of the first cache. Measured on Zen 5 at
  // 64x1024x1024: packing wins 1.25x with strips of 64 bytes (AVX2), loses 0.86x with 128
  // (AVX-512).
  const bool conflicts = kNR<T> * sizeof(T) < 2 * kLine && m1 - m0 > 2 * kMR &&
                         p.b_row * static_cast<std::int64_t>(sizeof(T)) % 1024 == 0;
  // No more rows of A in a tile than the eight ways of a set hold beside B. 64x1024x512 on Zen 4:
  // 660 instead of 1030 us.
  const std::int64_t most = rows_share_set(p) && m1 - m0 > 8 ? smaller(kMR, 7) : kMR;
  const std::int64_t part = part_of_terms<T>(p.K);
  const bool far_b = leaves_cache<T>(p.N * p.K), long_sum = p.K > part;
  for (std::int64_t n = n0; n < n1; n += kNR<T>) {
    const std::int64_t cols = smaller(kNR<T>, n1 - n);
    const bool in_place = p.b_col == 1 && (kReadsParts || cols == kNR<T>) && !conflicts;
    const bool fetches_b = in_place && far_b && (long_sum || n + kNR<T> < p.N);
    for (std::int64_t k = 0; k < p.K; k += part) {
      const std::int64_t depth = smaller(part, p.K - k);
      if (!in_place) source_b.pack(k, depth, n, cols, strip);
      const T* b = in_place ? p.b + k * p.b_row + n : strip;
      for (std::int64_t m = m0, rows; m < m1; m += rows) {
        rows = next_tile(m1 - m, most);
        const T* a = p.a + m * p.a_row + k * p.a_col;
        Ahead ahead;
        if (n == n0 && m + rows < p.M) ahead.a = rows_ahead(p, a + rows * p.a_row, rows);
        if (m == m0 && fetches_b)
          ahead.b =
              terms_ahead<T>(last_line(long_sum ? b + kRowsAhead * p.b_row : b + kNR<T>), p.b_row);
        tile<T, false>(rows, cols, depth, a, p.a_row, p.a_col, b, in_place ? p.b_row : kNR<T>,
                       p.c + m * p.N + n, p.N, k > 0, last_bias(p, k + depth, n), &ahead);
      }
    }
  }
  activate(p, m0, m1, n0, n1);
}

// body(m0, m1, n0, n1) over blocks of at most `rows` rows and `columns` columns.
template <class Body>
void for_blocks(std::int64_t M, std::int64_t N, std::int64_t rows, std::int64_t columns,
                bool parallel, const Body& body) {
  const std::int64_t down = (M + rows - 1) / rows, across = (N + columns - 1) / columns;
  const auto block = [&](std::int64_t i) {
    const std::int64_t m = i / across * rows, n = i % across * columns;
    body(m, smaller(M, m + rows), n, smaller(N, n + columns));
  };
  if (parallel) return parallel_for(down * across, block);
  for (std::int64_t i = 0; i < down * across; ++i) block(i);
}

// One or a few rows times a B that comes from memory, which is read as it lies: eight rows side by
// side, each fetched 1 KiB ahead, where the hardware helps, else row after row with the eighth one
// below fetched. The sums of each part of K are kept apart and added in the end. 1x4096x4096 on
// Zen 4: 2.4 ms, row after row 6.2; on Zen 5 the latter reads 47 GB/s, strip by strip 13.
constexpr std::int64_t kStreamedColumns = 4096, kStreamedRows = 8;

template <class T>
bool is_streamed(const MatmulArgs<T>& p) {
  return p.M <= 4 && p.b_col == 1 && p.N >= 256 && p.N * p.K >= p.M << 20;
}

// sums[m, n] (+)= a[m, k] b[k, n] over kRows rows of b from k on, for columns [n0, n1).
template <class T, int kRows>
void add_rows(const MatmulArgs<T>& p, std::int64_t k, std::int64_t n0, std::int64_t n1,
              bool accumulate, T* sums) {
  const T *a_k = p.a + k * p.a_col, *b_k = p.b + k * p.b_row + n0;
  constexpr int kCache = kRows > 1 ? 2 : 3;  // L2, or L1 for rows one after the other
  const std::int64_t ahead = kRows > 1 ? 1024 / sizeof(T) : kStreamedRows * p.b_row;
  for_lanes<T>(n1 - n0, [&](std::int64_t j, std::int64_t lanes) {
    Vec<T> b[kRows];
    NARAE_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const T* b_i = b_k + i * p.b_row + j;
      __builtin_prefetch(b_i + ahead, 0, kCache);
      b[i] = load_lanes(b_i, lanes);
    }
    for (std::int64_t m = 0; m < p.M; ++m) {
      T* to = sums + m * p.N + n0 + j;
      Vec<T> sum = accumulate ? load_lanes(to, lanes) : Vec<T>{};
      NARAE_UNROLL
      for (int i = 0; i < kRows; ++i) sum += a_k[m * p.a_row + i * p.a_col] * b[i];
      store_lanes(to, sum, lanes);
    }
  });
}

template <class T>
void streamed_product(const MatmulArgs<T>& p) {
  const std::int64_t part = part_of_terms<T>(p.K), size = p.M * p.N;
  const std::int64_t parts = (p.K + part - 1) / part;
  for_blocks(p.K, p.N, part, kStreamedColumns, true,
             [&](std::int64_t k0, std::int64_t k1, std::int64_t n0, std::int64_t n1) {
               T* sums = k0 == 0 ? p.c : p.workspace + (k0 / part - 1) * size;
               std::int64_t k = k0;
               for (; fetch_distance() == 0 && k + kStreamedRows <= k1; k += kStreamedRows)
                 add_rows<T, kStreamedRows>(p, k, n0, n1, k > k0, sums);
               for (; k < k1; ++k) add_rows<T, 1>(p, k, n0, n1, k > k0, sums);
             });
  for_blocks(p.M, p.N, p.M, kStreamedColumns, true,
             [&](auto, auto, std::int64_t n0, std::int64_t n1) {
               for (std::int64_t i = 0; i < (parts - 1) * p.M; ++i) {
                 T* c = p.c + i % p.M * p.N;
                 const T* sums = p.workspace + i * p.N;
                 for (std::int64_t n = n0; n < n1; ++n) c[n] += sums[n];
               }
               add_bias(p, 0, p.M, n0, n1);
               activate(p, 0, p.M, n0, n1);
             });
}

// ---- Blocked products
//
//   for each block of kNC columns, for each part of the sum (kKC terms at most):
//     pack B (kKC x kNC) in strips of kNR columns                           -> shared, L3
//     for each block of rows (kMC at most): pack A (kMC x kKC) in strips of kMR rows -> L2,
//       or, if columns are split too (shares_a), once before, beside B
//       for each strip of B, for each strip of A: tile
//
// A whose terms lie side by side is not packed unless its rows share a set: 1024x1536x384, b
// transposed, 11.1 instead of 11.4 ms (Zen 4).
template <class T>
bool reads_in_place(const MatmulArgs<T>& p) {
  return p.a_col == 1 && !rows_share_set(p);
}

constexpr std::int64_t kNC = 2048;
// A product inside a parallel region packs B into the thread's own scratch, beside A.
constexpr std::int64_t kNCInScratch = 320;
static_assert((kMC + kNCInScratch) * kKC<float> * sizeof(float) <= kScratchBytes);
static_assert((kMC + kNCInScratch) * kKC<double> * sizeof(double) <= kScratchBytes);
static_assert(kNC % kNR<float> == 0 && kNCInScratch % kNR<float> == 0);

// Packing B pays when it has many rows of A to serve and leaves L2, or is larger still and lies in
// rows of which a strip takes two cache lines. B transposed is packed in any case: once for all
// rows, unless one block has them all or B is too small to share.
template <class T>
bool is_small(const MatmulArgs<T>& p) {
  const bool wide = p.b_col == 1 && kNR<T> * sizeof(T) >= 2 * kLine;
  const int most = wide ? 3 << 20 : p.b_col == 1 ? 1 << 20 : 1 << 17;
  return p.M <= (p.b_col == 1 ? 128 : kMC) || p.N * p.K <= most / static_cast<int>(sizeof(T));
}

// Few rows of A: columns are split too, so that every thread finds work ...
inline bool splits_columns(std::int64_t M) { return M <= 7 * kMC; }
constexpr std::int64_t kSplit = round_up(256, kNR<float>);

// ... and A is packed once for all of them, if they are more than three blocks: 1024 in 19.9
// instead of 20.4 ms (Zen 4), but two or three blocks in up to 1.05 times as long.
inline bool shares_a(std::int64_t M, std::int64_t N) { return splits_columns(M) && N > 3 * kSplit; }

// Rows [m0, m0 + rows) and terms [k0, k0 + depth) of A, packed unless a_packed is nullptr, times
// the packed columns [n0, n0 + cols) of B.
template <class T>
void multiply_block(const MatmulArgs<T>& p, std::int64_t m0, std::int64_t rows, std::int64_t k0,
                    std::int64_t depth, std::int64_t n0, std::int64_t cols, const T* b_packed,
                    const T* a_packed) {
  const bool in_place = !a_packed, far_a = in_place || shares_a(p.M, p.N);  // else just packed
  const T* a = in_place ? p.a + m0 * p.a_row + k0 : a_packed;
  const std::int64_t a_row = in_place ? p.a_row : depth;
  for (std::int64_t n = 0; n < cols; n += kNR<T>) {
    const T* strip = b_packed + n * depth;
    for (std::int64_t m = 0; m < rows; m += kMR) {
      const T *a_m = a + m * a_row, *a_next = a_m + kMR * a_row;
      Ahead ahead;
      if (far_a && n == 0 && m0 + m + kMR < p.M)
        ahead.a = in_place ? rows_ahead(p, a_next, kMR) : terms_ahead<T>(last_line(a_next), kMR);
      if (m == 0 && n + kNR<T> < cols)
        ahead.b = terms_ahead<T>(last_line(strip + kNR<T> * depth), kNR<T>);
      (in_place ? tile<T, false> : tile<T, true>)(smaller(kMR, rows - m), smaller(kNR<T>, cols - n),
                                                  depth, a_m, in_place ? a_row : 1,
                                                  in_place ? 1 : kMR, strip, kNR<T>,
                                                  p.c + (m0 + m) * p.N + n0 + n, p.N, k0 > 0,
                                                  last_bias(p, k0 + depth, n0 + n), &ahead);
    }
  }
}

// At most: A may be read where it lies.
template <class T>
std::int64_t blocked_workspace(std::int64_t M, std::int64_t N, std::int64_t K) {
  const std::int64_t columns = smaller(round_up(N, kNR<T>), kNC);
  return (columns + (shares_a(M, N) ? round_up(M, kMR) : 0)) * part_of_terms<T>(K);
}

// Shares what is packed, in p.workspace (blocked_workspace elements); parallel inside.
template <class T>
void blocked_product(const MatmulArgs<T>& p) {
  const StridedB<T> source_b{p.b, p.b_row, p.b_col};
  const StridedA<T> source_a{p.a, p.a_row, p.a_col};
  const std::int64_t part = part_of_terms<T>(p.K), rows = part_of_rows(p.M);
  const bool in_place = reads_in_place(p), shared = !in_place && shares_a(p.M, p.N);
  for (std::int64_t n0 = 0; n0 < p.N; n0 += kNC) {
    const std::int64_t cols = smaller(kNC, p.N - n0);
    const std::int64_t width = splits_columns(p.M) ? kSplit : cols;
    for (std::int64_t k0 = 0; k0 < p.K; k0 += part) {
      const std::int64_t depth = smaller(part, p.K - k0);
      constexpr std::int64_t kStrips = 4;  // strips packed by one chunk
      parallel_ranges(
          (cols + kNR<T> - 1) / kNR<T>, kStrips, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t j = begin * kNR<T>; j < smaller(end * kNR<T>, cols); j += kNR<T>) {
              source_b.pack(k0, depth, n0 + j, smaller(kNR<T>, cols - j), p.workspace + j * depth);
            }
          });
      T* const a_shared = p.workspace + round_up(cols, kNR<T>) * depth;
      if (shared) {
        for_blocks(p.M, 1, rows, 1, true, [&](std::int64_t m0, std::int64_t m1, auto, auto) {
          source_a.pack(m0, m1 - m0, k0, depth, a_shared + m0 * depth);
        });
      }
      for_blocks(p.M, cols, rows, width, true,
                 [&](std::int64_t m0, std::int64_t m1, std::int64_t j0, std::int64_t j1) {
                   T* a = shared ? a_shared + m0 * depth : static_cast<T*>(scratch());
                   if (!shared && !in_place) source_a.pack(m0, m1 - m0, k0, depth, a);
                   multiply_block(p, m0, m1 - m0, k0, depth, n0 + j0, j1 - j0,
                                  p.workspace + j0 * depth, in_place ? nullptr : a);
                   if (k0 + depth == p.K) activate(p, m0, m1, n0 + j0, n0 + j1);
                 });
    }
  }
}

// The same by one thread, everything packed in its scratch. The same bits: the sum is split at the
// same k.
template <class T>
void serial_product(const MatmulArgs<T>& p) {
  const StridedB<T> source_b{p.b, p.b_row, p.b_col};
  const StridedA<T> source_a{p.a, p.a_row, p.a_col};
  const std::int64_t part = part_of_terms<T>(p.K), most_rows = part_of_rows(p.M);
  const bool in_place = reads_in_place(p);
  T* a_packed = static_cast<T*>(scratch());
  T* b_packed = a_packed + kMC * kKC<T>;
  for (std::int64_t n0 = 0; n0 < p.N; n0 += kNCInScratch) {
    const std::int64_t cols = smaller(kNCInScratch, p.N - n0);
    for (std::int64_t k0 = 0; k0 < p.K; k0 += part) {
      const std::int64_t depth = smaller(part, p.K - k0);
      for (std::int64_t j = 0; j < cols; j += kNR<T>) {
        source_b.pack(k0, depth, n0 + j, smaller(kNR<T>, cols - j), b_packed + j * depth);
      }
      for (std::int64_t m0 = 0; m0 < p.M; m0 += most_rows) {
        const std::int64_t rows = smaller(most_rows, p.M - m0);
        if (!in_place) source_a.pack(m0, rows, k0, depth, a_packed);
        multiply_block(p, m0, rows, k0, depth, n0, cols, b_packed, in_place ? nullptr : a_packed);
        if (k0 + depth == p.K) activate(p, m0, m0 + rows, n0, n0 + cols);
      }
    }
  }
}

// A product of bfloat16, whose sums are wider than what is stored: both operands are packed before
// it, and the sums of a strip of C stay in scratch until they are complete.
template <class T>
struct PackedProduct {
  using P = Packed<T>;
  using S = Real<T>;
  static constexpr std::int64_t kSums = kMC * kNR<P>;  // of a strip, in scratch

  const MatmulArgs<T>& p;
  std::int64_t depth = packed_depth<T>(p.K), row_blocks = (p.M + kMC - 1) / kMC;
  P *a, *b;

  // One block of rows packs the strips of B as it needs them.
  static std::int64_t size(std::int64_t M, std::int64_t N, std::int64_t K) {
    return packed_depth<T>(K) * (round_up(M, kMR) + (M > kMC ? round_up(N, kNR<P>) : 0));
  }
  static bool fits_scratch(const MatmulArgs<T>& p) {
    const std::int64_t room = kScratchBytes / sizeof(P) - kSums - kKC<P> * kNR<P>;
    return size(p.M, p.N, p.K) <= room;
  }

  PackedProduct(const MatmulArgs<T>& args, P* packed)
      : p(args), a(packed), b(packed + round_up(p.M, kMR) * depth) {}

  void run(bool parallel) const {
    for_blocks(p.M, 1, kMR * 4, 1, parallel, [&](std::int64_t m0, std::int64_t m1, auto, auto) {
      StridedA<T>{p.a, p.a_row, p.a_col}.pack(m0, m1 - m0, 0, p.K, a + m0 * depth);
    });
    if (row_blocks > 1) {
      for_blocks(1, p.N, 1, kNR<P>, parallel, [&](auto, auto, std::int64_t n0, std::int64_t n1) {
        pack_b(n0, n1, 0, depth, b + n0 * depth);
      });
    }
    const std::int64_t rows = part_of_rows(p.M), work = rows * p.K;
    const std::int64_t columns =
        row_blocks >= 8 ? p.N : round_up(1 + (std::int64_t{1} << 20) / work, 4 * kNR<P>);
    for_blocks(p.M, p.N, rows, columns, parallel,
               [&](std::int64_t m0, std::int64_t m1, std::int64_t n0, std::int64_t n1) {
                 for (; n0 < n1; n0 += kNR<P>) strip(m0, m1, n0, smaller(n0 + kNR<P>, n1));
               });
  }

  void pack_b(std::int64_t n0, std::int64_t n1, std::int64_t k, std::int64_t count, P* to) const {
    const std::int64_t k0 = k * kTerms<T>, terms = smaller(p.K - k0, count * kTerms<T>);
    StridedB<T>{p.b, p.b_row, p.b_col}.pack(k0, terms, n0, n1 - n0, to);
  }

  void strip(std::int64_t m0, std::int64_t m1, std::int64_t n0, std::int64_t n1) const {
    S* sums = static_cast<S*>(scratch());
    P* packed = reinterpret_cast<P*>(sums + kSums);
    for (std::int64_t k = 0, part = part_of_terms<P>(depth); k < depth; k += part) {
      const std::int64_t count = smaller(part, depth - k);
      if (row_blocks == 1) pack_b(n0, n1, k, count, packed);
      const P* b_k = row_blocks == 1 ? packed : b + n0 * depth + k * kNR<P>;
      for (std::int64_t m = m0; m < m1; m += kMR) {
        tile<P, true>(smaller(kMR, m1 - m), kNR<P>, count, a + m * depth + k * kMR, 1, kMR, b_k,
                      kNR<P>, sums + (m - m0) * kNR<P>, kNR<P>, k > 0);
      }
    }
    for (std::int64_t m = m0; m < m1; ++m, sums += kNR<P>) finish(sums, m, n0, n1 - n0);
  }

  // c = act( sums + bias ), rounded.
  void finish(S* sums, std::int64_t m, std::int64_t n0, std::int64_t cols) const {
    if (p.bias) {
      for_lanes<S>(cols, [&](std::int64_t j, std::int64_t lanes) {
        store(sums + j, load(sums + j) + load_lanes(p.bias + n0 + j, lanes));
      });
    }
    if (p.activate) p.activate(sums, sums, cols);
    for_lanes<S>(cols, [&](std::int64_t j, std::int64_t lanes) {
      store_lanes<T>(p.c + m * p.N + n0 + j, load(sums + j), lanes);
    });
  }
};

// Without terms: c = act(bias).
template <class T>
void empty_product(const MatmulArgs<T>& p) {
  for (std::int64_t m = 0; m < p.M; ++m) {
    for_lanes<T>(p.N, [&](std::int64_t n, std::int64_t lanes) {
      Real<T> value[kLanes<T>];
      store(value, p.bias ? load_lanes(p.bias + n, lanes) : Vec<T>{});
      if (p.activate) p.activate(value, value, lanes);
      store_lanes<T>(p.c + m * p.N + n, load(value), lanes);
    });
  }
}

void single_matmul(const MatmulArgs<BFloat16>& p, bool parallel) {
  using Product = PackedProduct<BFloat16>;
  if (p.K == 0) return empty_product(p);
  auto* packed = reinterpret_cast<Product::P*>(p.workspace);
  if (!parallel)
    packed =
        static_cast<Product::P*>(scratch()) + Product::kSums + kKC<Product::P> * kNR<Product::P>;
  Product(p, packed).run(parallel);
}

template <class T>
void single_matmul(const MatmulArgs<T>& p, bool parallel) {
  if (p.K == 0) {
    empty_product(p);
  } else if (parallel && is_streamed(p)) {
    streamed_product(p);
  } else if (is_small(p)) {
    // Blocks of about 1 MFLOP, four strips wide at least: narrower ones made the bias a third of
    // the time of 2048x128x1024.
    const std::int64_t rows = part_of_rows(p.M);
    const std::int64_t columns = round_up(1 + (std::int64_t{1} << 19) / (rows * p.K), 4 * kNR<T>);
    for_blocks(p.M, p.N, rows, columns, parallel,
               [&](std::int64_t m0, std::int64_t m1, std::int64_t n0, std::int64_t n1) {
                 direct_product(p, m0, m1, n0, n1);
               });
  } else {
    (parallel ? blocked_product<T> : serial_product<T>)(p);
  }
}

template <class T>
void matmul(const MatmulArgs<T>& p) {
  if (p.M == 0 || p.N == 0) return;
  std::int64_t batches = 1;
  for (int d = 0; d < p.batch_dims; ++d) batches *= p.batch[d];
  if (batches == 1) return single_matmul(p, true);
  const std::int64_t grain = 1 + (std::int64_t{1} << 19) / (p.M * p.N * p.K + 1);
  // Few and large, or too large for scratch: threads inside.
  bool inner = batches < 8 && p.M * p.N * p.K > std::int64_t{1} << 24;
  if constexpr (std::is_same_v<T, BFloat16>) inner |= !PackedProduct<T>::fits_scratch(p);
  const auto range = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      MatmulArgs<T> one = p;
      for (std::int64_t d = p.batch_dims - 1, rest = index; d >= 0; --d) {
        one.a += rest % p.batch[d] * p.a_batch[d];
        one.b += rest % p.batch[d] * p.b_batch[d];
        rest /= p.batch[d];
      }
      one.c += index * p.M * p.N;
      single_matmul(one, inner);
    }
  };
  if (inner) {
    range(0, batches);
  } else {
    parallel_ranges(batches, grain, range);
  }
}

template <class T>
std::int64_t workspace_size(std::int64_t M, std::int64_t N, std::int64_t K) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return PackedProduct<T>::size(M, N, K);  // pairs are as long as floats
  } else {
    const std::int64_t streamed = (K + kKC<T> - 1) / kKC<T> * M * N;
    const std::int64_t blocked = blocked_workspace<T>(M, N, K);
    return M <= 4 && streamed > blocked ? streamed : blocked;
  }
}

// Sums of a run of columns stay in registers: a row is read a KiB at a time (half of it with 16
// registers or fewer). One register of columns at a time took six times as long at N = 1024.
constexpr int kSums = kMR > 8 ? 16 : 8;

template <class T>
void sum_rows(const T* dy, T* db, std::int64_t M, std::int64_t N) {
  Vec<T> total[kSums] = {};
  for (std::int64_t m = 0; m < M; ++m, dy += N) {
    NARAE_UNROLL
    for (int i = 0; i < kSums; ++i) total[i] += load(dy + i * kLanes<T>);
  }
  for (int i = 0; i < kSums; ++i) store(db + i * kLanes<T>, total[i]);
}

// Columns are split over threads, rows are summed in order.
template <class T>
void bias_backward(const T* dy, T* db, std::int64_t M, std::int64_t N) {
  constexpr std::int64_t kRun = kSums * kLanes<T>;
  const std::int64_t grain = round_up(1 + (std::int64_t{1} << 16) / (M + 1), kRun);
  parallel_ranges(N, grain, [&](std::int64_t begin, std::int64_t end) {
    for (; begin + kRun <= end; begin += kRun) sum_rows(dy + begin, db + begin, M, N);
    for_lanes<T>(end - begin, [&](std::int64_t j, std::int64_t lanes) {
      Vec<T> total = {};
      for (std::int64_t m = 0; m < M; ++m) total += load_lanes(dy + m * N + begin + j, lanes);
      store_lanes<T>(db + begin + j, total, lanes);
    });
  });
}

template <class T>
constexpr Gemm<T> kTable = {workspace_size<T>, matmul<T>, bias_backward<T>};

}  // namespace
}  // namespace NARAE_ISA

#if !defined(__AVX512BF16__)
template <>
const Gemm<float>& implementation<Gemm<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Gemm<double>& implementation<Gemm<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}
#endif
template <>
const Gemm<BFloat16>& implementation<Gemm<BFloat16>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<BFloat16>;
}

}  // namespace narae
