// Depthwise convolution: vectors run over columns (channel, m), one multiplication a value read.
#include "core/isa.h"
#include "kernels/conv.h"
#include "kernels/patch.h"

namespace narae {
namespace NARAE_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kTilePositions = 8;
#else
constexpr int kTilePositions = 4;
#endif
constexpr int kTileTaps = 5;  // of the filter gradient: 5 x 2 registers; 9 and 25 taps fill it well
template <class T>
constexpr int64_t kColumns = 256 / sizeof(T);  // of one chunk

// A chunk's share of scratch(). Cells and rows have whole registers, padded with zeros.
template <class T>
struct Bench {
  T *patch, *rows, *w;
  int64_t* place;
  int32_t *position, *tap;

  Bench() {
    patch = static_cast<T*>(scratch());
    rows = patch + kPatchBytes / sizeof(T);  // kPositions rows of dy
    place = reinterpret_cast<int64_t*>(rows + kPositions * kColumns<T>);
    position = reinterpret_cast<int32_t*>(place + kPositions);
    tap = position + kPositions + kTilePositions;
    w = reinterpret_cast<T*>(tap + kSumTaps + 8);
  }
  static constexpr int64_t kSumTaps = 1024;  // of one box
};
static_assert(kPatchBytes + kPositions * (256 + 12) + 64 + 1040 * 4 + 1024 * 256 <=
              static_cast<int64_t>(kScratchBytes));

// y[i, column] (+)= sum_t patch[position[i] + tap[t] + column] * w[t, column]
template <class T, int NV>
void tile(int64_t rows, int64_t cols, int64_t taps, const T* patch, const int32_t* position,
          const int32_t* tap, const T* w, int64_t w_row, T* y, const int64_t* place,
          bool accumulate) {
  constexpr int kVL = kLanes<T>;
  const T* x[kTilePositions];
  NARAE_UNROLL
  for (int i = 0; i < kTilePositions; ++i) x[i] = patch + position[i];
  Vec<T> acc[kTilePositions][NV] = {};
  for (int64_t t = 0; t < taps; ++t, w += w_row) {
    const int64_t at = tap[t];
    NARAE_UNROLL
    for (int j = 0; j < NV; ++j) {
      const Vec<T> w_t = load(w + j * kVL);
      NARAE_UNROLL
      for (int i = 0; i < kTilePositions; ++i) acc[i][j] += load(x[i] + at + j * kVL) * w_t;
    }
  }
  NARAE_UNROLL
  for (int i = 0; i < kTilePositions; ++i) {
    if (i < rows) {
      NARAE_UNROLL
      for (int j = 0; j < NV; ++j) {
        T* to = y + place[i] + j * kVL;
        const int64_t lanes = smaller(cols - j * kVL, kVL);
        store_lanes<T>(to, accumulate ? load_lanes(to, lanes) + acc[i][j] : acc[i][j], lanes);
      }
    }
  }
}

// dw[t, column] (+)= sum_p patch[position[p] + tap[t] + column] * dy[p, column]
template <class T, int NV>
void gradient_tile(int64_t taps, int64_t cols, int64_t positions, const T* patch,
                   const int32_t* position, const int32_t* tap, const T* dy, int64_t dy_row, T* dw,
                   const int64_t* place, bool accumulate) {
  constexpr int kVL = kLanes<T>;
  const T* x[kTileTaps];
  NARAE_UNROLL
  for (int t = 0; t < kTileTaps; ++t) x[t] = patch + tap[t];
  Vec<T> acc[kTileTaps][NV] = {};
  for (int64_t p = 0; p < positions; ++p, dy += dy_row) {
    const int64_t at = position[p];
    NARAE_UNROLL
    for (int j = 0; j < NV; ++j) {
      const Vec<T> dy_p = load(dy + j * kVL);
      NARAE_UNROLL
      for (int t = 0; t < kTileTaps; ++t) acc[t][j] += load(x[t] + at + j * kVL) * dy_p;
    }
  }
  NARAE_UNROLL
  for (int t = 0; t < kTileTaps; ++t) {
    if (t < taps) {
      NARAE_UNROLL
      for (int j = 0; j < NV; ++j) {
        T* to = dw + place[t] + j * kVL;
        const int64_t lanes = smaller(cols - j * kVL, kVL);
        store_lanes<T>(to, accumulate ? load_lanes(to, lanes) + acc[t][j] : acc[t][j], lanes);
      }
    }
  }
}

// The last entry again, so that whole tiles may be read.
void repeat_last(int32_t* table, int64_t n, int64_t step) {
  for (int64_t i = n; i < round_up(n, step); ++i) table[i] = table[n - 1];
}

// Gathers columns [c0, c0 + cols) of each cell: the source's channel c serves columns c * M ... (a
// forward patch), or column c takes channel c * M + m (a gradient's).
template <class T>
void copy_columns(const Cut& cut, const Box& box, const Layout& layout, const T* source,
                  int64_t all, int64_t c0, int64_t cols, int64_t M, bool spread, int64_t m,
                  T* patch) {
  const int64_t padded = round_up(cols, kLanes<T>);
  copy_patch(cut, box, layout, source, all, M == 1 && cols == all && cols == padded, padded, patch,
             [&](T* to, const T* from, int64_t) {
               if (M == 1) {
                 copy(to, from + c0, cols);
               } else if (spread) {
                 from += c0 / M;
                 for (int64_t j = 0, next = M - c0 % M; j < cols; next += M, ++from) {
                   for (; j < smaller(next, cols); ++j) to[j] = *from;
                 }
               } else {
                 for (int64_t j = 0; j < cols; ++j) to[j] = from[(c0 + j) * M + m];
               }
               for (int64_t j = cols; j < padded; ++j) to[j] = T(0);
             });
}

// target[position, column] = act( sum_taps source[position, tap, channel(column)] * w[tap,
// w_column(column)] + bias[column] ), forward (a channel serves M columns) and backward (a column
// is the sum of its M channels).
template <class T>
struct Gather {
  Cut cut;
  bool forward;
  int64_t columns, source_channels, M;
  const ConvArgs<T>* args;

  Gather(const ConvArgs<T>& p, const Axis (&axis)[3], bool is_forward)
      : forward(is_forward), M(p.shape.F / p.shape.C), args(&p) {
    columns = forward ? p.shape.F : p.shape.C;
    source_channels = forward ? p.shape.C : p.shape.F;
    cut = make_cut(axis, p.shape.N, round_up(columns, kLanes<T>), sizeof(T), 1, kColumns<T>);
  }

  void chunk(int64_t positions_index, int64_t block) const {
    const Bench<T> bench;
    Box box;
    set_positions(cut, positions_index, box);
    const int64_t parts = cut.sums() / cut.channel_blocks, passes = forward ? 1 : M;
    int64_t positions = 0, c0 = 0, cols = 0;
    for (int64_t part = 0; part < parts * passes; ++part) {
      const int64_t m = part / parts;
      c0 = set_taps(cut, block * parts + part % parts, box);
      cols = smaller(cut.channels, columns - c0);
      const int64_t padded = round_up(cols, kLanes<T>);
      const Layout layout(cut, box, padded);
      const int64_t taps = tap_table(cut, box, layout, 1, bench.tap, [&](int64_t w_tap, int64_t t) {
        const T* w_t = args->b + w_tap * args->shape.F;
        T* to = bench.w + t * padded;
        for (int64_t j = 0; j < cols; ++j) to[j] = w_t[forward ? c0 + j : (c0 + j) * M + m];
        for (int64_t j = cols; j < padded; ++j) to[j] = T(0);
      });
      positions = position_tables(cut, box, layout, columns, bench.position, bench.place);
      repeat_last(bench.position, positions, kTilePositions);
      if (taps > 0) {
        copy_columns(cut, box, layout, args->a, source_channels, c0, cols, M, forward, m,
                     bench.patch);
      }
      for (int64_t j = 0; j < cols; j += 2 * kLanes<T>) {
        const auto run = cols - j > kLanes<T> ? tile<T, 2> : tile<T, 1>;
        for (int64_t i = 0; i < positions; i += kTilePositions) {
          run(positions - i, cols - j, taps, bench.patch + j, bench.position + i, bench.tap,
              bench.w + j, padded, args->out + c0 + j, bench.place + i, part > 0);
        }
      }
    }
    finish(bench.place, positions, c0, cols);
  }

  void finish(const int64_t* place, int64_t positions, int64_t c0, int64_t cols) const {
    const T* bias = args->bias;
    if (!bias && !args->activate) return;
    for (int64_t p = 0; p < positions; ++p) {
      T* y = args->out + place[p] + c0;
      if (bias) {
        for_lanes<T>(cols, [&](int64_t j, int64_t lanes) {
          store_lanes<T>(y + j, load_lanes(y + j, lanes) + load_lanes(bias + c0 + j, lanes), lanes);
        });
      }
      if (args->activate) args->activate(y, y, cols);
    }
  }

  void run() const {
    const int64_t blocks = cut.channel_blocks;
    const int64_t work = cut.images * cut.outs[0] * cut.outs[1] * cut.outs[2] * cut.channels *
                         cut.axis[0].taps * cut.axis[1].taps * cut.axis[2].taps;
    parallel_ranges(cut.position_boxes() * blocks, 1 + (int64_t{1} << 16) / (work + 1),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) chunk(i / blocks, i % blocks);
                    });
  }
};

template <class T>
void forward(const ConvArgs<T>& p) {
  const Axis axis[3] = {forward_axis(p.shape, 0), forward_axis(p.shape, 1),
                        forward_axis(p.shape, 2)};
  Gather<T>(p, axis, true).run();
}

template <class T>
void input_gradient(const ConvArgs<T>& p) {
  for_phases(p.shape, [&](const Axis(&axis)[3]) { Gather<T>(p, axis, false).run(); });
}

// dw[tap, column]: boxes of positions are summed in `splits` runs, each into its own copy of dw.
template <class T>
struct FilterGradient {
  ConvShape s;
  Cut cut;
  int64_t splits;

  explicit FilterGradient(const ConvShape& shape) : s(shape) {
    const Axis axis[3] = {forward_axis(s, 0), forward_axis(s, 1), forward_axis(s, 2)};
    cut = make_cut(axis, s.N, round_up(s.F, kLanes<T>), sizeof(T), 1, kColumns<T>);
    splits = smaller(ceil_divide(64, cut.sums()), smaller(cut.position_boxes(), 32));
    if (splits < 1) splits = 1;
  }

  int64_t size() const { return s.kernel[0] * s.kernel[1] * s.kernel[2] * s.F; }

  void task(int64_t split, int64_t sum, const T* x, const T* dy, T* dw) const {
    const Bench<T> bench;
    const int64_t M = s.F / s.C, boxes = cut.position_boxes();
    int64_t dw_row[Bench<T>::kSumTaps + kTileTaps];
    const int64_t first = boxes * split / splits;
    for (int64_t i = first; i < boxes * (split + 1) / splits; ++i) {
      Box box;
      set_positions(cut, i, box);
      const int64_t c0 = set_taps(cut, sum, box), cols = smaller(cut.channels, s.F - c0);
      const int64_t padded = round_up(cols, kLanes<T>);
      const Layout layout(cut, box, padded);
      const int64_t taps = tap_table(cut, box, layout, 1, bench.tap,
                                     [&](int64_t tap, int64_t t) { dw_row[t] = tap * s.F + c0; });
      repeat_last(bench.tap, taps, kTileTaps);
      const int64_t positions = position_tables(cut, box, layout, s.F, bench.position, bench.place);
      copy_columns(cut, box, layout, x, s.C, c0, cols, M, true, 0, bench.patch);
      for (int64_t p = 0; p < positions; ++p) {
        copy(bench.rows + p * padded, dy + bench.place[p] + c0, cols);
        for (int64_t j = cols; j < padded; ++j) bench.rows[p * padded + j] = T(0);
      }
      for (int64_t j = 0; j < cols; j += 2 * kLanes<T>) {
        const auto run = cols - j > kLanes<T> ? gradient_tile<T, 2> : gradient_tile<T, 1>;
        for (int64_t t = 0; t < taps; t += kTileTaps) {
          run(taps - t, cols - j, positions, bench.patch + j, bench.position, bench.tap + t,
              bench.rows + j, padded, dw + j, dw_row + t, i > first);
        }
      }
    }
  }
};

template <class T>
int64_t workspace(const ConvShape& s) {
  const FilterGradient<T> g(s);
  return g.splits > 1 ? g.splits * g.size() : 0;
}

template <class T>
void filter_gradient(const ConvArgs<T>& p) {
  const FilterGradient<T> g(p.shape);
  if (g.cut.position_boxes() == 0) return clear(p.out, g.size());
  const int64_t sums = g.cut.sums();
  parallel_for(g.splits * sums, [&](int64_t i) {
    g.task(i / sums, i % sums, p.a, p.b, g.splits > 1 ? p.workspace + i / sums * g.size() : p.out);
  });
  if (g.splits > 1) add_copies(p.workspace, g.splits, g.size(), p.out);
}

template <class T>
constexpr DepthwiseConv<T> kTable = {forward<T>, input_gradient<T>, workspace<T>,
                                     filter_gradient<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const DepthwiseConv<float>& implementation<DepthwiseConv<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const DepthwiseConv<double>& implementation<DepthwiseConv<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}

}  // namespace narae
