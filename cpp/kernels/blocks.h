// A strided convolution as one of stride 1, whose cells are the blocks of S x S cells that a step
// of the stride passes:
//
//   x'[n, i, j, (a, b, c)] = x[n, S i + a - before, S j + b - before, c]     0 outside of the image
//   w'[k, l, (a, b, c), f] = w[S k + a, S l + b, c, f]                       0 past the last tap
//   y = w' over x', and dw is read off dw'
//
// 7 x 7 taps of stride 2 on 3 channels become 4 x 4 taps on 12, for Winograd's algorithm.
#pragma once

#include "kernels/patch.h"

namespace narae::NARAE_ISA {

template <class T>
struct Blocks {
  ConvShape s, plain;  // as asked for, and over blocks
  int64_t run;         // values of one row of a block
  int64_t cell;        // elements from a block to the next: a register at least

  // In the plane, without groups or dilation, and with a block no larger than the filter.
  static bool fit(const ConvShape& s) {
    const bool flat = s.in[0] == 1 && s.kernel[0] == 1 && s.stride[0] == 1 && s.before[0] == 0;
    for (int a = 1; a < 3; ++a) {
      if (s.dilation[a] != 1 || s.stride[a] > s.kernel[a]) return false;
    }
    return flat && s.groups == 1 && s.stride[1] * s.stride[2] > 1;
  }

  explicit Blocks(const ConvShape& shape) : s(shape), plain(shape) {
    for (int a = 1; a < 3; ++a) {
      plain.C *= s.stride[a];
      plain.kernel[a] = ceil_divide(s.kernel[a], s.stride[a]);
      plain.in[a] = s.out[a] + plain.kernel[a] - 1;
      plain.stride[a] = 1, plain.before[a] = 0;
    }
    run = s.stride[2] * s.C;
    cell = plain.C < kLanes<T> ? kLanes<T> : plain.C;
  }

  int64_t taps() const { return s.kernel[1] * s.kernel[2]; }
  int64_t x_size() const { return s.N * plain.in[1] * plain.in[2] * cell; }
  int64_t w_size() const { return plain.kernel[1] * plain.kernel[2] * plain.C * s.F; }

  void pack_x(const T* x, T* to) const {
    const int64_t to_row = plain.in[2] * cell, x_row = s.in[2] * s.C;
    parallel_ranges(s.N * plain.in[1], 1 + (1 << 14) / to_row, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t n = row / plain.in[1], i = row % plain.in[1];
        for (int64_t a = 0; a < s.stride[1]; ++a) {
          const int64_t h = i * s.stride[1] + a - s.before[1];
          const bool inside = h >= 0 && h < s.in[1];
          pack_row(inside ? x + (n * s.in[1] + h) * x_row : nullptr, to + row * to_row + a * run);
        }
      }
    });
  }

  // to[j * cell + m] = row[j * run + m - before * C], m < run; nullptr: a row of zeros
  void pack_row(const T* row, T* to) const {
    const int64_t size = row ? s.in[2] * s.C : 0;
    int64_t at = -s.before[2] * s.C;
    for (int64_t j = 0; j < plain.in[2]; ++j, at += run, to += cell) {
      if (at >= 0 && at + run <= size) {
        for_lanes<T>(run, [&](int64_t m, int64_t lanes) {
          store_lanes<T>(to + m, load_lanes(row + at + m, lanes), lanes);
        });
      } else {
        for (int64_t m = 0; m < run; ++m) to[m] = at + m >= 0 && at + m < size ? row[at + m] : T(0);
      }
    }
  }

  // visit(row of C x F of w', the same of w or -1) for each block of taps
  template <class Visit>
  void for_rows(const Visit& visit) const {
    const int64_t S_h = s.stride[1], S_w = s.stride[2];
    int64_t to = 0;
    for (int64_t k = 0; k < plain.kernel[1]; ++k) {
      for (int64_t l = 0; l < plain.kernel[2]; ++l) {
        for (int64_t a = 0; a < S_h; ++a) {
          for (int64_t b = 0; b < S_w; ++b, ++to) {
            const int64_t h = k * S_h + a, w = l * S_w + b;
            visit(to, h < s.kernel[1] && w < s.kernel[2] ? h * s.kernel[2] + w : -1);
          }
        }
      }
    }
  }
  void pack_w(const T* w, T* to) const {
    const int64_t size = s.C * s.F;
    for_rows([&](int64_t row, int64_t tap) {
      tap < 0 ? clear(to + row * size, size) : copy(to + row * size, w + tap * size, size);
    });
  }
  void unpack_dw(const T* from, T* dw) const {
    const int64_t size = s.C * s.F;
    for_rows([&](int64_t row, int64_t tap) {
      if (tap >= 0) copy(dw + tap * size, from + row * size, size);
    });
  }
};

}  // namespace narae::NARAE_ISA
