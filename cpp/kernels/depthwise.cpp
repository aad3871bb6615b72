// Depthwise convolution. Vectors run over channels, images are read where they are: one row of
// outputs after the other, a few neighbours at a time. Large images are bound by memory, small ones
// by loads and stores.
#include <type_traits>

#include "core/isa.h"
#include "kernels/conv.h"
#include "kernels/patch.h"

namespace narae {
namespace NARAE_ISA {
namespace {

constexpr int kTile = 8;          // positions: accumulators enough to hide a multiply-add's latency
constexpr int64_t kMostTaps = 3;  // of one run
constexpr int64_t kMostRuns = 32;  // of one pass over a row

// Of an output that is asked for before it is stored: n32 32x32 c64 of stride 2 (8 MB) with all
// gradients takes 1.34 instead of 1.47 ms; smaller ones, which stay in L3, lose 5 to 20 %.
constexpr int64_t kFarBytes = int64_t{1} << 23;

// Neighbouring taps share the cells they read, if outputs read every cell or every other one: 3
// taps for 8 outputs load 10 (17) registers instead of 24. A load takes as long as a multiply-add.
int64_t run_length(const Axis& a) { return a.reach == 1 && a.step <= 2 ? kMostTaps : 1; }

// The taps of a row of outputs that lie in rows of the image, some of them at a time, in runs. Of
// each run: how many taps, and of the first one for output 0 and channel 0 the cell along the row,
// the element of the source, the element of w.
struct Runs {
  int64_t taps[kMostRuns], cell[kMostRuns], x[kMostRuns], w[kMostRuns];
  int64_t count = 0;
};

// A row of outputs: its image, and its places along the outer axes.
struct Row {
  int64_t n, d, h;

  Row(int64_t index, int64_t D, int64_t H) : n(index / H / D), d(index / H % D), h(index % H) {}
};

// body(runs, first) for a row; `first` of its parts, maybe empty.
template <class Body>
void for_runs(const Axis (&axis)[3], int64_t C, int64_t w_step, const Row& row, const Body& body) {
  const auto& [d_axis, h_axis, a] = axis;
  const int64_t length = run_length(a);
  int64_t d = d_axis.first + row.d * d_axis.step;
  Runs runs;
  bool first = true;
  for (int64_t i = 0; i < d_axis.taps; ++i, d += d_axis.reach) {
    int64_t h = h_axis.first + row.h * h_axis.step;
    for (int64_t j = 0; j < h_axis.taps; ++j, h += h_axis.reach) {
      if (d < 0 || d >= d_axis.source || h < 0 || h >= h_axis.source) continue;
      const int64_t x_row = ((row.n * d_axis.source + d) * h_axis.source + h) * a.source;
      const int64_t w_row =
          (d_axis.w_first + i * d_axis.w_step) * h_axis.kernel + h_axis.w_first + j * h_axis.w_step;
      for (int64_t k = 0; k < a.taps; k += length) {
        const int64_t cell = a.first + k * a.reach;
        runs.taps[runs.count] = smaller(length, a.taps - k);
        runs.cell[runs.count] = cell;
        runs.x[runs.count] = (x_row + cell) * C;
        runs.w[runs.count++] = (w_row * a.kernel + a.w_first + k * a.w_step) * w_step;
        if (runs.count == kMostRuns) {
          body(runs, first);
          first = false, runs.count = 0;
        }
      }
    }
  }
  if (first || runs.count > 0) body(runs, first);
}

// Of each run the cells that outputs [o, o + kTile) read: bit j says whether the j-th lies in the
// image. Those of a single tap are as far apart as the outputs'.
struct Inside {
  uint32_t of[kMostRuns];

  Inside(const Axis& a, const Runs& runs, int64_t o) {
    for (int64_t t = 0; t < runs.count; ++t) {
      const int64_t cell = runs.cell[t] + o * a.step, taps = runs.taps[t];
      of[t] =
          taps == 1 ? bits(a, cell, a.step, kTile) : bits(a, cell, 1, (kTile - 1) * a.step + taps);
    }
  }
  static uint32_t bits(const Axis& a, int64_t cell, int64_t step, int64_t count) {
    if (cell >= 0 && cell + (count - 1) * step < a.source) return ~uint32_t{0};
    uint32_t inside = 0;
    for (int64_t j = 0; j < count; ++j, cell += step)
      inside |= uint32_t{cell >= 0 && cell < a.source} << j;
    return inside;
  }
};

// V: a register, or T itself.
template <class V, class T>
V get(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class V, class T>
void put(T* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

template <int kCount>
using Count = std::integral_constant<int, kCount>;

// body(taps, step) with the taps of a run and the step of its outputs, in cells, as constants.
template <class Body>
void with_constants(int64_t taps, int64_t step, const Body& body) {
  if (taps == 1) {
    body(Count<1>{}, Count<1>{});
  } else if (step == 1) {
    taps == 2 ? body(Count<2>{}, Count<1>{}) : body(Count<3>{}, Count<1>{});
  } else {
    taps == 2 ? body(Count<2>{}, Count<2>{}) : body(Count<3>{}, Count<2>{});
  }
}

// use(i, k, x[j]) for the outputs i and taps k of a run that read the cells j = i * kStep + k
// inside of the image. Every kTaps-th cell in turn: no sum waits for the one before.
template <class V, int kTaps, int kStep, class T, class Use>
void for_cells(uint32_t inside, const T* x, int64_t cell, const Use& use) {
  NARAE_UNROLL
  for (int first = 0; first < kTaps; ++first) {
    NARAE_UNROLL
    for (int j = first; j < (kTile - 1) * kStep + kTaps; j += kTaps) {
      if (!__builtin_expect(inside >> j & 1, 1)) continue;
      const V x_j = get<V>(x + j * cell);
      NARAE_UNROLL
      for (int k = 0; k < kTaps; ++k) {
        if (j >= k && (j - k) % kStep == 0 && (j - k) / kStep < kTile) use((j - k) / kStep, k, x_j);
      }
    }
  }
}

// body(V{}, channel, place) over C channels: whole registers, the last one moved back to end with
// the channels; if that must not be (`overlap` false) or C is less than a register, single ones.
template <class T, class Body>
void for_channels(int64_t C, bool overlap, const Body& body) {
  const int64_t whole = C / kLanes<T> * kLanes<T>, end = overlap && whole > 0 ? C : whole;
  for (int64_t c = 0; c < end; c += kLanes<T>) body(Vec<T>{}, smaller(c, C - kLanes<T>), c);
  for (int64_t c = end; c < C; ++c) body(T{}, c, c);
}

// Asks for a register of each of kTile outputs: to read in the next row, to write in the next tile.
template <class T>
void fetch(const T* x, int64_t step) {
  for (int64_t i = 0; i < kTile; ++i) __builtin_prefetch(x + i * step, 0, 2);
}
template <class T>
void fetch_to_write(const T* y, int64_t step) {
  for (int64_t i = 0; i < kTile; ++i) __builtin_prefetch(y + i * step, 1);
}

// x[i, t, k, c] is what output i and tap k of run t read, 0 outside of the image; x points to that
// of channel 0 of the first output and a run of offset 0. `ahead`: elements from the last tap's row
// to the one below, y_ahead: to the next tile; 0 where these need not be fetched.
//
// y[i, c] = start + sum_t,k x[i, t, k, c] * w[t, k, c] over the taps k of runs t, i < count; start:
// y itself, the bias or 0.
template <class T>
NARAE_FLATTEN void tile(const Runs& runs, const Inside& inside, const Axis& a, int64_t count,
                        int64_t C, bool overlap, const T* x, const T* w, int64_t ahead, T* y,
                        int64_t y_ahead, const T* bias, bool accumulate) {
  const int64_t step = a.step * C, y_step = a.place_step * C, w_step = a.w_step * C;
  for_channels<T>(C, overlap, [&](auto zero, int64_t c, int64_t) {
    using V = decltype(zero);
    T* to = y + c;
    V acc[kTile];
    NARAE_UNROLL
    for (int i = 0; i < kTile; ++i) {
      acc[i] = bias ? get<V>(bias + c) : V{};
      if (accumulate && i < count) acc[i] = get<V>(to + i * y_step);
    }
    for (int64_t t = 0; t < runs.count; ++t) {
      with_constants(runs.taps[t], a.step, [&](auto kTaps, auto kStep) {
        V w_t[kTaps];
        for (int k = 0; k < kTaps; ++k) w_t[k] = get<V>(w + runs.w[t] + c + k * w_step);
        for_cells<V, kTaps, kStep>(inside.of[t], x + runs.x[t] + c, kTaps == 1 ? step : C,
                                   [&](int i, int k, V x_i) { acc[i] += x_i * w_t[k]; });
      });
    }
    NARAE_UNROLL
    for (int i = 0; i < kTile; ++i) {
      if (i < count) put(to + i * y_step, acc[i]);
    }
    if (ahead > 0 && runs.count > 0) fetch(x + runs.x[runs.count - 1] + c + ahead, step);
    if (y_ahead > 0) fetch_to_write(to + y_ahead, y_step);
  });
}

// dw[t, k, place of c] += sum_i x[i, t, k, c] * dy[i, c] over i < count.
template <class T>
NARAE_FLATTEN void gradient_tile(const Runs& runs, const Inside& inside, const Axis& a,
                                 int64_t count, int64_t C, const T* x, T* dw, int64_t dw_step,
                                 int64_t ahead, const T* dy) {
  const int64_t step = a.step * C;
  for_channels<T>(C, true, [&](auto zero, int64_t c, int64_t place) {
    using V = decltype(zero);
    V dy_c[kTile];
    NARAE_UNROLL
    for (int i = 0; i < kTile; ++i) dy_c[i] = i < count ? get<V>(dy + i * C + c) : V{};
    for (int64_t t = 0; t < runs.count; ++t) {
      with_constants(runs.taps[t], a.step, [&](auto kTaps, auto kStep) {
        T* dw_t = dw + runs.w[t] + place;
        V acc[kTaps];
        for (int k = 0; k < kTaps; ++k) acc[k] = get<V>(dw_t + k * dw_step);
        for_cells<V, kTaps, kStep>(inside.of[t], x + runs.x[t] + c, kTaps == 1 ? step : C,
                                   [&](int i, int k, V x_i) {
                                     if (__builtin_expect(i < count, 1)) acc[k] += x_i * dy_c[i];
                                   });
        for (int k = 0; k < kTaps; ++k) put(dw_t + k * dw_step, acc[k]);
      });
    }
    if (runs.count > 0) fetch(x + runs.x[runs.count - 1] + c + ahead, step);
    fetch(dy + c + a.count * C, C);
  });
}

// target[o, c] = act( sum over taps of source * w + bias ), for one row.
template <class T>
void gather_row(const Axis (&axis)[3], int64_t C, const Row& row, const ConvArgs<T>& p,
                const T* source, T* target) {
  const Axis &d_axis = axis[0], &h_axis = axis[1], &a = axis[2];
  const int64_t d = d_axis.place + row.d * d_axis.place_step;
  const int64_t h = h_axis.place + row.h * h_axis.place_step;
  // The phases of a stride read the same rows: the first one asks for the next.
  const bool is_first_phase = h_axis.place == 0 && a.place == 0;
  const int64_t ahead = is_first_phase ? h_axis.step * a.source * C : 0;
  const int64_t step = a.step * C, y_step = a.place_step * C;
  const bool overlap = d_axis.taps * h_axis.taps * a.taps <= kMostRuns;  // one pass over the row
  const int64_t size = p.shape.N * d_axis.target * h_axis.target * a.target * C;
  const int64_t y_ahead = size * int64_t{sizeof(T)} < kFarBytes ? 0 : kTile * y_step;
  T* y = target + (((row.n * d_axis.target + d) * h_axis.target + h) * a.target + a.place) * C;
  for_runs(axis, C, C, row, [&](const Runs& runs, bool first) {
    for (int64_t o = 0; o < a.count; o += kTile) {
      tile(runs, Inside(a, runs, o), a, smaller(kTile, a.count - o), C, overlap, source + o * step,
           p.b, ahead, y + o * y_step, y_ahead, p.bias, !first);
    }
  });
  for (int64_t o = 0; p.activate && o < a.count; ++o) {
    p.activate(y + o * y_step, y + o * y_step, C);
  }
}

template <class T>
void gather(const Axis (&axis)[3], int64_t N, int64_t C, const ConvArgs<T>& p, const T* source,
            T* target) {
  const int64_t work = axis[2].count * axis[0].taps * axis[1].taps * axis[2].taps * C;
  const int64_t grain = 1 + (int64_t{1} << 17) / (work + 1), D = axis[0].count, H = axis[1].count;
  parallel_ranges(N * D * H, grain, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      gather_row(axis, C, Row(index, D, H), p, source, target);
    }
  });
}

// With M results of a channel x is repeated first, and dx summed at last: C * M channels.
template <class T>
void repeat(const T* x, int64_t n, int64_t M, T* to) {
  parallel_ranges(n, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t m = 0; m < M; ++m) to[i * M + m] = x[i];
    }
  });
}
template <class T>
void sum_repeated(const T* from, int64_t n, int64_t M, T* dx) {
  parallel_ranges(n, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T total = from[i * M];
      for (int64_t m = 1; m < M; ++m) total += from[i * M + m];
      dx[i] = total;
    }
  });
}

// Workspace: with M > 1 the repeated x.
template <class T>
struct Repeated {
  int64_t M, size;  // size of x

  explicit Repeated(const ConvShape& s)
      : M(s.F / s.C), size(s.N * s.in[0] * s.in[1] * s.in[2] * s.C) {}
  int64_t workspace() const { return M > 1 ? size * M : 0; }

  const T* x(const ConvArgs<T>& p) const {
    if (M == 1) return p.a;
    repeat(p.a, size, M, p.workspace);
    return p.workspace;
  }
};

template <class T>
int64_t workspace(const ConvShape& s) {
  return Repeated<T>(s).workspace();
}

template <class T>
void forward(const ConvArgs<T>& p) {
  const ConvShape& s = p.shape;
  const Axis axis[3] = {forward_axis(s, 0), forward_axis(s, 1), forward_axis(s, 2)};
  const T* x = Repeated<T>(s).x(p);
  gather(axis, s.N, s.F, p, x, p.out);
}

// The axis of each phase of the stride, those of usual strides made once.
struct Phases {
  static constexpr int64_t kMade = 4;

  const ConvShape& s;
  int a;
  Axis made[kMade];

  Phases(const ConvShape& shape, int axis) : s(shape), a(axis) {
    for (int64_t i = 0; i < kMade; ++i) made[i] = gradient_axis(s, a, i);
  }
  int64_t count() const { return smaller(s.stride[a], s.in[a]); }
  Axis of(int64_t cell) const {
    const int64_t phase = cell % s.stride[a];
    return phase < kMade ? made[phase] : gradient_axis(s, a, phase);
  }
};

// Row by row of dx, and of each all phases along it: memory is written from end to end. Stride 2 on
// n32 32x32 c64 takes 0.94 ms, phase by phase 1.31 (Zen 4).
template <class T>
void input_gradient(const ConvArgs<T>& p) {
  const ConvShape& s = p.shape;
  const Repeated<T> repeated(s);
  T* dx = repeated.M > 1 ? p.workspace : p.out;
  const Phases d_phases(s, 0), h_phases(s, 1), w_phases(s, 2);
  const int64_t D = s.in[0], H = s.in[1];
  const int64_t taps =
      1 + s.kernel[0] * s.kernel[1] * s.kernel[2] / (s.stride[0] * s.stride[1] * s.stride[2]);
  const int64_t grain = 1 + (int64_t{1} << 17) / (s.in[2] * taps * s.F + 1);
  parallel_ranges(s.N * D * H, grain, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      Row row(index, D, H);
      Axis axis[3] = {d_phases.of(row.d), h_phases.of(row.h), {}};
      row.d /= s.stride[0], row.h /= s.stride[1];
      for (int64_t w = 0; w < w_phases.count(); ++w) {
        axis[2] = w_phases.of(w);
        gather_row(axis, s.F, row, p, p.a, dx);
      }
    }
  });
  if (repeated.M > 1) sum_repeated(dx, repeated.size, repeated.M, p.out);
}

// The rows of dy are summed in `splits` runs, each into its own copy of dw, whose rows are made of
// whole registers; the copies are added in order.
template <class T>
struct FilterGradient {
  ConvShape s;

  int64_t taps() const { return s.kernel[0] * s.kernel[1] * s.kernel[2]; }
  int64_t rows() const { return s.N * s.out[0] * s.out[1]; }
  int64_t splits() const { return rows() < 1 ? 1 : smaller(rows(), 32); }
  int64_t row() const { return s.F < kLanes<T> ? s.F : round_up(s.F, kLanes<T>); }
  int64_t copy_size() const { return taps() * row(); }
  int64_t workspace() const { return (splits() + 1) * copy_size(); }

  void sum_row(int64_t index, const T* x, const T* dy, T* dw) const {
    const Axis axis[3] = {forward_axis(s, 0), forward_axis(s, 1), forward_axis(s, 2)};
    const Axis& a = axis[2];
    const int64_t C = s.F, ahead = axis[1].step * a.source * C;
    for_runs(axis, C, row(), Row(index, s.out[0], s.out[1]), [&](const Runs& runs, bool) {
      for (int64_t o = 0; o < a.count; o += kTile) {
        gradient_tile(runs, Inside(a, runs, o), a, smaller(kTile, a.count - o), C,
                      x + o * a.step * C, dw, row(), ahead, dy + (index * a.count + o) * C);
      }
    });
  }

  void run(const T* x, const T* dy, T* dw, T* copies) const {
    const int64_t size = copy_size(), whole = s.F / kLanes<T> * kLanes<T>;
    parallel_for(splits(), [&](int64_t i) {
      clear(copies + i * size, size);
      const Range range = part(rows(), i, splits());
      for (int64_t index = range.begin; index < range.end; ++index) {
        sum_row(index, x, dy, copies + i * size);
      }
    });
    T* sums = copies + splits() * size;
    add_copies(copies, splits(), size, sums);
    for (int64_t t = 0; t < taps(); ++t) {
      for (int64_t c = 0; c < s.F; ++c)
        dw[t * s.F + c] = sums[t * row() + (c < whole ? c : c + row() - s.F)];
    }
  }
};

template <class T>
int64_t filter_gradient_workspace(const ConvShape& s) {
  return workspace<T>(s) + FilterGradient<T>{s}.workspace();
}

template <class T>
void filter_gradient(const ConvArgs<T>& p) {
  const T* x = Repeated<T>(p.shape).x(p);
  FilterGradient<T>{p.shape}.run(x, p.b, p.out, p.workspace + workspace<T>(p.shape));
}

template <class T>
constexpr DepthwiseConv<T> kTable = {
    workspace<T>,      forward<T>, workspace<T>, input_gradient<T>, filter_gradient_workspace<T>,
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
