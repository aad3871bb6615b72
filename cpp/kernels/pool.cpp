#include "kernels/pool.h"

#include "core/isa.h"
#include "core/parallel.h"
#include "core/vec.h"

namespace narae {
namespace NARAE_ISA {
namespace {

using std::int64_t;

// The cells [begin, end) of a window along each axis.
struct Window {
  int64_t begin[3], end[3];

  Window(const PoolShape& s, const int64_t (&o)[3]) {
    for (int a = 0; a < 3; ++a) {
      const int64_t first = o[a] * s.stride[a] - s.before[a], last = first + s.window[a];
      begin[a] = first < 0 ? 0 : first;
      end[a] = last > s.in[a] ? s.in[a] : last;
    }
  }
  int64_t cells() const { return (end[0] - begin[0]) * (end[1] - begin[1]) * (end[2] - begin[2]); }
  // body(offset of the cell's first channel in an image), in row-major order
  template <class Body>
  void for_cells(const PoolShape& s, const Body& body) const {
    for (int64_t d = begin[0]; d < end[0]; ++d) {
      for (int64_t h = begin[1]; h < end[1]; ++h) {
        int64_t cell = ((d * s.in[1] + h) * s.in[2] + begin[2]) * s.C;
        for (int64_t w = begin[2]; w < end[2]; ++w, cell += s.C) body(cell);
      }
    }
  }
};

int64_t image_size(const PoolShape& s) { return s.in[0] * s.in[1] * s.in[2] * s.C; }

// body(window, offset of the cell in y, n) for every output of rows [begin, end) of y.
template <class Body>
void for_outputs(const PoolShape& s, int64_t begin, int64_t end, const Body& body) {
  for (int64_t row = begin; row < end; ++row) {
    int64_t o[3] = {row / s.out[1] % s.out[0], row % s.out[1], 0};
    for (; o[2] < s.out[2]; ++o[2]) {
      body(Window(s, o), (row * s.out[2] + o[2]) * s.C, row / s.out[1] / s.out[0]);
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
    for_outputs(s, begin, end, [&](const Window& window, int64_t at, int64_t n) {
      const T* x_n = x + n * image_size(s);
      const int64_t cells = window.cells();
      int64_t c = 0;
      for (; c + 4 * kVL <= s.C; c += 4 * kVL) {
        Vec<T> acc[4];
        NARAE_UNROLL
        for (int j = 0; j < 4; ++j) acc[j] = broadcast(start);
        window.for_cells(s, [&](int64_t cell) {
          const T* x_c = x_n + cell + c;
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
        window.for_cells(s, [&](int64_t cell) {
          acc = combine(acc, load_lanes(x_n + cell + c + offset, lanes));
        });
        store_lanes<T>(y + at + c + offset, finish(acc, cells), lanes);
      });
    });
  });
}

// Zeros for the channels of all cells in [first, last) of an image.
template <class T>
void clear(T* dx, int64_t first, int64_t last, int64_t C, int64_t channels) {
  for (int64_t cell = first; cell < last; ++cell) {
    for_lanes<T>(channels, [&](int64_t j, int64_t lanes) {
      store_lanes<T>(dx + cell * C + j, Vec<T>{}, lanes);
    });
  }
}

// Scatters into dx: a task owns some channels of one image. body(window, offset in y, first
// channel, channels, n) for each window. The cells that a row of windows is the first to reach are
// cleared just before, so that they are in the cache for it.
template <class T, class Body>
void backward(const PoolShape& s, T* dx, const Body& body) {
  const int64_t width = s.N >= 16 || s.C <= 4 * kLanes<T> ? s.C : 4 * kLanes<T>;
  if (s.C == 0) return;
  const int64_t blocks = (s.C + width - 1) / width, cells = image_size(s) / s.C;
  const int axis = s.in[0] > 1 ? 0 : 1;  // whose slices are cleared one by one
  const int64_t slice = axis == 0 ? s.in[1] * s.in[2] : s.in[2];
  const int64_t grain = 1 + (int64_t{1} << 15) / (cells * width + 1);
  parallel_ranges(s.N * blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t n = task / blocks, c = task % blocks * width, rows = s.out[0] * s.out[1];
      const int64_t channels = c + width > s.C ? s.C - c : width;
      T* dx_n = dx + n * image_size(s) + c;
      int64_t cleared = 0;
      const auto clear_to = [&](int64_t cell) {
        if (cell > cleared) clear(dx_n, cleared, cell, s.C, channels), cleared = cell;
      };
      for (int64_t row = n * rows; row < (n + 1) * rows; ++row) {
        const int64_t o[3] = {row / s.out[1] % s.out[0], row % s.out[1], 0};
        clear_to(Window(s, o).end[axis] * slice);
        for_outputs(s, row, row + 1, [&](const Window& window, int64_t at, int64_t) {
          for_lanes<T>(channels, [&](int64_t j, int64_t lanes) {
            body(window, at + c + j, n * image_size(s) + c + j, lanes);
          });
        });
      }
      clear_to(cells);
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
  backward<T>(s, dx, [&](const Window& window, int64_t at, int64_t from, int64_t lanes) {
    const Vec<T> y_o = load_lanes(y + at, lanes), dy_o = load_lanes(dy + at, lanes);
    Vec<Int<T>> open = ~Vec<Int<T>>{};  // lanes whose largest cell is yet to come
    window.for_cells(s, [&](int64_t cell) {
      __builtin_prefetch(x + from + cell + fetched);
      const Vec<T> x_i = load_lanes(x + from + cell, lanes);
      const Vec<Int<T>> first = ((x_i == y_o) | (x_i != x_i)) & open;
      T* to = dx + from + cell;
      store_lanes<T>(to, load_lanes(to, lanes) + (first ? dy_o : Vec<T>{}), lanes);
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
  backward<T>(s, dx, [&](const Window& window, int64_t at, int64_t from, int64_t lanes) {
    const Vec<T> share = load_lanes(dy + at, lanes) / Real<T>(window.cells());
    window.for_cells(s, [&](int64_t cell) {
      T* to = dx + from + cell;
      store_lanes<T>(to, load_lanes(to, lanes) + share, lanes);
    });
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
