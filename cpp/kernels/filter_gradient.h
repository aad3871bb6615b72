// The gradient of a convolution's filters: sums over all positions, in parts with a copy of dw
// each.
#pragma once

#include "kernels/direct.h"

namespace narae::NARAE_ISA {

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
        if (is_narrow) {
          narrow_gradient(strip, rows, channels, cell, positions, bench.patch, bench.position,
                          bench.tap, bench.strip, kNR<T>, to, bench.place, s.F, i > first);
        } else {
          multiply_packed(rows, strip, positions, patch, bench.tap, bench.position, bench.strip, to,
                          bench.place, i > first);
        }
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
    T* strip = static_cast<T*>(scratch());
    for (int64_t p = range.begin; p < range.end; p += kKC<T>) {
      const int64_t depth = smaller(kKC<T>, range.end - p);
      for (int64_t f = 0; f < F; f += kNR<T>) {
        const int64_t cols = smaller(kNR<T>, F - f);
        const T* next = f + kNR<T> < F ? dy + p * F + f + kNR<T> : dy + (p + depth) * F;
        StridedB<T>{dy, F, 1}.pack(p, depth, f, cols, strip);
        for (int64_t c = 0, rows; c < C; c += rows) {
          Ahead ahead;
          const T* x_c = x + p * C + c;
          rows = next_tile(C - c);
          if (f == 0 && c + rows < C) {
            const int64_t last = smaller(rows + kMR, C - c) - 1;
            ahead.a = terms_ahead<T>(reinterpret_cast<const char*>(x_c + last), C);
          }
          if (c == 0) ahead.b = terms_ahead<T>(last_line(next), F);
          tile<T, false>(rows, cols, depth, x_c, 1, C, strip, kNR<T>, dw + c * F + f, F,
                         p > range.begin, nullptr, &ahead);
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

}  // namespace narae::NARAE_ISA
