// Depthwise convolution. Vectors run over channels, images are read where they are: one row of
// outputs after the other, a few neighbours at a time. Bound by memory.
#include <type_traits>

#include "core/isa.h"
#include "kernels/conv.h"
#include "kernels/patch.h"

namespace narae {
namespace NARAE_ISA {
namespace {

constexpr int kTile = 8;  // positions: accumulators enough to hide a multiply-add's latency
constexpr int64_t kMostTaps = 64;  // of one pass over a row

// The taps of a row of outputs that lie in rows of the image, some of them at a time, for output 0
// and channel 0: the cell along the row, the element of the source, the element of w.
struct Taps {
  int64_t cell[kMostTaps], x[kMostTaps], w[kMostTaps];
  int64_t count = 0;
};

// run(taps, first) for the row `index` of (N, out[0], out[1]); `first` of its parts, maybe empty.
template <class Run>
void for_taps(const Axis (&axis)[3], int64_t C, int64_t w_step, int64_t index, const Run& run) {
  const auto& [d_axis, h_axis, a] = axis;
  const int64_t n = index / h_axis.count / d_axis.count;
  int64_t d = d_axis.first + index / h_axis.count % d_axis.count * d_axis.step;
  Taps taps;
  bool first = true;
  for (int64_t i = 0; i < d_axis.taps; ++i, d += d_axis.reach) {
    int64_t h = h_axis.first + index % h_axis.count * h_axis.step;
    for (int64_t j = 0; j < h_axis.taps; ++j, h += h_axis.reach) {
      if (d < 0 || d >= d_axis.source || h < 0 || h >= h_axis.source) continue;
      const int64_t row = ((n * d_axis.source + d) * h_axis.source + h) * a.source;
      const int64_t w_row =
          (d_axis.w_first + i * d_axis.w_step) * h_axis.kernel + h_axis.w_first + j * h_axis.w_step;
      for (int64_t k = 0; k < a.taps; ++k) {
        const int64_t cell = a.first + k * a.reach;
        taps.cell[taps.count] = cell;
        taps.x[taps.count] = (row + cell) * C;
        taps.w[taps.count++] = (w_row * a.kernel + a.w_first + k * a.w_step) * w_step;
        if (taps.count == kMostTaps) {
          run(taps, first);
          first = false, taps.count = 0;
        }
      }
    }
  }
  if (first || taps.count > 0) run(taps, first);
}

// Where the taps of kTile neighbours read; cells outside of the image read zeros, positions from
// `count` on what the last one does.
template <class T>
struct Cells {
  const T* x[kMostTaps][kTile];

  Cells(const Axis& a, const Taps& taps, int64_t o, int64_t count, const T* source, int64_t C,
        const T* zeros) {
    int64_t moved[kTile];
    for (int64_t i = 0; i < kTile; ++i) moved[i] = (o + smaller(i, count - 1)) * a.step;
    for (int64_t t = 0; t < taps.count; ++t) {
      const T* x_t = source + taps.x[t];
      for (int64_t i = 0; i < kTile; ++i) {
        const int64_t cell = taps.cell[t] + moved[i];
        const bool inside = (cell >= 0) & (cell < a.source);
        x[t][i] = inside ? x_t + moved[i] * C : zeros;
      }
    }
  }
};

// Outputs [o, o + kTile) of a row with all their taps inside of the image.
bool is_inside(const Axis& a, int64_t o) {
  return o + kTile <= a.count && a.first + o * a.step >= 0 &&
         a.first + (o + kTile - 1) * a.step + (a.taps - 1) * a.reach < a.source;
}

// V: a register, or T itself.
template <class V, class T>
V read(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class V, class T>
void write(T* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

// body(V{}, channel, place) over C channels: whole registers, the last one moved back to end with
// the channels; if that must not be (`overlap` false) or C is less than a register, single ones.
template <class T, class Body>
void for_channels(int64_t C, bool overlap, const Body& body) {
  const int64_t whole = C / kLanes<T> * kLanes<T>, end = overlap && whole > 0 ? C : whole;
  for (int64_t c = 0; c < end; c += kLanes<T>) body(Vec<T>{}, smaller(c, C - kLanes<T>), c);
  for (int64_t c = end; c < C; ++c) body(T{}, c, c);
}

// y[i, c] = start + sum_t x(t, i)[c] * w(t)[c] for i < count; start: y itself, the bias or 0.
// `ahead`: elements from the last tap's row to the one below, fetched for the next outputs, as
// these are themselves: n32 32x32 c32 takes 0.45 instead of 0.51 ms.
template <class T, class X, class W>
void tile(int64_t taps, int64_t count, int64_t C, bool overlap, const X& x, const W& w,
          int64_t ahead, T* y, int64_t y_step, const T* bias, bool accumulate) {
  for_channels<T>(C, overlap, [&](auto zero, int64_t c, int64_t) {
    using V = decltype(zero);
    T* to = y + c;
    V acc[kTile];
    NARAE_UNROLL
    for (int i = 0; i < kTile; ++i) {
      acc[i] = bias ? read<V>(bias + c) : V{};
      if (accumulate && i < count) acc[i] = read<V>(to + i * y_step);
    }
    for (int64_t t = 0; t < taps; ++t) {
      const V w_t = read<V>(w(t) + c);
      NARAE_UNROLL
      for (int i = 0; i < kTile; ++i) acc[i] += read<V>(x(t, i) + c) * w_t;
    }
    NARAE_UNROLL
    for (int i = 0; i < kTile; ++i) {
      if (i < count) write(to + i * y_step, acc[i]);
    }
    for (int64_t i = 0; taps > 0 && i < kTile; ++i) {
      __builtin_prefetch(x(taps - 1, i) + c + ahead, 0, 2);
      __builtin_prefetch(to + (kTile + i) * y_step, 1);
    }
  });
}

// dw(t)[place of c] += sum_i x(t, i)[c] * dy[i * C + c] for kTaps taps from t on, i < count.
template <class T, int kTaps, class X, class W>
void gradient_tile(int64_t t, int64_t count, int64_t C, const X& x, const W& dw, int64_t ahead,
                   const T* dy) {
  for_channels<T>(C, true, [&](auto zero, int64_t c, int64_t place) {
    using V = decltype(zero);
    V acc[kTaps];
    NARAE_UNROLL
    for (int k = 0; k < kTaps; ++k) acc[k] = read<V>(dw(t + k) + place);
    for (int64_t i = 0; i < count; ++i) {
      const V dy_i = read<V>(dy + i * C + c);
      NARAE_UNROLL
      for (int k = 0; k < kTaps; ++k) acc[k] += read<V>(x(t + k, i) + c) * dy_i;
      __builtin_prefetch(x(t + kTaps - 1, i) + c + ahead, 0, 2);
      __builtin_prefetch(dy + i * C + c + ahead, 0, 2);
    }
    NARAE_UNROLL
    for (int k = 0; k < kTaps; ++k) write(dw(t + k) + place, acc[k]);
  });
}

// target[o, c] = act( sum over taps of source * w + bias ), for one row.
template <class T>
void gather_row(const Axis (&axis)[3], int64_t C, int64_t index, const ConvArgs<T>& p,
                const T* source, T* target, const T* zeros) {
  const Axis &d_axis = axis[0], &h_axis = axis[1], &a = axis[2];
  const int64_t n = index / h_axis.count / d_axis.count;
  const int64_t d = d_axis.place + index / h_axis.count % d_axis.count * d_axis.place_step;
  const int64_t h = h_axis.place + index % h_axis.count * h_axis.place_step;
  const int64_t step = a.step * C, y_step = a.place_step * C, ahead = h_axis.step * a.source * C;
  const bool overlap = d_axis.taps * h_axis.taps * a.taps <= kMostTaps;
  T* y = target + (((n * d_axis.target + d) * h_axis.target + h) * a.target + a.place) * C;
  for_taps(axis, C, C, index, [&](const Taps& taps, bool first) {
    const auto w = [&](int64_t t) { return p.b + taps.w[t]; };
    for (int64_t o = 0; o < a.count; o += kTile) {
      const auto run = [&](int64_t count, const auto& x) {
        tile(taps.count, count, C, overlap, x, w, ahead, y + o * y_step, y_step, p.bias, !first);
      };
      if (is_inside(a, o)) {
        const T* at = source + o * step;
        run(kTile, [&](int64_t t, int64_t i) { return at + taps.x[t] + i * step; });
      } else {
        const int64_t count = smaller(kTile, a.count - o);
        const Cells<T> cells(a, taps, o, count, source, C, zeros);
        run(count, [&](int64_t t, int64_t i) { return cells.x[t][i]; });
      }
    }
  });
  for (int64_t o = 0; p.activate && o < a.count; ++o) {
    p.activate(y + o * y_step, y + o * y_step, C);
  }
}

template <class T>
void gather(const Axis (&axis)[3], int64_t N, int64_t C, const ConvArgs<T>& p, const T* source,
            T* target, const T* zeros) {
  const int64_t work = axis[2].count * axis[0].taps * axis[1].taps * axis[2].taps * C;
  const int64_t grain = 1 + (int64_t{1} << 17) / (work + 1);
  parallel_ranges(N * axis[0].count * axis[1].count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      gather_row(axis, C, index, p, source, target, zeros);
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

// Workspace: C * M zeros, and with M > 1 the repeated x.
template <class T>
struct Repeated {
  int64_t M, channels, size;  // size of x

  explicit Repeated(const ConvShape& s)
      : M(s.F / s.C), channels(s.F), size(s.N * s.in[0] * s.in[1] * s.in[2] * s.C) {}
  int64_t workspace() const { return channels + (M > 1 ? size * M : 0); }

  const T* x(const ConvArgs<T>& p) const {
    clear(p.workspace, channels);
    if (M == 1) return p.a;
    repeat(p.a, size, M, p.workspace + channels);
    return p.workspace + channels;
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
  gather(axis, s.N, s.F, p, x, p.out, p.workspace);
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
  T* dx = repeated.M > 1 ? p.workspace + s.F : p.out;
  clear(p.workspace, s.F);
  const Phases d_phases(s, 0), h_phases(s, 1), w_phases(s, 2);
  const int64_t D = s.in[0], H = s.in[1];
  const int64_t taps =
      1 + s.kernel[0] * s.kernel[1] * s.kernel[2] / (s.stride[0] * s.stride[1] * s.stride[2]);
  const int64_t grain = 1 + (int64_t{1} << 17) / (s.in[2] * taps * s.F + 1);
  parallel_ranges(s.N * D * H, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t n = row / H / D, d = row / H % D, h = row % H;
      for (int64_t w = 0; w < w_phases.count(); ++w) {
        const Axis axis[3] = {d_phases.of(d), h_phases.of(h), w_phases.of(w)};
        const int64_t place = n * axis[0].count + d / s.stride[0];
        gather_row(axis, s.F, place * axis[1].count + h / s.stride[1], p, p.a, dx, p.workspace);
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

  void sum_row(int64_t index, const T* x, const T* dy, T* dw, const T* zeros) const {
    const Axis axis[3] = {forward_axis(s, 0), forward_axis(s, 1), forward_axis(s, 2)};
    const Axis& a = axis[2];
    const int64_t C = s.F, step = a.step * C, ahead = axis[1].step * a.source * C;
    for_taps(axis, C, row(), index, [&](const Taps& taps, bool) {
      const auto dw_t = [&](int64_t t) { return dw + taps.w[t]; };
      for (int64_t o = 0; o < a.count; o += kTile) {
        const T* dy_o = dy + (index * a.count + o) * C;
        const int64_t count = smaller(kTile, a.count - o);
        const auto run = [&](const auto& x_t) {
          int64_t t = 0;
          const auto tiles = [&](auto kTaps) {
            for (; t + kTaps <= taps.count; t += kTaps)
              gradient_tile<T, kTaps>(t, count, C, x_t, dw_t, ahead, dy_o);
          };
          tiles(std::integral_constant<int, 9>{});
          tiles(std::integral_constant<int, 3>{});
          tiles(std::integral_constant<int, 1>{});
        };
        if (is_inside(a, o)) {
          const T* at = x + o * step;
          run([&](int64_t t, int64_t i) { return at + taps.x[t] + i * step; });
        } else {
          const Cells<T> cells(a, taps, o, count, x, C, zeros);
          run([&](int64_t t, int64_t i) { return cells.x[t][i]; });
        }
      }
    });
  }

  void run(const T* x, const T* dy, T* dw, const T* zeros, T* copies) const {
    const int64_t size = copy_size(), whole = s.F / kLanes<T> * kLanes<T>;
    parallel_for(splits(), [&](int64_t i) {
      clear(copies + i * size, size);
      const Range range = part(rows(), i, splits());
      for (int64_t index = range.begin; index < range.end; ++index) {
        sum_row(index, x, dy, copies + i * size, zeros);
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
  FilterGradient<T>{p.shape}.run(x, p.b, p.out, p.workspace, p.workspace + workspace<T>(p.shape));
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
