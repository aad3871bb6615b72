#include "kernels/pool.h"

#include "core/isa.h"
#include "core/parallel.h"
#include "core/vec.h"

namespace narae {
namespace NARAE_ISA {
namespace {

using std::int64_t;

struct Range {
  int64_t begin, end;
};

struct Cell {
  int64_t d, h, w;
  int64_t offset;  // of its first channel in an image
};

// The cells of a range along each axis.
struct Box {
  Range d, h, w;

  int64_t cells() const { return (d.end - d.begin) * (h.end - h.begin) * (w.end - w.begin); }
  // No later than the cell, along every axis; before it, along one of them.
  bool begins_by(const Cell& c) const { return d.begin <= c.d && h.begin <= c.h && w.begin <= c.w; }
  bool ends_before(const Cell& c) const { return d.end <= c.d || h.end <= c.h || w.end <= c.w; }
  bool ends_before(const Box& b) const {
    return d.end < b.d.end || h.end < b.h.end || w.end < b.w.end;
  }

  // body(cell) in row-major order
  template <class Body>
  NARAE_INLINE void for_cells(const PoolShape& s, const Body& body) const {
    for (int64_t i = d.begin; i < d.end; ++i) {
      for (int64_t j = h.begin; j < h.end; ++j) {
        int64_t offset = ((i * s.in[1] + j) * s.in[2] + w.begin) * s.C;
        for (int64_t k = w.begin; k < w.end; ++k, offset += s.C) body(Cell{i, j, k, offset});
      }
    }
  }
};

int64_t clip(int64_t cell, int64_t size) { return cell < 0 ? 0 : cell > size ? size : cell; }

Range window_along(const PoolShape& s, int a, int64_t o) {
  const int64_t first = o * s.stride[a] - s.before[a];
  return {clip(first, s.in[a]), clip(first + s.window[a], s.in[a])};
}

// The territories of the outputs part the image: a cell belongs to the first window that it is in,
// or to the last one before it. Of windows that do not overlap: each one and the gap behind it.
Range territory_along(const PoolShape& s, int a, int64_t o) {
  const int64_t reach = s.window[a] > s.stride[a] ? s.window[a] : s.stride[a];
  const int64_t end = o * s.stride[a] - s.before[a] + reach;
  return {o == 0 ? 0 : clip(end - s.stride[a], s.in[a]),
          o + 1 == s.out[a] ? s.in[a] : clip(end, s.in[a])};
}

int64_t image_size(const PoolShape& s) { return s.in[0] * s.in[1] * s.in[2] * s.C; }

// body(window, territory, offset of the cell in y, n) for every output of rows [begin, end) of y.
template <class Body>
NARAE_INLINE void for_outputs(const PoolShape& s, int64_t begin, int64_t end, const Body& body) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t d = row / s.out[1] % s.out[0], h = row % s.out[1];
    Box window{window_along(s, 0, d), window_along(s, 1, h), {}};
    Box territory{territory_along(s, 0, d), territory_along(s, 1, h), {}};
    for (int64_t w = 0; w < s.out[2]; ++w) {
      window.w = window_along(s, 2, w), territory.w = territory_along(s, 2, w);
      body(window, territory, (row * s.out[2] + w) * s.C, row / s.out[1] / s.out[0]);
    }
  }
}

// How far it is to the same cell of the next row of windows, where that is to be fetched ahead: 3 x
// 3 windows on 8 x 113 x 113 x 64 take 1.4 instead of 1.7 ms on Zen 4 and 0.8 instead of 1.6 on Zen
// 5, which gains from small images too. Zen 4 sees to those itself: 32 x 32 x 32 x 64 would take
// 0.28 instead of 0.24 ms.
int64_t ahead(const PoolShape& s) {
  constexpr int64_t kFarCells = 8192;  // 32 KiB
  const int64_t cells = s.stride[1] * s.in[2] * s.C;
  return fetch_distance() > 0 || cells > kFarCells ? cells : 0;
}

// y = finish(fold of the window's cells by combine), 4 registers of channels at a time.
template <class T, class Combine, class Finish>
void forward(const PoolShape& s, const T* x, T* y, Real<T> start, const Combine& combine,
             const Finish& finish) {
  constexpr int kVL = kLanes<T>;
  const int64_t work = s.out[2] * s.C * s.window[0] * s.window[1] * s.window[2];
  const int64_t grain = 1 + (int64_t{1} << 15) / (work + 1);
  const int64_t fetched = ahead(s);
  parallel_ranges(s.N * s.out[0] * s.out[1], grain, [&](int64_t begin, int64_t end) {
    for_outputs(s, begin, end, [&](const Box& window, const Box&, int64_t at, int64_t n) {
      const T* x_n = x + n * image_size(s);
      const int64_t cells = window.cells();
      int64_t c = 0;
      for (; c + 4 * kVL <= s.C; c += 4 * kVL) {
        Vec<T> acc[4];
        NARAE_UNROLL
        for (int j = 0; j < 4; ++j) acc[j] = broadcast(start);
        window.for_cells(s, [&](const Cell& cell) {
          const T* x_c = x_n + cell.offset + c;
          NARAE_UNROLL
          for (int j = 0; j < 4; ++j) {
            __builtin_prefetch(x_c + j * kVL + fetched);
            acc[j] = combine(acc[j], load(x_c + j * kVL));
          }
        });
        NARAE_UNROLL
        for (int j = 0; j < 4; ++j) store(y + at + c + j * kVL, finish(acc[j], cells));
      }
      for_lanes<T>(s.C - c, [&](int64_t offset, int64_t lanes) {
        Vec<T> acc = broadcast(start);
        window.for_cells(s, [&](const Cell& cell) {
          acc = combine(acc, load_lanes(x_n + cell.offset + c + offset, lanes));
        });
        store_lanes<T>(y + at + c + offset, finish(acc, cells), lanes);
      });
    });
  });
}

// Some channels of one output's cells of dx. What comes first to a cell is stored, the rest added:
// where windows do not overlap each element is written once, and nothing read.
template <class T>
struct Target {
  const PoolShape& s;
  const Box &window, &territory;
  T* dx;  // of the image's first cell
  int64_t lanes;

  void add(const Cell& cell, Vec<T> value) const {
    T* to = dx + cell.offset;
    const bool is_first = territory.begins_by(cell);
    store_lanes<T>(to, is_first ? value : load_lanes(to, lanes) + value, lanes);
  }
  void clear_gap() const {
    if (!window.ends_before(territory)) return;
    territory.for_cells(s, [&](const Cell& cell) {
      if (window.ends_before(cell)) store_lanes<T>(dx + cell.offset, Vec<T>{}, lanes);
    });
  }
};

// Scatters into dx: a task owns some channels of one image. body(target, offset in y, offset in x)
// for each window.
template <class T, class Body>
NARAE_FLATTEN void backward(const PoolShape& s, T* dx, const Body& body) {
  const int64_t width = s.N >= 16 || s.C <= 4 * kLanes<T> ? s.C : 4 * kLanes<T>;
  if (s.C == 0) return;
  const int64_t blocks = (s.C + width - 1) / width, rows = s.out[0] * s.out[1];
  const int64_t grain = 1 + (int64_t{1} << 15) / (image_size(s) / s.C * width + 1);
  parallel_ranges(s.N * blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t n = task / blocks, c = task % blocks * width;
      const int64_t channels = c + width > s.C ? s.C - c : width, from = n * image_size(s) + c;
      const auto output = [&](const Box& window, const Box& territory, int64_t at, int64_t) {
        for_lanes<T>(channels, [&](int64_t j, int64_t lanes) {
          const Target<T> target{s, window, territory, dx + from + j, lanes};
          body(target, at + c + j, from + j);
          target.clear_gap();
        });
      };
      for_outputs(s, n * rows, (n + 1) * rows, output);
    }
  });
}

template <class T>
void max_forward(PoolShape s, const T* x, T* y) {
  forward<T>(
      s, x, y, -Real<T>(__builtin_inf()), [](Vec<T> a, Vec<T> b) { return max<T>(a, b); },
      [](Vec<T> a, int64_t) { return a; });
}

template <class T>
void max_backward(PoolShape s, const T* dy, const T* x, const T* y, T* dx) {
  const int64_t fetched = ahead(s);
  backward<T>(s, dx, [&](const Target<T>& target, int64_t at, int64_t from) {
    const Vec<T> y_o = load_lanes(y + at, target.lanes), dy_o = load_lanes(dy + at, target.lanes);
    Vec<Int<T>> open = ~Vec<Int<T>>{};  // lanes whose largest cell is yet to come
    if (fetched > 0) {
      target.window.for_cells(
          s, [&](const Cell& cell) { __builtin_prefetch(x + from + cell.offset + fetched); });
    }
    target.window.for_cells(s, [&](const Cell& cell) {
      const Vec<T> x_i = load_lanes(x + from + cell.offset, target.lanes);
      const Vec<Int<T>> first = ((x_i == y_o) | (x_i != x_i)) & open;
      target.add(cell, first ? dy_o : Vec<T>{});
      open &= ~first;
    });
  });
}

template <class T>
void average_forward(PoolShape s, const T* x, T* y) {
  forward<T>(
      s, x, y, Real<T>(0), [](Vec<T> a, Vec<T> b) { return a + b; },
      [](Vec<T> a, int64_t cells) { return a / Real<T>(cells); });
}

template <class T>
void average_backward(PoolShape s, const T* dy, T* dx) {
  backward<T>(s, dx, [&](const Target<T>& target, int64_t at, int64_t) {
    const Vec<T> share = load_lanes(dy + at, target.lanes) / Real<T>(target.window.cells());
    target.window.for_cells(s, [&](const Cell& cell) { target.add(cell, share); });
  });
}

template <class T>
constexpr Pooling<T> kTable = {max_forward<T>, max_backward<T>, average_forward<T>,
                               average_backward<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Pooling<float>& implementation<Pooling<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Pooling<BFloat16>& implementation<Pooling<BFloat16>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<BFloat16>;
}
template <>
const Pooling<double>& implementation<Pooling<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}

}  // namespace narae
