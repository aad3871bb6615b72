#include "kernels/conv.h"

#include "core/isa.h"
#include "kernels/blocks.h"
#include "kernels/patch.h"
#include "kernels/winograd.h"

namespace narae {
namespace NARAE_ISA {
namespace {

constexpr int64_t kMaxDepth = 4096;  // of one chunk: kMaxTaps, or kDepth rounded up

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

// Few columns, many channels: vectors run over channels, which a patch then has in whole registers.
template <class T>
bool narrow(int64_t channels, int64_t columns) {
  return !std::is_same_v<T, Pair> && columns <= kLanes<T> / 4 && channels >= kLanes<T>;
}

// The cut of a product of (taps, C channels) by columns. Padding a block of at least one register
// makes it twice as large at most.
template <class T>
Cut cut_for(const Axis (&axis)[3], int64_t N, int64_t C, int64_t columns) {
  return narrow<T>(C, columns) ? make_cut(axis, N, C, 2 * sizeof(T), kLanes<T>)
                               : make_cut(axis, N, C, sizeof(T));
}

// y[place[i]] (+)= sum_t,c patch[position[i] + tap[t] + c] * w[t * w_tap + c]
template <class T>
void narrow_forward(int64_t positions, int64_t taps, int64_t channels, const T* patch,
                    const int32_t* position, const int32_t* tap, const T* w, int64_t w_tap, T* y,
                    const int64_t* place, bool accumulate) {
  constexpr int kTile = 6;
  for (int64_t i = 0; i < positions; i += kTile) {
    const int64_t count = smaller(kTile, positions - i);
    const T* x[kTile];
    for (int j = 0; j < kTile; ++j) x[j] = patch + position[i + (j < count ? j : 0)];
    Vec<T> acc[kTile] = {};
    for (int64_t t = 0; t < taps; ++t) {
      for (int64_t c = 0; c < channels; c += kLanes<T>) {
        const Vec<T> w_c = load(w + t * w_tap + c);
        NARAE_UNROLL
        for (int j = 0; j < kTile; ++j) acc[j] += load(x[j] + tap[t] + c) * w_c;
      }
    }
    for (int j = 0; j < count; ++j) {
      T& to = y[place[i + j]];
      to = accumulate ? to + sum<T>(acc[j]) : sum<T>(acc[j]);
    }
  }
}

// dw[place[t] + c * dw_row] (+)= sum_p patch[position[p] + tap[t] + c] * dy[p * dy_row]
template <class T>
void narrow_gradient(int64_t taps, int64_t channels, int64_t padded, int64_t positions,
                     const T* patch, const int32_t* position, const int32_t* tap, const T* dy,
                     int64_t dy_row, T* dw, const int64_t* place, int64_t dw_row, bool accumulate) {
  constexpr int kTile = 6;
  const int64_t vectors = padded / kLanes<T>, n = taps * vectors;
  for (int64_t i = 0; i < n; i += kTile) {
    const int64_t count = smaller(kTile, n - i);
    const T* x[kTile];
    for (int j = 0; j < kTile; ++j) {
      const int64_t r = i + (j < count ? j : 0);
      x[j] = patch + tap[r / vectors] + r % vectors * kLanes<T>;
    }
    Vec<T> acc[kTile] = {};
    for (int64_t p = 0; p < positions; ++p) {
      const T dy_p = dy[p * dy_row];
      NARAE_UNROLL
      for (int j = 0; j < kTile; ++j) acc[j] += dy_p * load(x[j] + position[p]);
    }
    for (int j = 0; j < count; ++j) {
      const int64_t t = (i + j) / vectors, c = (i + j) % vectors * kLanes<T>;
      T lanes[kLanes<T>];
      store(lanes, acc[j]);
      for (int64_t l = 0; l < smaller(kLanes<T>, channels - c); ++l) {
        T& to = dw[place[t] + (c + l) * dw_row];
        to = accumulate ? to + lanes[l] : lanes[l];
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
void pad_rows(int32_t* row, int64_t rows) {
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
        for (int64_t n = 0; n < columns && is_narrow(); ++n) {
          narrow_forward(positions, depth, cell, bench.patch, bench.position, bench.tap,
                         b + n * cell, columns * cell, y + n, bench.place, sum > 0);
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

// Values of T that so many channels are.
template <class T>
int64_t cells(int64_t channels) {
  return std::is_same_v<T, Pair> ? channels / 2 : channels;
}

template <class T>
Gather<T> gather_forward(const ConvShape& s) {
  const Axis axis[3] = {forward_axis(s, 0), forward_axis(s, 1), forward_axis(s, 2)};
  Gather<T> g{};
  g.groups = s.groups;
  g.columns = s.F / s.groups;
  g.cut = cut_for<T>(axis, s.N, cells<T>(s.C / s.groups), g.columns);
  g.w_tap = s.C / s.groups * s.F, g.w_group = s.F / s.groups, g.w_row = s.F, g.w_col = 1;
  return g;
}

// visit(blocks, product) if `s` goes by Winograd's algorithm over blocks of cells; returns whether.
template <class T, template <class, int, int> class Algorithm, class Visit>
bool visit_blocks(const ConvShape& s, const Visit& visit) {
  if (!Blocks<T>::fit(s)) return false;
  const Blocks<T> blocks(s);
  const ConvShape& plain = blocks.plain;
  const Axis axis[3] = {forward_axis(plain, 0), forward_axis(plain, 1), forward_axis(plain, 2)};
  const auto fill = [&](auto& p) {
    p.N = s.N, p.C = plain.C, p.F = s.F, p.cell = blocks.cell, p.depth = blocks.taps() * s.C;
  };
  return visit_winograd<T, Algorithm>(axis, fill, [&](auto& p) { visit(blocks, p); });
}

template <class T>
int64_t forward_workspace(const ConvShape& s) {
  int64_t size = gather_forward<T>(s).packed_size();
  visit_blocks<T, Winograd>(s, [&](const Blocks<T>& blocks, const auto& product) {
    size = blocks.x_size() + blocks.w_size() + product.packed_size();
  });
  return size;
}

template <class T>
void forward(const ConvArgs<T>& p) {
  const auto by_blocks = [&](const Blocks<T>& blocks, auto& product) {
    T *x = p.workspace, *w = x + blocks.x_size();
    blocks.pack_x(p.a, x);
    blocks.pack_w(p.b, w);
    product.source = x, product.w = w, product.target = p.out;
    product.w_tap = blocks.plain.C * p.shape.F, product.w_row = p.shape.F, product.w_col = 1;
    product.bias = p.bias, product.activate = p.activate;
    product.packed = w + blocks.w_size();
    product.run();
  };
  if (visit_blocks<T, Winograd>(p.shape, by_blocks)) return;
  Gather<T> g = gather_forward<T>(p.shape);
  g.set_operands(p);
  g.run();
}

template <class T>
Gather<T> gather_gradient(const ConvShape& s, const Axis (&axis)[3]) {
  Gather<T> g{};
  g.groups = s.groups;
  g.columns = s.C / s.groups;
  g.cut = cut_for<T>(axis, s.N, cells<T>(s.F / s.groups), g.columns);
  g.w_tap = s.C / s.groups * s.F, g.w_group = s.F / s.groups, g.w_row = 1, g.w_col = s.F;
  return g;
}

template <class T>
int64_t input_gradient_workspace(const ConvShape& s) {
  int64_t size = 0;
  for_phases(s, [&](const Axis(&axis)[3]) {
    const int64_t needed = gather_gradient<T>(s, axis).packed_size();
    if (needed > size) size = needed;
  });
  return size;
}

template <class T>
void input_gradient(const ConvArgs<T>& p) {
  for_phases(p.shape, [&](const Axis(&axis)[3]) {
    Gather<T> g = gather_gradient<T>(p.shape, axis);
    g.set_operands(p);
    g.run();
  });
}

// dw[(tap, channel), f] = sum over positions: the boxes of positions are summed in `splits` runs,
// each into its own copy of dw, and the copies are added in order.
template <class T>
struct FilterGradient {
  ConvShape s;
  Cut cut;
  int64_t width, blocks;  // columns of one task
  int64_t splits;

  explicit FilterGradient(const ConvShape& shape) : s(shape) {
    const Axis axis[3] = {forward_axis(s, 0), forward_axis(s, 1), forward_axis(s, 2)};
    cut = cut_for<T>(axis, s.N, s.C / s.groups, s.F / s.groups);
    width = round_up(even_part(s.F / s.groups < 1 ? 1 : s.F / s.groups, 256), kNR<T>);
    blocks = ceil_divide(s.F / s.groups, width);
    const int64_t tasks = s.groups * cut.sums() * blocks + 1;
    const int64_t room = (int64_t{1} << 23) / (size() + 1);  // elements of all copies
    splits = smaller(ceil_divide(64, tasks), smaller(cut.position_boxes(), smaller(room, 32)));
    if (splits < 1) splits = 1;
  }

  int64_t size() const { return s.kernel[0] * s.kernel[1] * s.kernel[2] * (s.C / s.groups) * s.F; }

  int64_t workspace() const {
    int64_t needed = splits > 1 ? splits * size() : 0;
    visit_winograd(nullptr, nullptr, [&](const auto& sums) { needed = sums.workspace(); });
    return needed;
  }

  template <class Visit>
  bool visit_winograd(const T* x, const T* dy, const Visit& visit) const {
    const auto fill = [&](auto& p) {
      p.N = s.N, p.C = p.cell = s.C, p.F = s.F, p.depth = p.kTaps * s.C, p.x = x, p.dy = dy;
    };
    return s.groups == 1 &&
           NARAE_ISA::visit_winograd<T, WinogradFilterGradient>(cut.axis, fill, visit);
  }

  void task(int64_t split, int64_t g, int64_t sum, int64_t n0, const T* x, const T* dy,
            T* dw) const {
    const Bench<T> bench;
    const int64_t C = cut.C, F = s.F / s.groups, cols = smaller(width, F - n0);
    const int64_t boxes = cut.position_boxes(), first = boxes * split / splits;
    const bool is_narrow = narrow<T>(C, F);
    int64_t dy_row[kPositions];
    for (int64_t i = first; i < boxes * (split + 1) / splits; ++i) {
      Box box;
      set_positions(cut, i, box);
      const int64_t c0 = set_taps(cut, sum, box), channels = smaller(cut.channels, C - c0);
      const int64_t cell = is_narrow ? round_up(channels, kLanes<T>) : channels;
      const int64_t step = is_narrow ? 1 : channels;  // rows of the table for each tap
      const bool in_place = !is_narrow && cut.is_single(s.C);
      const Layout layout = in_place ? Layout(cut, s.C) : Layout(cut, box, cell);
      const T* patch = in_place ? x + g * C + c0 + first_cell(cut, box) * s.C : bench.patch;
      const auto place_tap = [&](int64_t tap, int64_t k) {
        for (int64_t c = 0; c < step; ++c) bench.place[k + c] = (tap * C + c0 + c) * s.F;
      };
      const int64_t rows = tap_table(cut, box, layout, step, bench.tap, place_tap);
      pad_rows(bench.tap, rows);
      const int64_t positions = position_tables(cut, box, layout, s.F, bench.position, dy_row);
      if (!in_place) {
        copy_patch(cut, box, layout, x + g * C + c0, s.C, cell == s.C, cell, bench.patch,
                   [&](T* to, const T* from, int64_t) { copy_padded(to, from, channels, cell); });
      }
      for (int64_t n = n0; n < n0 + cols; n += kNR<T>) {
        const int64_t strip = smaller(kNR<T>, F - n);
        T* to = dw + g * F + n;
        if (strip == kNR<T> && rows <= 2 * kMR) {  // too few to pay for a copy of dy
          multiply_strip<T, 2, false>(rows, strip, positions, patch, bench.tap, bench.position,
                                      dy + g * F + n, dy_row, to, bench.place, i > first);
          continue;
        }
        for (int64_t p = 0; p < positions; ++p) {
          copy_padded(bench.strip + p * kNR<T>, dy + dy_row[p] + g * F + n, strip, kNR<T>);
        }
        for (int64_t j = 0; j < strip && is_narrow; ++j) {
          narrow_gradient(rows, channels, cell, positions, bench.patch, bench.position, bench.tap,
                          bench.strip + j, kNR<T>, to + j, bench.place, s.F, i > first);
        }
        if (is_narrow) continue;
        multiply_packed(rows, strip, positions, patch, bench.tap, bench.position, bench.strip, to,
                        bench.place, i > first);
      }
    }
  }

  void run(const T* x, const T* dy, T* dw, T* copies) const {
    if (size() == 0) return;
    if (cut.position_boxes() == 0) return clear(dw, size());
    if (visit_winograd(x, dy, [&](const auto& sums) { sums.run(dw, copies); })) return;
    const int64_t sums = cut.sums();
    parallel_for(splits * s.groups * sums * blocks, [&](int64_t i) {
      const int64_t split = i / blocks / sums / s.groups;
      task(split, i / blocks / sums % s.groups, i / blocks % sums, i % blocks * width, x, dy,
           splits > 1 ? copies + split * size() : dw);
    });
    if (splits > 1) add_copies(copies, splits, size(), dw);
  }
};

// One tap, of stride 1 and without padding: dw = x^T dy, a product of matrices whose long sum over
// P positions runs in parts, each with its own copy of dw. Without tables of places n32 16x16 c128
// to 128 takes 1.75 instead of 1.95 ms, n32 32x32 c32 to 64 2.0 instead of 2.25 (Zen 4).
template <class T>
struct PointwiseFilterGradient {
  int64_t P, C, F;

  explicit PointwiseFilterGradient(const ConvShape& s)
      : P(s.N * s.in[0] * s.in[1] * s.in[2]), C(s.C), F(s.F) {}

  static bool fit(const ConvShape& s) {
    bool plain = s.groups == 1 && s.C >= kLanes<T> / 2 && s.F >= kLanes<T>;
    for (int a = 0; a < 3; ++a) {
      plain &= s.kernel[a] == 1 && s.stride[a] == 1 && s.in[a] == s.out[a] && s.before[a] == 0;
    }
    return plain;
  }

  int64_t size() const { return C * F; }
  int64_t parts() const {
    const int64_t room = (int64_t{1} << 22) / (size() + 1);  // elements of all copies
    const int64_t most = smaller(ceil_divide(P, 2 * kKC<T>), smaller(room, 16));
    return most < 1 ? 1 : most;
  }
  int64_t workspace() const { return parts() > 1 ? parts() * size() : 0; }

  // dw of positions [begin, end), a strip of dy at a time. x is read where it is. The first tile
  // of a strip asks for the next strip, those of the first one for the columns of x that are next.
  void sum(Range range, const T* x, const T* dy, T* dw) const {
    constexpr int64_t kSize = sizeof(T);
    T* strip = static_cast<T*>(scratch());
    for (int64_t p = range.begin; p < range.end; p += kKC<T>) {
      const int64_t depth = smaller(kKC<T>, range.end - p);
      for (int64_t f = 0; f < F; f += kNR<T>) {
        const int64_t cols = smaller(kNR<T>, F - f);
        const T* next = f + kNR<T> < F ? dy + p * F + f + kNR<T> : dy + (p + depth) * F;
        StridedB<T>{dy, F, 1}.pack(p, depth, f, cols, strip);
        for (int64_t c = 0; c < C; c += kMR) {
          Ahead ahead;
          const T* x_c = x + p * C + c;
          if (f == 0 && c + kMR < C) {
            const int64_t last = smaller(2 * kMR, C - c) - 1;
            ahead.a = {reinterpret_cast<const char*>(x_c + last), C * kSize, kRun * C * kSize};
          }
          if (c == 0) ahead.b = {last_line(next), F * kSize, kRun * F * kSize};
          tile<T, false>(smaller(kMR, C - c), cols, depth, x_c, 1, C, strip, kNR<T>, dw + c * F + f,
                         F, p > range.begin, nullptr, &ahead);
        }
      }
    }
  }

  void run(const T* x, const T* dy, T* dw, T* copies) const {
    if (P == 0) return clear(dw, size());
    const int64_t count = parts();
    parallel_for(count, [&](int64_t i) {
      sum(part(P, i, count), x, dy, count > 1 ? copies + i * size() : dw);
    });
    if (count > 1) add_copies(copies, count, size(), dw);
  }
};

template <class T>
int64_t filter_gradient_workspace(const ConvShape& s) {
  if (PointwiseFilterGradient<T>::fit(s)) return PointwiseFilterGradient<T>(s).workspace();
  int64_t size = FilterGradient<T>(s).workspace();
  visit_blocks<T, WinogradFilterGradient>(s, [&](const Blocks<T>& blocks, const auto& sums) {
    size = blocks.x_size() + blocks.w_size() + sums.workspace();
  });
  return size;
}

template <class T>
void filter_gradient(const ConvArgs<T>& p) {
  if (PointwiseFilterGradient<T>::fit(p.shape))
    return PointwiseFilterGradient<T>(p.shape).run(p.a, p.b, p.out, p.workspace);
  const auto by_blocks = [&](const Blocks<T>& blocks, auto& sums) {
    T *x = p.workspace, *dw = x + blocks.x_size();
    blocks.pack_x(p.a, x);
    sums.x = x, sums.dy = p.b;
    sums.run(dw, dw + blocks.w_size());
    blocks.unpack_dw(dw, p.out);
  };
  if (visit_blocks<T, WinogradFilterGradient>(p.shape, by_blocks)) return;
  FilterGradient<T>(p.shape).run(p.a, p.b, p.out, p.workspace);
}

template <class T>
void patches(const ConvShape& s, const T* x, T* rows) {
  const int64_t taps = s.kernel[0] * s.kernel[1] * s.kernel[2];
  parallel_for(s.N * s.out[0] * s.out[1] * s.out[2], [&](int64_t position) {
    T* to = rows + position * taps * s.C;
    for (int64_t tap = 0; tap < taps; ++tap, to += s.C) {
      int64_t o = position, k = tap, cell = 0, step = s.C;
      bool inside = true;
      for (int a = 2; a >= 0; --a) {
        const int64_t i =
            o % s.out[a] * s.stride[a] + k % s.kernel[a] * s.dilation[a] - s.before[a];
        inside = inside && i >= 0 && i < s.in[a];
        cell += i * step;
        o /= s.out[a], k /= s.kernel[a], step *= s.in[a];
      }
      inside ? copy(to, x + o * step + cell, s.C) : clear(to, s.C);
    }
  });
}

// ---- bfloat16 --------------------------------------------------------------------------------
//
// Where float goes by Winograd's algorithm, the products of its planes are of bfloat16 and all
// around them is float: U and V rounded to 8 bits leave an error of 1.1 % of y's deviation (random
// signs, 3 x 3 taps), a direct sum rounded once 0.2 %. Direct sums over channels are of pairs where
// that is their number. The rest is float's, with operands that are widened before it and a result
// that is rounded after it.

struct Sizes {
  int64_t x, w, y;

  explicit Sizes(const ConvShape& s)
      : x(s.N * s.C), w(s.groups ? s.C / s.groups * s.F : 0), y(s.N * s.F) {
    for (int a = 0; a < 3; ++a) x *= s.in[a], w *= s.kernel[a], y *= s.out[a];
  }
  int64_t all(const ConvShape& s) const { return x + w + y + s.C + s.F; }
};

void copy_all(const BFloat16* from, int64_t n, float* to) {
  parallel_ranges(n, int64_t{1} << 15, [&](int64_t begin, int64_t end) {
    for_lanes<float>(end - begin, [&](int64_t i, int64_t lanes) {
      store_lanes<float>(to + begin + i, load_lanes(from + begin + i, lanes), lanes);
    });
  });
}
void copy_all(const float* from, int64_t n, BFloat16* to) {
  parallel_ranges(n, int64_t{1} << 15, [&](int64_t begin, int64_t end) {
    for_lanes<float>(end - begin, [&](int64_t i, int64_t lanes) {
      store_lanes<BFloat16>(to + begin + i, load_lanes(from + begin + i, lanes), lanes);
    });
  });
}

// Runs float's kernel on operands of these sizes.
void run_widened(void (*kernel)(const ConvArgs<float>&), const ConvArgs<BFloat16>& p, int64_t a,
                 int64_t b, int64_t out, int64_t bias) {
  float* room = p.workspace;
  const auto widened = [&](const BFloat16* from, int64_t n) {
    float* to = room;
    copy_all(from, n, to);
    room += n;
    return to;
  };
  ConvArgs<float> q{};
  q.shape = p.shape, q.activate = p.activate;
  q.a = widened(p.a, a), q.b = widened(p.b, b);
  q.bias = p.bias ? widened(p.bias, bias) : nullptr;
  q.out = room, q.workspace = room + out;
  kernel(q);
  copy_all(q.out, out, p.out);
}

using P = Packed<BFloat16>;

// Direct sums over pairs of channels. Result and bias are float, at the start
// of the workspace, until all sums are complete.
bool in_pairs(int64_t channels, const ConvShape& s) {
  return std::is_same_v<P, Pair> && channels / s.groups % 2 == 0;
}

template <class T>
void run_in_pairs(Gather<T> g, const ConvArgs<BFloat16>& p, int64_t out) {
  if constexpr (std::is_same_v<T, Pair>) {
    const int64_t columns = g.groups * g.columns;
    float *y = p.workspace, *bias = y + out;
    if (p.bias) copy_all(p.bias, columns, bias);
    g.source = reinterpret_cast<const P*>(p.a), g.w = p.b, g.target = y;
    g.bias = p.bias ? bias : nullptr, g.activate = p.activate;
    g.packed = reinterpret_cast<P*>(bias + columns);
    g.run();
  }
}

template <>
int64_t forward_workspace<BFloat16>(const ConvShape& s) {
  const Sizes sizes(s);
  int64_t size = in_pairs(s.C, s) ? sizes.y + s.F + gather_forward<P>(s).packed_size()
                                  : sizes.all(s) + forward_workspace<float>(s);
  gather_forward<BFloat16>(s).visit_winograd([&](const auto& p) { size = p.packed_size(); });
  return size;
}

template <>
void forward<BFloat16>(const ConvArgs<BFloat16>& p) {
  Gather<BFloat16> g = gather_forward<BFloat16>(p.shape);
  g.set_operands(p);
  if (g.visit_winograd([](const auto& product) { product.run(); })) return;
  const Sizes sizes(p.shape);
  if (in_pairs(p.shape.C, p.shape)) {
    run_in_pairs(gather_forward<P>(p.shape), p, sizes.y);
    return copy_all(p.workspace, sizes.y, p.out);
  }
  run_widened(forward<float>, p, sizes.x, sizes.w, sizes.y, p.shape.F);
}

// The only phase of strides of 1.
Gather<BFloat16> gather_gradient(const ConvShape& s) {
  const Axis axis[3] = {gradient_axis(s, 0, 0), gradient_axis(s, 1, 0), gradient_axis(s, 2, 0)};
  return gather_gradient<BFloat16>(s, axis);
}
bool has_one_phase(const ConvShape& s) { return s.stride[0] * s.stride[1] * s.stride[2] == 1; }

template <>
int64_t input_gradient_workspace<BFloat16>(const ConvShape& s) {
  const Sizes sizes(s);
  int64_t size = in_pairs(s.F, s) ? sizes.x + s.C + input_gradient_workspace<P>(s)
                                  : sizes.all(s) + input_gradient_workspace<float>(s);
  if (has_one_phase(s))
    gather_gradient(s).visit_winograd([&](const auto& p) { size = p.packed_size(); });
  return size;
}

template <>
void input_gradient<BFloat16>(const ConvArgs<BFloat16>& p) {
  Gather<BFloat16> g = gather_gradient(p.shape);
  g.set_operands(p);
  if (has_one_phase(p.shape) && g.visit_winograd([](const auto& product) { product.run(); }))
    return;
  const Sizes sizes(p.shape);
  if (in_pairs(p.shape.F, p.shape)) {
    for_phases(p.shape, [&](const Axis(&axis)[3]) {
      run_in_pairs(gather_gradient<P>(p.shape, axis), p, sizes.x);
    });
    return copy_all(p.workspace, sizes.x, p.out);
  }
  run_widened(input_gradient<float>, p, sizes.y, sizes.w, sizes.x, p.shape.C);
}

// dw with pairs of positions that are neighbours along the innermost axis, as float copies that are
// added and rounded in the end. A row of an odd number of positions ends with a pair whose second
// dy is 0.
template <class T>
struct PairedFilterGradient : FilterGradient<T> {
  using Base = FilterGradient<T>;
  using Base::blocks, Base::cut, Base::s, Base::splits, Base::width;

  using Base::Base;

  int64_t workspace() const { return splits * Base::size(); }

  // Moves the box's cells to `cells` and pairs each value with the one a step of the stride later.
  void pair_patch(const Box& box, const Layout& layout, const BFloat16* x, int64_t channels,
                  BFloat16* cells, T* patch) const {
    copy_patch(cut, box, layout, x, s.C, channels == s.C, channels, cells,
               [&](BFloat16* to, const BFloat16* from, int64_t) { copy(to, from, channels); });
    const int64_t size = box.images * layout.image, step = layout.out_step[2] * layout.row[2];
    clear(cells + size, step + kLanes<T>);
    for (int64_t i = 0; i < size; i += kLanes<T>) {
      store(patch + i, load_terms(cells + i, step, 2, kLanes<T>));
    }
  }

  void task(int64_t split, int64_t g, int64_t sum, int64_t n0, const BFloat16* x,
            const BFloat16* dy, float* dw) const {
    const Bench<T> bench;
    auto* cells = reinterpret_cast<BFloat16*>(bench.tap + kMaxDepth + kMR);
    const int64_t C = cut.C, F = s.F / s.groups, cols = smaller(width, F - n0);
    const int64_t boxes = cut.position_boxes(), first = boxes * split / splits;
    for (int64_t i = first; i < boxes * (split + 1) / splits; ++i) {
      Box box;
      set_positions(cut, i, box);
      const int64_t c0 = set_taps(cut, sum, box), channels = smaller(cut.channels, C - c0);
      const Layout layout(cut, box, channels);
      pair_patch(box, layout, x + g * C + c0, channels, cells, bench.patch);
      const auto place_tap = [&](int64_t tap, int64_t k) {
        for (int64_t c = 0; c < channels; ++c) bench.place[k + c] = (tap * C + c0 + c) * s.F;
      };
      const int64_t rows = tap_table(cut, box, layout, channels, bench.tap, place_tap);
      pad_rows(bench.tap, rows);
      int64_t dy_row[kPositions], left[kPositions], pairs = 0;
      const int64_t positions = position_tables(cut, box, layout, s.F, bench.position, dy_row);
      for (int64_t p = 0; p < positions; ++pairs) {
        bench.position[pairs] = bench.position[p], dy_row[pairs] = dy_row[p];
        left[pairs] = smaller(2, box.outs[2] - p % box.outs[2]);
        p += left[pairs];
      }
      for (int64_t n = n0; n < n0 + cols; n += kNR<T>) {
        const int64_t strip = smaller(kNR<T>, F - n);
        for (int64_t p = 0; p < pairs; ++p) {
          StridedB<BFloat16>{dy + dy_row[p] + g * F + n, s.F, 1}.pack(0, left[p], 0, strip,
                                                                      bench.strip + p * kNR<T>);
        }
        multiply_packed(rows, strip, pairs, bench.patch, bench.tap, bench.position, bench.strip,
                        dw + g * F + n, bench.place, i > first);
      }
    }
  }

  void run(const BFloat16* x, const BFloat16* dy, BFloat16* dw, float* copies) const {
    const int64_t sums = cut.sums();
    parallel_for(splits * s.groups * sums * blocks, [&](int64_t i) {
      const int64_t split = i / blocks / sums / s.groups;
      task(split, i / blocks / sums % s.groups, i / blocks % sums, i % blocks * width, x, dy,
           copies + split * Base::size());
    });
    add_copies(copies, splits, Base::size(), dw);
  }
};
static_assert(2 * kPatchBytes + kPositions * 2 * kVecBytes + kMaxDepth * 12 +
                  (kPositions + 128) * 4 + 4 * kVecBytes <=
              static_cast<int64_t>(kScratchBytes));

// visit(sums of pairs) where there are such and there is something to sum.
template <class T, class Visit>
bool visit_pairs(const ConvShape& s, const Visit& visit) {
  if constexpr (std::is_same_v<T, Pair>) {
    const PairedFilterGradient<T> sums(s);
    if (sums.size() == 0 || sums.cut.position_boxes() == 0) return false;
    visit(sums);
    return true;
  }
  return false;
}

template <>
int64_t filter_gradient_workspace<BFloat16>(const ConvShape& s) {
  int64_t size = 0;
  const auto ask = [&](const auto& sums) { size = sums.workspace(); };
  if (FilterGradient<BFloat16>(s).visit_winograd(nullptr, nullptr, ask)) return size;
  if (visit_pairs<P>(s, ask)) return size;
  return Sizes(s).all(s) + filter_gradient_workspace<float>(s);
}

template <>
void filter_gradient<BFloat16>(const ConvArgs<BFloat16>& p) {
  const auto run = [&](const auto& sums) { sums.run(p.out, p.workspace); };
  if (FilterGradient<BFloat16>(p.shape).visit_winograd(p.a, p.b, run)) return;
  const auto run_pairs = [&](const auto& sums) { sums.run(p.a, p.b, p.out, p.workspace); };
  if (visit_pairs<P>(p.shape, run_pairs)) return;
  const Sizes sizes(p.shape);
  run_widened(filter_gradient<float>, p, sizes.x, sizes.y, sizes.w, 0);
}

template <class T>
constexpr Conv<T> kTable = {
    patches<T>,        forward_workspace<T>,         forward<T>,        input_gradient_workspace<T>,
    input_gradient<T>, filter_gradient_workspace<T>, filter_gradient<T>};

}  // namespace
}  // namespace NARAE_ISA

#if !defined(__AVX512BF16__)
template <>
const Conv<float>& implementation<Conv<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Conv<double>& implementation<Conv<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}
#endif
template <>
const Conv<BFloat16>& implementation<Conv<BFloat16>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<BFloat16>;
}

}  // namespace narae
