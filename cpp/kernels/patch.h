// Patches: what convolutions read. The im2col matrix of an image is an outer sum of addresses,
//
//   im2col[p, k] = patch[position[p] + tap[k]]      p: output position, k: (tap, channel)
//
// when the cells that some positions need lie, padding included, in a small compact copy. A chunk
// of work copies its patch into the thread's scratch, makes the two tables of offsets, and its
// micro-kernel reads through them: one kernel for every stride, dilation, padding and rank, forward
// (rows are positions, the sum runs over taps) and filter gradient (the other way round).
#pragma once

#include "kernels/conv.h"
#include "kernels/gemm_core.h"

namespace narae::NARAE_ISA {

using std::int32_t;
using std::int64_t;

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};
// One of `parts` nearly equal parts of n.
inline Range part(int64_t n, int64_t index, int64_t parts) {
  return {n * index / parts, n * (index + 1) / parts};
}

// One spatial axis of a gathering product: output o with tap t reads cell first + o * step + t *
// reach of the source and multiplies w's tap w_first + t * w_step; o is cell place + o * place_step
// of the target.
struct Axis {
  int64_t source, count, step, first;
  int64_t taps, reach, kernel, w_first, w_step;
  int64_t target, place, place_step;
};

inline int64_t floor_divide(int64_t a, int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

inline Axis forward_axis(const ConvShape& s, int a) {
  return {s.in[a],     s.out[a], s.stride[a], -s.before[a], s.kernel[a], s.dilation[a],
          s.kernel[a], 0,        1,           s.out[a],     0,           1};
}

// The inputs i = phase + q * stride meet only the taps k with phase + before - k * dilation a
// multiple of the stride, a regular run of them; within a phase the gradient is a convolution of
// stride 1. The run is walked backwards, so that cells of dy come in rising order.
inline Axis gradient_axis(const ConvShape& s, int a, int64_t phase) {
  const int64_t stride = s.stride[a], dilation = s.dilation[a];
  int64_t common = stride;
  for (int64_t r = dilation; r != 0;) {
    const int64_t next = common % r;
    common = r, r = next;
  }
  const int64_t w_step = stride / common, reach = dilation / common;
  int64_t k = 0;
  const int64_t most = smaller(w_step, s.kernel[a]);
  while (k < most && (phase + s.before[a] - k * dilation) % stride != 0) ++k;
  const int64_t taps = k < most ? (s.kernel[a] - 1 - k) / w_step + 1 : 0;
  const int64_t first =
      floor_divide(phase + s.before[a] - k * dilation, stride) - (taps - 1) * reach;
  const int64_t count = phase < s.in[a] ? (s.in[a] - phase + stride - 1) / stride : 0;
  return {s.out[a], count,   1,     first, taps, reach, s.kernel[a], k + (taps - 1) * w_step,
          -w_step,  s.in[a], phase, stride};
}

// body(axes) for every phase of the strides: together they make the input gradient.
template <class Body>
inline void for_phases(const ConvShape& s, const Body& body) {
  for (int64_t d = 0; d < smaller(s.stride[0], s.in[0]); ++d) {
    for (int64_t h = 0; h < smaller(s.stride[1], s.in[1]); ++h) {
      for (int64_t w = 0; w < smaller(s.stride[2], s.in[2]); ++w) {
        const Axis axis[3] = {gradient_axis(s, 0, d), gradient_axis(s, 1, h),
                              gradient_axis(s, 2, w)};
        body(axis);
      }
    }
  }
}

// A part of the work along each axis: outputs [out, out + outs), taps [tap, tap + taps), images [n,
// n + images).
struct Box {
  int64_t out[3], outs[3], tap[3], taps[3], n, images;

  int64_t positions() const { return images * outs[0] * outs[1] * outs[2]; }
  int64_t tap_count() const { return taps[0] * taps[1] * taps[2]; }
};

inline constexpr int64_t kPositions = 168;         // of one chunk, at most; a multiple of kMR
inline constexpr int64_t kDepth = 640;             // (taps, channels) of one chunk, about
inline constexpr int64_t kMaxTaps = 1024;          // of one chunk
inline constexpr int64_t kPatchBytes = 384 << 10;  // a patch stays in L2

// How the work of a gathering product is cut, by shape alone: in blocks of channels and boxes of
// taps (parts of the sum), and in boxes of output positions.
struct Cut {
  Axis axis[3];
  int64_t N, C;                      // C channels of the source in a group
  int64_t channels;                  // of one block
  int64_t taps[3], outs[3], images;  // of one box
  int64_t tap_boxes[3], out_boxes[3], image_boxes, channel_blocks;

  int64_t depth() const { return taps[0] * taps[1] * taps[2] * channels; }
  int64_t sums() const { return tap_boxes[0] * tap_boxes[1] * tap_boxes[2] * channel_blocks; }
  // One tap, inside of the image everywhere: the image itself serves as patch, without a copy.
  bool is_single(int64_t all) const {
    int64_t extent = all * images;
    for (const Axis& a : axis) {
      extent *= a.source;
      if (a.taps != 1 || a.first < 0 || a.first + (a.count - 1) * a.step >= a.source) return false;
    }
    return extent <= int64_t{0x7fffffff};
  }
  int64_t position_boxes() const {
    return out_boxes[0] * out_boxes[1] * out_boxes[2] * image_boxes;
  }
};

// A single tap along an axis needs every step-th cell only.
inline int64_t patch_extent(const Axis& axis, int64_t outs, int64_t taps) {
  return taps <= 1 ? outs : (outs - 1) * axis.step + (taps - 1) * axis.reach + 1;
}

inline bool patch_fits(const Cut& c, int64_t limit) {
  int64_t size = c.images * c.channels;
  for (int a = 0; a < 3; ++a) {
    const int64_t extent = patch_extent(c.axis[a], c.outs[a], c.taps[a]);
    if (extent > limit || (size *= extent) > limit) return false;
  }
  return true;
}

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Splits n in equal parts of at most `most`.
inline int64_t even_part(int64_t n, int64_t most) { return ceil_divide(n, ceil_divide(n, most)); }

// Rows that tiles of kMR rows compute for n of them; the last tile may be a shorter one.
inline constexpr int kHalfMR = kMR / 2, kMostMR = (2 * kMR + 2) / 3;
inline int64_t tile_rows(int64_t n) {
  const int64_t rest = n % kMR;
  return n - rest + (rest == 0 ? 0 : rest <= kHalfMR ? kHalfMR : rest <= kMostMR ? kMostMR : kMR);
}

// Splits n in parts of at most `most`, of `rows` rows each, such that their tiles fit best.
inline int64_t fitting_part(int64_t n, int64_t most, int64_t rows) {
  int64_t best = most, least = 0;
  for (int64_t size = most; size > most / 2; --size) {
    const int64_t cost = n / size * tile_rows(size * rows) + tile_rows(n % size * rows);
    if (size == most || cost < least) best = size, least = cost;
  }
  return best;
}

// element: bytes of one. least, most: channels of a block; most 0: what makes a good depth of the
// sum. longest: of a run of positions along the innermost axis if rows of them share cells.
inline Cut make_cut(const Axis (&axis)[3], int64_t N, int64_t C, int64_t element, int64_t least = 1,
                    int64_t most = 0, int64_t longest = kPositions) {
  const int64_t limit = kPatchBytes / element;
  Cut c{};
  c.N = N, c.C = C, c.images = 1;
  int64_t taps = 1;
  for (int a = 2; a >= 0; --a) {
    c.axis[a] = axis[a];
    c.outs[a] = 1;
    c.taps[a] = axis[a].taps == 0 ? 0 : even_part(axis[a].taps, kMaxTaps / (taps ? taps : 1));
    taps *= c.taps[a];
  }
  if (most == 0) most = kDepth / (taps ? taps : 1);
  c.channels = C == 0 ? 1 : even_part(C, most < least ? least : most);
  if (c.channels > 8 && c.channels < C) c.channels = smaller(C, round_up(c.channels, 16));
  while (!patch_fits(c, limit)) {  // one position: a far reach; ends with single taps
    int widest = 0;
    for (int a = 1; a < 3; ++a) {
      if (c.taps[a] > c.taps[widest]) widest = a;
    }
    c.taps[widest] = (c.taps[widest] + 1) / 2;
  }
  // Positions: a run along the innermost axis, then whole rows, slices, images.
  int64_t room = kPositions, rows = 1;
  bool whole = true;
  for (int a = 2; a >= 0; --a) {
    const int64_t count = axis[a].count < 1 ? 1 : axis[a].count;
    const bool cuts_run = a == 2 && longest < room && axis[1].taps > 1;
    const int64_t end = cuts_run ? longest : room;
    while (c.outs[a] < smaller(count, end)) {
      ++c.outs[a];
      if (!patch_fits(c, limit)) {
        --c.outs[a];
        break;
      }
    }
    whole = whole && c.outs[a] == count;
    c.outs[a] = fitting_part(count, c.outs[a], rows);
    room /= c.outs[a], rows *= c.outs[a];
    if (!whole && !cuts_run) break;
  }
  while (whole && c.images < smaller(N, room)) {
    ++c.images;
    if (!patch_fits(c, limit)) {
      --c.images;
      break;
    }
  }
  c.images = N < 1 ? 1 : fitting_part(N, c.images, rows);
  for (int a = 0; a < 3; ++a) {
    c.tap_boxes[a] = axis[a].taps == 0 ? 1 : ceil_divide(axis[a].taps, c.taps[a]);
    c.out_boxes[a] = ceil_divide(axis[a].count, c.outs[a]);
  }
  c.image_boxes = ceil_divide(N, c.images);
  c.channel_blocks = C == 0 ? 1 : ceil_divide(C, c.channels);
  return c;
}

inline void set_positions(const Cut& c, int64_t index, Box& box) {
  for (int a = 2; a >= 0; --a) {
    box.out[a] = index % c.out_boxes[a] * c.outs[a];
    box.outs[a] = smaller(c.outs[a], c.axis[a].count - box.out[a]);
    index /= c.out_boxes[a];
  }
  box.n = index * c.images;
  box.images = smaller(c.images, c.N - box.n);
}

// The part `index` of the sum: its box of taps; returns its first channel.
inline int64_t set_taps(const Cut& c, int64_t index, Box& box) {
  for (int a = 2; a >= 0; --a) {
    box.tap[a] = index % c.tap_boxes[a] * c.taps[a];
    box.taps[a] = smaller(c.taps[a], c.axis[a].taps - box.tap[a]);
    index /= c.tap_boxes[a];
  }
  return index * c.channels;
}

// Offsets of the cells of a patch.
struct Layout {
  int64_t extent[3], out_step[3], tap_step[3];  // in cells of each axis
  int64_t row[3], image;                        // elements from a cell to the next

  Layout(const Cut& c, const Box& box, int64_t channels) {
    int64_t size = channels;
    for (int a = 2; a >= 0; --a) {
      const bool single = box.taps[a] <= 1;
      extent[a] = patch_extent(c.axis[a], box.outs[a], box.taps[a]);
      out_step[a] = single ? 1 : c.axis[a].step;
      tap_step[a] = c.axis[a].reach;
      row[a] = size;
      size *= extent[a];
    }
    image = size;
  }

  // Of an image itself, with `all` channels, for single taps.
  Layout(const Cut& c, int64_t all) {
    int64_t size = all;
    for (int a = 2; a >= 0; --a) {
      extent[a] = out_step[a] = tap_step[a] = 1;
      row[a] = c.axis[a].step * size;
      size *= c.axis[a].source;
    }
    image = size;
  }
};

// The cell of the source that the first position and tap of a box read.
inline int64_t first_cell(const Cut& c, const Box& box) {
  int64_t cell = box.n;
  for (int a = 0; a < 3; ++a) {
    const Axis& axis = c.axis[a];
    cell = cell * axis.source + axis.first + box.out[a] * axis.step + box.tap[a] * axis.reach;
  }
  return cell;
}

template <class T>
inline void copy(T* to, const T* from, int64_t n) {
  for_lanes<T>(n, [&](int64_t i, int64_t lanes) {
    store_lanes(to + i, load_lanes(from + i, lanes), lanes);
  });
}

// to = the sum of `copies` arrays of n elements that lie one after the other, in order.
template <class T>
inline void add_copies(const Real<T>* from, int64_t copies, int64_t n, T* to) {
  parallel_ranges(n, int64_t{1} << 14, [&](int64_t begin, int64_t end) {
    for_lanes<T>(end - begin, [&](int64_t i, int64_t lanes) {
      Vec<T> total = load_lanes(from + begin + i, lanes);
      for (int64_t c = 1; c < copies; ++c) total += load_lanes(from + c * n + begin + i, lanes);
      store_lanes<T>(to + begin + i, total, lanes);
    });
  });
}

template <class T>
inline void clear(T* to, int64_t n) {
  for_lanes<T>(n, [&](int64_t i, int64_t lanes) { store_lanes(to + i, Vec<T>{}, lanes); });
}

// Copies what a box needs of channels [c0, c0 + channels) out of `all`. `cell(to, from, n)` moves n
// channels; `contiguous`: cells of source and patch lie side by side, a row is one run.
template <class T, class Cell>
inline void copy_patch(const Cut& c, const Box& box, const Layout& layout, const T* source,
                       int64_t all, bool contiguous, int64_t channels, T* patch, const Cell& cell) {
  int64_t start[3], step[3];
  for (int a = 0; a < 3; ++a) {
    const Axis& axis = c.axis[a];
    start[a] = axis.first + box.out[a] * axis.step + box.tap[a] * axis.reach;
    step[a] = box.taps[a] <= 1 ? axis.step : 1;
  }
  const int64_t wide = layout.extent[2], size = c.axis[2].source;
  // Cells [left, right) of a row lie inside the image.
  int64_t left = start[2] >= 0 ? 0 : ceil_divide(-start[2], step[2]);
  int64_t right = size <= start[2] ? 0 : ceil_divide(size - start[2], step[2]);
  left = smaller(left, wide), right = smaller(right, wide);
  if (right < left) right = left;
  for (int64_t n = 0; n < box.images; ++n) {
    for (int64_t d = 0; d < layout.extent[0]; ++d) {
      const int64_t in_d = start[0] + d * step[0];
      for (int64_t h = 0; h < layout.extent[1]; ++h, patch += wide * channels) {
        const int64_t in_h = start[1] + h * step[1];
        if (in_d < 0 || in_d >= c.axis[0].source || in_h < 0 || in_h >= c.axis[1].source) {
          clear(patch, wide * channels);
          continue;
        }
        const T* row =
            source +
            (((box.n + n) * c.axis[0].source + in_d) * c.axis[1].source + in_h) * size * all;
        clear(patch, left * channels);
        if (contiguous && step[2] == 1) {
          copy(patch + left * channels, row + (start[2] + left) * all, (right - left) * channels);
        } else {
          for (int64_t w = left; w < right; ++w) {
            cell(patch + w * channels, row + (start[2] + w * step[2]) * all, channels);
          }
        }
        clear(patch + right * channels, (wide - right) * channels);
      }
    }
  }
}

// position[p] in the patch and place[p] = element of the target, for the box's positions in order.
inline int64_t position_tables(const Cut& c, const Box& box, const Layout& layout,
                               int64_t target_channels, int32_t* position, int64_t* place) {
  int64_t p = 0;
  const Axis* axis = c.axis;
  for (int64_t n = 0; n < box.images; ++n) {
    for (int64_t i = 0; i < box.outs[0]; ++i) {
      for (int64_t j = 0; j < box.outs[1]; ++j) {
        const int64_t at = n * layout.image + i * layout.out_step[0] * layout.row[0] +
                           j * layout.out_step[1] * layout.row[1];
        const int64_t step = layout.out_step[2] * layout.row[2];
        const int64_t d = axis[0].place + (box.out[0] + i) * axis[0].place_step,
                      h = axis[1].place + (box.out[1] + j) * axis[1].place_step,
                      w = axis[2].place + box.out[2] * axis[2].place_step;
        const int64_t to =
            ((((box.n + n) * axis[0].target + d) * axis[1].target + h) * axis[2].target + w) *
            target_channels;
        const int64_t to_step = axis[2].place_step * target_channels;
        for (int64_t k = 0; k < box.outs[2]; ++k, ++p) {
          position[p] = static_cast<int32_t>(at + k * step);
          place[p] = to + k * to_step;
        }
      }
    }
  }
  return p;
}

// tap[k] in the patch for k = (tap, channel); `each(tap of w, k of its first channel)` per tap.
template <class Each>
inline int64_t tap_table(const Cut& c, const Box& box, const Layout& layout, int64_t channels,
                         int32_t* tap, const Each& each) {
  int64_t k = 0;
  for (int64_t i = 0; i < box.taps[0]; ++i) {
    for (int64_t j = 0; j < box.taps[1]; ++j) {
      for (int64_t l = 0; l < box.taps[2]; ++l) {
        const int64_t at[3] = {i, j, l};
        int64_t offset = 0, w_tap = 0;
        for (int a = 0; a < 3; ++a) {
          const Axis& axis = c.axis[a];
          offset += at[a] * layout.tap_step[a] * layout.row[a];
          w_tap = w_tap * axis.kernel + axis.w_first + (box.tap[a] + at[a]) * axis.w_step;
        }
        each(w_tap, k);
        for (int64_t channel = 0; channel < channels; ++channel) {
          tap[k++] = static_cast<int32_t>(offset + channel);
        }
      }
    }
  }
  return k;
}

}  // namespace narae::NARAE_ISA
