#include "kernels/conv.h"

#include "core/isa.h"
#include "kernels/blocks.h"
#include "kernels/filter_gradient.h"

namespace narae {
namespace NARAE_ISA {
namespace {

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
