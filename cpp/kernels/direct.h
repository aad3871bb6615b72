// Convolution as a direct sum, where Winograd's algorithm does not pay: boxes of output positions,
// each with a copy of the cells that it sees, times filters packed in strips of columns.
#pragma once

#include "kernels/conv.h"
#include "kernels/patch.h"
#include "kernels/winograd.h"

namespace narae::NARAE_ISA {

inline constexpr int64_t kMaxDepth = 4096;  // of one chunk: kMaxTaps, or kDepth rounded up

// A chunk's share of scratch().
template <class T>
struct Bench {
  T* patch;
  T* strip;  // kPositions rows of dy, kNR columns
  int32_t *position, *tap;
  int64_t* place;  // in the output, of each row

  Bench() {
    patch = static_cast<T*>(scratch());
    strip = patch + kPatchBytes / sizeof(T);
    place = reinterpret_cast<int64_t*>(strip + kPositions * kNR<T>);
    position = reinterpret_cast<int32_t*>(place + kMaxDepth);
    tap = position + kPositions + kMR;
  }
};
static_assert(kPatchBytes + kPositions * 2 * kVecBytes + kMaxDepth * 12 + (kPositions + 64) * 4 <=
              static_cast<int64_t>(kScratchBytes));

// c[place[i]] (+)= sum_k patch[row[i] + sum[k]] * b_k, i < MR, of which `rows` are stored. b_k is
// b + b_row[k], or without b_row b + k * kNR.
template <class T, int MR, int NV, bool kPackedB>
void patch_kernel(int64_t rows, int64_t cols, int64_t K, const T* patch, const int32_t* row,
                  const int32_t* sum, const T* b, const int64_t* b_row, Sum<T>* c,
                  const int64_t* place, bool accumulate) {
  constexpr int kVL = kLanes<T>;
  const T* a[MR];
  NARAE_UNROLL
  for (int i = 0; i < MR; ++i) {
    a[i] = patch + row[i];
    if (i < rows) __builtin_prefetch(c + place[i], 1);
    if (i < rows && NV > 1) __builtin_prefetch(c + place[i] + kVL, 1);
  }
  Vec<Sum<T>> acc[MR][NV] = {};
  for (int64_t k = 0; k < K; ++k) {
    const int64_t at = sum[k];
    const T* b_at = b + (kPackedB ? k * kNR<T> : b_row[k]);
    Vec<T> b_k[NV];
    NARAE_UNROLL
    for (int j = 0; j < NV; ++j) b_k[j] = load(b_at + j * kVL);
    NARAE_UNROLL
    for (int i = 0; i < MR; ++i) {
      const T a_ik = a[i][at];
      NARAE_UNROLL
      for (int j = 0; j < NV; ++j) acc[i][j] = multiply_add(a_ik, b_k[j], acc[i][j]);
    }
  }
  NARAE_UNROLL
  for (int i = 0; i < MR; ++i) {
    if (i < rows) {
      Sum<T>* c_i = c + place[i];
      NARAE_UNROLL
      for (int j = 0; j < NV; ++j) {
        const int64_t lanes = smaller(cols - j * kVL, kVL);
        Sum<T>* p = c_i + j * kVL;
        if (lanes == kVL) {
          store(p, accumulate ? load(p) + acc[i][j] : acc[i][j]);
        } else {
          store_partial<Sum<T>>(p, accumulate ? load_partial(p, lanes) + acc[i][j] : acc[i][j],
                                lanes);
        }
      }
    }
  }
}

// All rows times one strip of b. `row` is readable up to a multiple of kMR.
template <class T, int NV, bool kPackedB>
void multiply_strip(int64_t rows, int64_t cols, int64_t K, const T* patch, const int32_t* row,
                    const int32_t* sum, const T* b, const int64_t* b_row, Sum<T>* c,
                    const int64_t* place, bool accumulate) {
  int64_t i = 0;
  while (i < rows) {
    const auto tiles = [&](auto kernel, int64_t size) {
      kernel(rows - i, cols, K, patch, row + i, sum, b, b_row, c, place + i, accumulate);
      i += size;
    };
    if (rows - i <= kHalfMR) {
      tiles(patch_kernel<T, kHalfMR, NV, kPackedB>, kHalfMR);
    } else if (rows - i <= kMostMR) {
      tiles(patch_kernel<T, kMostMR, NV, kPackedB>, kMostMR);
    } else {
      tiles(patch_kernel<T, kMR, NV, kPackedB>, kMR);
    }
  }
}

template <class T>
void multiply_packed(int64_t rows, int64_t cols, int64_t K, const T* patch, const int32_t* row,
                     const int32_t* sum, const T* b, Sum<T>* c, const int64_t* place,
                     bool accumulate) {
  const auto run = cols > kLanes<T> ? multiply_strip<T, 2, true> : multiply_strip<T, 1, true>;
  run(rows, cols, K, patch, row, sum, b, nullptr, c, place, accumulate);
}

// Few columns, many channels: vectors run over channels, which a patch then has in whole registers,
// and are multiplied by those of all columns.
template <class T>
inline constexpr int kNarrow = kLanes<T> / 2;  // columns at most

template <class T>
bool narrow(int64_t channels, int64_t columns) {
  return !std::is_same_v<T, Pair> && columns <= kNarrow<T> && channels >= kLanes<T>;
}

// Positions or (tap, channels) in a tile, 8 at most: registers hold its sums with `columns`
// columns, and one of them their totals.
template <class T>
constexpr int narrow_tile(int columns) {
  const int registers = kMR > 8 ? 16 : 8, sums = registers < kLanes<T> ? registers : kLanes<T>;
  return sums / columns < 8 ? sums / columns : 8;
}

// The cut of a product of (taps, C channels) by columns. Narrow products pad blocks of channels to
// whole registers, which makes them twice as large at most, and copying cells takes a good part of
// their time: boxes are nearer to squares, which share more of them.
inline constexpr int64_t kNarrowRun = 24;

template <class T>
Cut cut_for(const Axis (&axis)[3], int64_t N, int64_t C, int64_t columns) {
  return narrow<T>(C, columns) ? make_cut(axis, N, C, 2 * sizeof(T), kLanes<T>, 0, kNarrowRun)
                               : make_cut(axis, N, C, sizeof(T));
}

// y[place[i] + n] (+)= sum_t,c patch[position[i] + tap[t] + c] * w[t][n][c], n < columns
template <class T, int kColumns = kNarrow<T>>
void narrow_forward(int64_t columns, int64_t positions, int64_t taps, int64_t channels,
                    const T* patch, const int32_t* position, const int32_t* tap, const T* w, T* y,
                    const int64_t* place, bool accumulate) {
  if constexpr (kColumns > 1) {
    if (columns < kColumns) {
      return narrow_forward<T, kColumns - 1>(columns, positions, taps, channels, patch, position,
                                             tap, w, y, place, accumulate);
    }
  }
  constexpr int kTile = narrow_tile<T>(kColumns);
  for (int64_t i = 0; i < positions; i += kTile) {
    const int64_t count = smaller(kTile, positions - i);
    const T* x[kTile];
    for (int j = 0; j < kTile; ++j) x[j] = patch + position[i + (j < count ? j : 0)];
    Vec<T> acc[kTile][kColumns] = {};
    const T* w_t = w;
    for (int64_t t = 0; t < taps; ++t, w_t += kColumns * channels) {
      for (int64_t c = 0; c < channels; c += kLanes<T>) {
        Vec<T> w_c[kColumns];
        NARAE_UNROLL
        for (int n = 0; n < kColumns; ++n) w_c[n] = load(w_t + n * channels + c);
        NARAE_UNROLL
        for (int j = 0; j < kTile; ++j) {
          const Vec<T> x_c = load(x[j] + tap[t] + c);
          NARAE_UNROLL
          for (int n = 0; n < kColumns; ++n) acc[j][n] += x_c * w_c[n];
        }
      }
    }
    Vec<T> rows[kLanes<T>] = {};
    NARAE_UNROLL
    for (int j = 0; j < kTile * kColumns; ++j) rows[j] = acc[j / kColumns][j % kColumns];
    T total[kLanes<T>];
    store(total, fold_rows<T>(rows));
    for (int j = 0; j < count; ++j) {
      T* to = y + place[i + j];
      for (int n = 0; n < kColumns; ++n) {
        const T more = total[j * kColumns + n];
        to[n] = accumulate ? to[n] + more : more;
      }
    }
  }
}

// dw[place[t] + c * dw_row + n] (+)= sum_p patch[position[p] + tap[t] + c] * dy[p * dy_row + n]
template <class T, int kColumns = kNarrow<T>>
void narrow_gradient(int64_t columns, int64_t taps, int64_t channels, int64_t padded,
                     int64_t positions, const T* patch, const int32_t* position, const int32_t* tap,
                     const T* dy, int64_t dy_row, T* dw, const int64_t* place, int64_t dw_row,
                     bool accumulate) {
  if constexpr (kColumns > 1) {
    if (columns < kColumns) {
      return narrow_gradient<T, kColumns - 1>(columns, taps, channels, padded, positions, patch,
                                              position, tap, dy, dy_row, dw, place, dw_row,
                                              accumulate);
    }
  }
  constexpr int kTile = narrow_tile<T>(kColumns);
  const int64_t vectors = padded / kLanes<T>, rows = taps * vectors;
  for (int64_t i = 0; i < rows; i += kTile) {
    const int64_t count = smaller(kTile, rows - i);
    const T* x[kTile];
    for (int j = 0; j < kTile; ++j) {
      const int64_t r = i + (j < count ? j : 0);
      x[j] = patch + tap[r / vectors] + r % vectors * kLanes<T>;
    }
    Vec<T> acc[kTile][kColumns] = {};
    for (int64_t p = 0; p < positions; ++p) {
      NARAE_UNROLL
      for (int j = 0; j < kTile; ++j) {
        const Vec<T> x_p = load(x[j] + position[p]);
        NARAE_UNROLL
        for (int n = 0; n < kColumns; ++n) acc[j][n] += dy[p * dy_row + n] * x_p;
      }
    }
    for (int j = 0; j < count; ++j) {
      const int64_t t = (i + j) / vectors, c = (i + j) % vectors * kLanes<T>;
      for (int n = 0; n < kColumns; ++n) {
        T lanes[kLanes<T>];
        store(lanes, acc[j][n]);
        T* to = dw + place[t] + c * dw_row + n;
        for (int64_t l = 0; l < smaller(kLanes<T>, channels - c); ++l, to += dw_row)
          *to = accumulate ? *to + lanes[l] : lanes[l];
      }
    }
  }
}

// A patch cell's channels, padded to whole registers with zeros.
template <class T>
void copy_padded(T* to, const T* from, int64_t channels, int64_t padded) {
  copy(to, from, channels);
  for (int64_t c = channels; c < padded; ++c) to[c] = T(0);
}

// Rows past the end repeat the last; what is computed for them is not stored.
inline void pad_rows(int32_t* row, int64_t rows) {
  for (int64_t i = rows; i < round_up(rows, kMR); ++i) row[i] = row[rows - 1];
}

// What the memory of w holds where a product is of T.
template <class T>
using Weight = std::conditional_t<std::is_same_v<T, Pair>, BFloat16, T>;

// target[position, column] = act( sum_(tap, channel) source[position, tap, channel] *
//                                 w[tap, channel, column] + bias[column] ), group by group.
// Pair: two channels of bfloat16 are one, and target and bias are float.
template <class T>
struct Gather {
  Cut cut;
  int64_t groups, columns;  // columns of a group
  const T* source;
  const Weight<T>* w;
  int64_t w_tap, w_group, w_row, w_col;  // strides
  Sum<T>* target;
  const Sum<T>* bias;
  void (*activate)(const Real<Sum<T>>*, Real<Sum<T>>*, int64_t);
  Packed<T>* packed;

  bool is_narrow() const { return narrow<T>(cut.C, columns); }
  int64_t padded(int64_t channels) const {
    return is_narrow() ? round_up(channels, kLanes<T>) : channels;
  }
  void set_operands(const ConvArgs<T>& p) {
    source = p.a, w = p.b, target = p.out, bias = p.bias, activate = p.activate;
    packed = reinterpret_cast<Packed<T>*>(p.workspace);
  }

  int64_t packed_sum() const { return cut.depth() * round_up(columns, kNR<T>); }
  int64_t packed_size() const {
    int64_t size = groups * cut.sums() * packed_sum();
    visit_winograd([&](const auto& product) { size = product.packed_size(); });
    return size;
  }

  template <class Visit>
  bool visit_winograd(const Visit& visit) const {
    const auto fill = [&](auto& p) {
      p.N = cut.N, p.C = p.cell = cut.C, p.F = columns, p.depth = p.kTaps * cut.C;
      p.source = source, p.w = w, p.w_tap = w_tap, p.w_row = w_row, p.w_col = w_col;
      p.target = target, p.bias = bias, p.activate = activate, p.packed = packed;
    };
    if constexpr (std::is_same_v<T, Pair>) {
      return false;
    } else {
      return groups == 1 && NARAE_ISA::visit_winograd<T, Winograd>(cut.axis, fill, visit);
    }
  }

  // w in strips of kNR columns, for each group and part of the sum.
  void pack() const {
    const int64_t strips = ceil_divide(columns, kNR<T>), sums = cut.sums();
    const int64_t grain = 1 + (int64_t{1} << 14) / (cut.depth() * kNR<T> + 1);
    parallel_ranges(groups * sums * strips, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n0 = i % strips * kNR<T>, sum = i / strips % sums, g = i / strips / sums;
        Box box{};
        set_positions(cut, 0, box);
        const int64_t c0 = set_taps(cut, sum, box);
        const int64_t channels = smaller(cut.channels, cut.C - c0);
        const Bench<T> bench;
        T* to = packed + (g * sums + sum) * packed_sum() + n0 * box.tap_count() * channels;
        const auto pack_tap = [&](int64_t tap, int64_t k) {
          constexpr int kTerms = NARAE_ISA::kTerms<Weight<T>>;
          const Weight<T>* from = w + g * w_group + tap * w_tap;
          if (is_narrow()) {
            pack_columns(from + c0 * w_row, channels,
                         to + k / channels * columns * padded(channels));
          } else {
            StridedB<Weight<T>>{from, w_row, w_col}.pack(
                c0 * kTerms, channels * kTerms, n0, smaller(kNR<T>, columns - n0), to + k * kNR<T>);
          }
        };
        tap_table(cut, box, Layout(cut, box, channels), channels, bench.tap, pack_tap);
      }
    });
  }

  // Column by column, each padded to whole registers.
  template <class W>
  void pack_columns(const W* from, int64_t channels, T* to) const {
    if constexpr (std::is_same_v<W, T>) {
      for (int64_t n = 0; n < columns; ++n, to += padded(channels)) {
        for (int64_t c = 0; c < padded(channels); ++c) {
          to[c] = c < channels ? from[c * w_row + n * w_col] : T(0);
        }
      }
    }
  }

  // Adds the bias register by register and activates neighbouring cells in one call: 28x28x1 with
  // 32 filters takes 4.8 instead of 5.5 us.
  void finish(const int64_t* place, int64_t positions, int64_t g, int64_t n0, int64_t cols) const {
    Sum<T>* y = target + g * columns + n0;
    if (bias) {
      for_lanes<T>(cols, [&](int64_t j, int64_t lanes) {
        const Vec<Sum<T>> add = load_lanes(bias + g * columns + n0 + j, lanes);
        for (int64_t p = 0; p < positions; ++p) {
          Sum<T>* cell = y + place[p] + j;
          store_lanes<Sum<T>>(cell, load_lanes(cell, lanes) + add, lanes);
        }
      });
    }
    const bool whole = groups == 1 && cols == columns;
    for (int64_t p = 0; activate && p < positions;) {
      const int64_t first = p++;
      while (whole && p < positions && place[p] == place[p - 1] + cols) ++p;
      activate(y + place[first], y + place[first], (p - first) * cols);
    }
  }

  // One box of positions, one group, columns [n0, n0 + cols).
  void chunk(int64_t positions_index, int64_t g, int64_t n0, int64_t cols) const {
    const Bench<T> bench;
    Box box;
    set_positions(cut, positions_index, box);
    int64_t positions = 0;
    for (int64_t sum = 0; sum < cut.sums(); ++sum) {
      const int64_t c0 = set_taps(cut, sum, box);
      const int64_t channels = smaller(cut.channels, cut.C - c0), all = groups * cut.C;
      const int64_t cell = padded(channels);
      const bool in_place = !is_narrow() && cut.is_single(all);
      const Layout layout = in_place ? Layout(cut, all) : Layout(cut, box, cell);
      const T* patch =
          in_place ? source + g * cut.C + c0 + first_cell(cut, box) * all : bench.patch;
      const int64_t depth = tap_table(cut, box, layout, is_narrow() ? 1 : channels, bench.tap,
                                      [](int64_t, int64_t) {});
      positions = position_tables(cut, box, layout, groups * columns, bench.position, bench.place);
      pad_rows(bench.position, positions);
      if (depth > 0 && !in_place) {
        copy_patch(cut, box, layout, source + g * cut.C + c0, all, cell == all, cell, bench.patch,
                   [&](T* to, const T* from, int64_t) { copy_padded(to, from, channels, cell); });
      }
      const T* b = packed + (g * cut.sums() + sum) * packed_sum();
      Sum<T>* y = target + g * columns;
      if constexpr (!std::is_same_v<T, Pair>) {
        if (is_narrow()) {
          narrow_forward(columns, positions, depth, cell, bench.patch, bench.position, bench.tap, b,
                         y, bench.place, sum > 0);
        }
      }
      for (int64_t n = n0; n < n0 + cols && !is_narrow(); n += kNR<T>) {
        multiply_packed(positions, smaller(kNR<T>, columns - n), depth, patch, bench.position,
                        bench.tap, b + n * depth, y + n, bench.place, sum > 0);
      }
    }
    finish(bench.place, positions, g, n0, cols);
  }

  void run() const {
    const int64_t boxes = cut.position_boxes();
    if (boxes == 0 || columns == 0) return;
    if (visit_winograd([](const auto& product) { product.run(); })) return;
    pack();
    // Few boxes: columns are split too, so that every thread finds work.
    const int64_t most = boxes * groups >= 16 ? 4096 : 64;
    const int64_t width = round_up(even_part(columns, most), kNR<T>);
    const int64_t blocks = ceil_divide(columns, width);
    const int64_t work = cut.images * cut.outs[0] * cut.outs[1] * cut.outs[2] * cut.depth() *
                         cut.sums() * round_up(smaller(width, columns), kLanes<T>);
    const int64_t grain = 1 + (int64_t{1} << 19) / (work + 1);  // 1 MFLOP
    parallel_ranges(boxes * groups * blocks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n0 = i % blocks * width;
        chunk(i / blocks / groups, i / blocks % groups, n0, smaller(width, columns - n0));
      }
    });
  }
};

}  // namespace narae::NARAE_ISA
