// Winograd's minimal filtering, for convolutions of stride 1 with few taps.
//
// Along one axis, K taps on 6 inputs give M = 7 - K outputs for 6 multiplications, not M K, because
// a filter is a product of polynomials, which is evaluated at six points and interpolated:
//
//   A[i,k] = p_i^k    G[i,k] = p_i^k / n_i,  n_i = prod_(l != i) (p_i - p_l)
//   B^T[i,.] = coefficients of prod_(l != i) (p - p_l)         points 0, +-a, +-b and infinity
//
// In two dimensions 3 x 3 taps make 16 outputs with 36 multiplications instead of 144 (here 2.0 to
// 2.9 times as fast, transforms included), 5 x 5 taps 4 outputs with 36 instead of 100:
//
//   y  = A^T [ sum_c (G w_c G^T) * (B^T x_c B) ] A        * element by element: 36 planes
//   dw = G^T [ sum over tiles (B^T x B) * (A dy A^T) ] G
//
// The sums are 36 matrix products: V (tiles, C) times U (C, F), and V^T times W (tiles, F).
//
// Rounding. Every sum but the one over c, or tiles, is short, so the error is a few eps times the
// same expression in absolute values, |A^T| [ sum_c (|G| |w_c| |G^T|) * (|B^T| |x_c| |B|) ] |A|.
// For 3 x 3 taps that is up to 63 times the direct sum of |w| |x|; with random signs the error
// measured is 1.9 times the direct sum's (5 x 5: 1.2). Of the points tried 5/8 and 3/2 gave the
// least (the usual 1 and 2: 3.8), and their powers are exact. A value that is not finite spreads
// over the tiles that see it.
#pragma once

#include <type_traits>

#include "kernels/patch.h"

namespace narae::NARAE_ISA {

// The transforms along an axis of kTaps taps, by columns of vectors. One tap: none.
template <class T, int kTaps>
struct Points {
  using V = Vec<T>;
  static constexpr int kIn = kTaps == 1 ? 1 : 6, kOut = kTaps == 1 ? 1 : kIn + 1 - kTaps;
  static constexpr T a = T(0.625), b = T(1.5), a2 = a * a, b2 = b * b;
  static constexpr T n_0 = a2 * b2, n_a = 2 * a2 * (a2 - b2), n_b = 2 * b2 * (b2 - a2);

  // Values of the polynomial with n coefficients c at the points.
  template <int n>
  static void evaluate(const V* c, V* v) {
    V even_a = c[(n - 1) / 2 * 2], even_b = even_a, odd_a = c[(n - 2) / 2 * 2 + 1], odd_b = odd_a;
    NARAE_UNROLL
    for (int k = n - 3; k >= 0; --k) {
      V &at_a = k % 2 ? odd_a : even_a, &at_b = k % 2 ? odd_b : even_b;
      at_a = at_a * a2 + c[k];
      at_b = at_b * b2 + c[k];
    }
    v[0] = c[0];
    v[1] = even_a + a * odd_a;
    v[2] = even_a - a * odd_a;
    v[3] = even_b + b * odd_b;
    v[4] = even_b - b * odd_b;
    v[5] = c[n - 1];
  }

  // The transpose of evaluate.
  template <int n>
  static void interpolate(const V* v, V* c) {
    V even_a = v[1] + v[2], odd_a = a * (v[1] - v[2]);
    V even_b = v[3] + v[4], odd_b = b * (v[3] - v[4]);
    c[0] = v[0] + even_a + even_b;
    c[1] = odd_a + odd_b;
    NARAE_UNROLL
    for (int k = 2; k < n; ++k) {
      V &at_a = k % 2 ? odd_a : even_a, &at_b = k % 2 ? odd_b : even_b;
      at_a *= a2, at_b *= b2;
      c[k] = at_a + at_b;
    }
    c[n - 1] += v[5];
  }

  static void scale(const V* from, V* to) {
    const T over[6] = {1 / n_0, 1 / n_a, 1 / n_a, 1 / n_b, 1 / n_b, 1};
    NARAE_UNROLL
    for (int i = 0; i < 6; ++i) to[i] = over[i] * from[i];
  }

  static void input(const V* x, V* v) {  // v = B^T x
    if constexpr (kTaps == 1) {
      v[0] = x[0];
    } else {
      const V even_a = x[4] - b2 * x[2], odd_a = x[3] - b2 * x[1];
      const V even_b = x[4] - a2 * x[2], odd_b = x[3] - a2 * x[1];
      v[0] = x[4] - (a2 + b2) * x[2] + (a2 * b2) * x[0];
      v[1] = even_a + a * odd_a;
      v[2] = even_a - a * odd_a;
      v[3] = even_b + b * odd_b;
      v[4] = even_b - b * odd_b;
      v[5] = x[5] - (a2 + b2) * x[3] + (a2 * b2) * x[1];
    }
  }

  static void filter(const V* w, V* u) {  // u = G w
    if constexpr (kTaps == 1) {
      u[0] = w[0];
    } else {
      evaluate<kTaps>(w, u);
      scale(u, u);
    }
  }

  static void output(const V* m, V* y) {  // y = A^T m
    if constexpr (kTaps == 1) {
      y[0] = m[0];
    } else {
      interpolate<kOut>(m, y);
    }
  }

  static void output_gradient(const V* dy, V* w) {  // w = A dy
    if constexpr (kTaps == 1) {
      w[0] = dy[0];
    } else {
      evaluate<kOut>(dy, w);
    }
  }

  static void filter_gradient(const V* u, V* dw) {  // dw = G^T u
    if constexpr (kTaps == 1) {
      dw[0] = u[0];
    } else {
      V scaled[6];
      scale(u, scaled);
      interpolate<kTaps>(scaled, dw);
    }
  }
};

// A transform of columns: kFrom vectors become kTo.
template <class T>
using Transform = void (*)(const Vec<T>*, Vec<T>*);

// With 32 registers transforms are unrolled to the end, and whole tiles have one of their own,
// without tests. With the 16 of AVX2 that spills: 3 x 3 taps, 64 channels at 32 x 32, took 7.4
// instead of 6.6 ms.
#if defined(__AVX512F__) || defined(__aarch64__)
#define NARAE_UNROLL_TILE NARAE_UNROLL
inline constexpr bool kUnrollTiles = true;
#else
#define NARAE_UNROLL_TILE
inline constexpr bool kUnrollTiles = false;
#endif

// load(i, j), kFromH x kFromW vectors, become kToH x kToW ones, store(i, j, vector).
template <class T, int kFromH, int kToH, Transform<T> kDown, int kFromW, int kToW,
          Transform<T> kAcross, class Load, class Store>
inline void transform_tile(const Load& load, const Store& store) {
  Vec<T> half[kToH][kFromW];
  NARAE_UNROLL_TILE
  for (int j = 0; j < kFromW; ++j) {
    Vec<T> from[kFromH], to[kToH];
    NARAE_UNROLL
    for (int i = 0; i < kFromH; ++i) from[i] = load(i, j);
    kDown(from, to);
    NARAE_UNROLL
    for (int i = 0; i < kToH; ++i) half[i][j] = to[i];
  }
  NARAE_UNROLL_TILE
  for (int i = 0; i < kToH; ++i) {
    Vec<T> to[kToW];
    kAcross(half[i], to);
    NARAE_UNROLL
    for (int j = 0; j < kToW; ++j) store(i, j, to[j]);
  }
}

// kPlanes matrices of rows x width in scratch.
template <class T, int kPlanes>
struct Planes {
  static constexpr int64_t kGap = 64 / sizeof(T);  // between them: they use all sets of a cache

  T* data;
  int64_t row, plane;  // strides

  Planes(T* start, int64_t rows, int64_t width)
      : data(start), row(width), plane(rows * width + kGap) {}
  T* end() const { return data + kPlanes * plane; }
  T* at(int64_t p, int64_t r, int64_t c) const { return data + p * plane + r * row + c; }

  static constexpr int64_t bytes(int64_t rows, int64_t width) {
    return kPlanes * (rows * width + kGap) * static_cast<int64_t>(sizeof(T));
  }
};

// The tiles of N images: which cells they see, which they make.
template <class T, int KH, int KW>
struct Tiles {
  using S = Real<T>;
  using P = Packed<T>;
  using Down = Points<S, KH>;
  using Across = Points<S, KW>;
  static constexpr int kInH = Down::kIn, kInW = Across::kIn, kPlanes = kInH * kInW;
  static constexpr int kOutH = Down::kOut, kOutW = Across::kOut, kTaps = KH * KW;
  static constexpr int64_t kMaxChannels = 512 / sizeof(S);  // of a block

  Axis rows, cols;
  int64_t N, C, F;
  int64_t cell;   // elements from a cell of the image to the next
  int64_t depth;  // (tap, channel) pairs that a direct sum would take

  int64_t down() const { return ceil_divide(rows.count, kOutH); }
  int64_t across() const { return ceil_divide(cols.count, kOutW); }
  int64_t count() const { return N * down() * across(); }

  // Whether the direct sum needs more than this many multiplications for each plane of a tile and
  // each plane of a filter.
  bool pays(double of_tile, double of_filter) const {
    const double direct = static_cast<double>(N * rows.count * cols.count * F * depth);
    return cell >= kLanes<T> && direct > kPlanes * (static_cast<double>(count()) * of_tile +
                                                    static_cast<double>(C * F) * of_filter);
  }
  // Whether `axis` has the three axes of this algorithm, and outputs lie side by side: those of a
  // phase of a strided gradient do not.
  static bool fit(const Axis (&axis)[3]) {
    const int64_t taps[3] = {1, KH, KW};
    for (int i = 0; i < 3; ++i) {
      if (axis[i].kernel != taps[i] || axis[i].taps != taps[i] || axis[i].step != 1 ||
          axis[i].reach != 1 || axis[i].place_step != 1)
        return false;
    }
    return axis[0].source == 1 && axis[0].count == 1;
  }

  struct Tile {
    int64_t n, row, col, high, wide;  // image, first output, outputs inside
  };
  // body(index in the range, tile)
  template <class Body>
  void for_tiles(Range tiles, const Body& body) const {
    int64_t w = tiles.begin % across(), h = tiles.begin / across();
    int64_t n = h / down();
    h %= down();
    for (int64_t t = 0; t < tiles.size(); ++t) {
      const int64_t row = h * kOutH, col = w * kOutW;
      body(t,
           Tile{n, row, col, smaller(kOutH, rows.count - row), smaller(kOutW, cols.count - col)});
      if (++w == across()) {
        w = 0;
        if (++h == down()) h = 0, ++n;
      }
    }
  }

  // put(plane, tile, c, register of B^T x B). A cell has at least a register; the last one may
  // overlap.
  template <class Put>
  void transform_input(Range tiles, const T* x, Range channels, const Put& put) const {
    static constexpr T zeros[kMaxChannels] = {};
    const int64_t right = cell, down = cols.source * cell;
    for_tiles(tiles, [&](int64_t t, const Tile& tile) {
      const auto transform = [&](const auto& from) {
        for (int64_t next = 0; next < channels.size(); next += kLanes<T>) {
          const int64_t last = channels.size() - kLanes<T>, c = last < 0 ? 0 : smaller(next, last);
          transform_tile<S, kInH, kInH, Down::input, kInW, kInW, Across::input>(
              [&](int i, int j) { return load(from(i, j) + c); },
              [&](int i, int j, Vec<S> v_ij) { put(i * kInW + j, t, c, v_ij); });
        }
      };
      const int64_t h = rows.first + tile.row, w = cols.first + tile.col;
      const int64_t corner = ((tile.n * rows.source + h) * cols.source + w) * cell;
      if (kUnrollTiles && h >= 0 && h + kInH <= rows.source && w >= 0 && w + kInW <= cols.source) {
        const T* x_t = x + corner + channels.begin;
        return transform([&](int i, int j) { return x_t + i * down + j * right; });
      }
      const T* from[kInH][kInW];
      for (int64_t i = 0; i < kInH; ++i) {
        for (int64_t j = 0; j < kInW; ++j) {
          const bool inside =
              h + i >= 0 && h + i < rows.source && w + j >= 0 && w + j < cols.source;
          from[i][j] = inside ? x + corner + i * down + j * right + channels.begin : zeros;
        }
      }
      transform([&](int i, int j) { return from[i][j]; });
    });
  }
};

// Forward, and the input gradient, whose filter is turned and transposed.
//
// A chunk is some tiles times some columns, with its V and products in scratch. U is made once for
// all chunks if it has many readers and the caches can hold it; else each chunk makes its own strip
// by strip: 4.1 ms instead of 10.4 for 32 tiles of 512 channels and filters.
template <class T, int KH, int KW>
struct Winograd : Tiles<T, KH, KW> {
  using Base = Tiles<T, KH, KW>;
  using Base::kInH, Base::kInW, Base::kMaxChannels, Base::kOutH, Base::kOutW, Base::kPlanes;
  using typename Base::Across, typename Base::Down, typename Base::P, typename Base::S,
      typename Base::Tile;
  using Inputs = Planes<Term<T>, kPlanes>;
  using Filters = Planes<P, kPlanes>;
  using Products = Planes<S, kPlanes>;

  using Base::C, Base::F, Base::N;
  const T *source, *w;
  int64_t w_tap, w_row, w_col;  // strides of w
  T* target;
  const T* bias;
  void (*activate)(const S*, S*, int64_t);
  P* packed;  // U: strips of kNR columns, blocks of channels

  // scratch() has room for V and products of kTiles, or of fewer with half the channels and U of a
  // strip.
  static constexpr int64_t kTiles = 28 * 36 / kPlanes / kMR * kMR;
  static constexpr int64_t kTilesBesideU = 40 * 36 / kPlanes;
  static constexpr int64_t kSharedBytes = 16 << 20;
  static_assert(2 * Products::bytes(kTiles, kMaxChannels) <= kScratchBytes);
  static_assert(2 * Products::bytes(kTilesBesideU, kMaxChannels / 2) +
                    Filters::bytes(kMaxChannels / 2, kNR<P>) <=
                kScratchBytes);

  // In multiplications, as measured: 7 a plane for U, 14 for V, 7 for y.
  bool pays() const {
    const double channels = static_cast<double>(C), columns = static_cast<double>(F);
    const bool whole_pairs = kTerms<T> == 1 || C % (kTerms<T> * blocks()) == 0;  // in every block
    return whole_pairs && Base::pays(1.17 * channels * columns + 14 * channels + 7 * columns, 7);
  }

  bool shared() const {
    return this->count() > kTilesBesideU && Filters::bytes(packed_depth<T>(C), F) <= kSharedBytes;
  }
  int64_t widest() const { return shared() ? kMaxChannels : kMaxChannels / 2; }
  int64_t most_tiles() const { return shared() ? kTiles : kTilesBesideU; }
  int64_t strips() const { return ceil_divide(F, kNR<P>); }
  int64_t blocks() const { return ceil_divide(C, widest()); }
  int64_t block_size() const {
    return kPlanes * (packed_depth<T>(ceil_divide(C, blocks())) * kNR<P> + Filters::kGap);
  }
  int64_t packed_size() const { return shared() ? strips() * blocks() * block_size() : 0; }

  Filters packed_block(int64_t strip, int64_t block) const {
    return {packed + (strip * blocks() + block) * block_size(),
            packed_depth<T>(part(C, block, blocks()).size()), kNR<P>};
  }

  // u[plane, c, column] = G w G^T of one strip.
  void pack(int64_t n0, Range channels, const Filters& u) const {
    constexpr int64_t kDepth = 16;  // channels at a time: a cache line of w where they are adjacent
    P taps[KH][KW][kDepth / kTerms<T> * kNR<P>];
    for (int64_t c0 = channels.begin; c0 < channels.end; c0 += kDepth) {
      const int64_t depth = smaller(kDepth, channels.end - c0);
      for (int64_t i = 0; i < KH; ++i) {
        for (int64_t j = 0; j < KW; ++j) {
          const int64_t row = this->rows.w_first + i * this->rows.w_step;
          const int64_t col = this->cols.w_first + j * this->cols.w_step;
          StridedB<T>{w + (row * KW + col) * w_tap, w_row, w_col}.pack(
              c0, depth, n0, smaller(kNR<P>, F - n0), taps[i][j]);
        }
      }
      for (int64_t k = 0; k < packed_depth<T>(depth) * kNR<P>; k += kLanes<P>) {
        P* to = u.at(0, (c0 - channels.begin) / kTerms<T>, k);
        for (int term = 0; term < kTerms<T>; ++term) {
          transform_tile<S, KH, kInH, Down::filter, KW, kInW, Across::filter>(
              [&](int i, int j) { return term_of<T>(load(taps[i][j] + k), term); },
              [&](int i, int j, Vec<S> u_ij) {
                put_term<T>(to + (i * kInW + j) * u.plane, u_ij, term);
              });
        }
      }
    }
  }

  // m (+)= v u, plane by plane; u_step from a strip of u to the next.
  void multiply(int64_t rows, Range columns, int64_t K, const Inputs& v, const Filters& u,
                int64_t u_step, const Products& m, bool accumulate) const {
    for (int64_t p = 0; p < kPlanes; ++p) {
      const P* b = u.at(p, 0, 0);
      for (int64_t n = columns.begin; n < columns.end; n += kNR<P>, b += u_step) {
        const int64_t wide = columns.end - n > kLanes<P> ? kNR<P> : kLanes<P>;
        for (int64_t t = 0; t < rows; t += kMR) {
          tile<P, false>(smaller(kMR, rows - t), wide, packed_depth<T>(K),
                         reinterpret_cast<const P*>(v.at(p, t, 0)), v.row / kTerms<T>, 1, b, kNR<P>,
                         m.at(p, t, n), m.row, accumulate);
        }
      }
    }
  }

  // target = act( A^T m A + bias )
  void transform_output(Range tiles, Range columns, const Products& m) const {
    const int64_t right = F, down = this->cols.target * F;
    const bool streamed = may_stream(target, N * this->rows.target * down, F);
    this->for_tiles(tiles, [&](int64_t t, const Tile& tile) {
      T* y = target + (tile.n * this->rows.target + tile.row) * down + tile.col * right;
      const auto transform = [&](auto whole) {
        for_lanes<T>(columns.size(), [&](int64_t n, int64_t lanes) {
          const S* from = m.at(0, t, n);
          const int64_t f = columns.begin + n;
          const Vec<S> add = bias ? load_lanes(bias + f, lanes) : Vec<S>{};
          transform_tile<S, kInH, kOutH, Down::output, kInW, kOutW, Across::output>(
              [&](int i, int j) { return load(from + (i * kInW + j) * m.plane); },
              [&](int i, int j, Vec<S> y_ij) {
                if (!whole && (i >= tile.high || j >= tile.wide)) return;
                T* y_f = y + i * down + j * right + f;
                streamed ? stream(y_f, y_ij + add) : store_lanes<T>(y_f, y_ij + add, lanes);
              });
        });
      };
      if (kUnrollTiles && tile.high * tile.wide == kOutH * kOutW) {
        transform(std::true_type{});
      } else {
        transform(std::false_type{});
      }
      for (int64_t i = 0; activate && i < tile.high; ++i) {
        for (int64_t j = 0; j < tile.wide; ++j) {
          T* cell = y + i * down + j * right + columns.begin;
          activate_cell(cell, columns.size());
        }
      }
    });
  }

  void activate_cell(T* y, int64_t n) const {
    if constexpr (std::is_same_v<T, S>) {
      activate(y, y, n);
    } else {
      for_lanes<T>(n, [&](int64_t i, int64_t lanes) {
        S value[kLanes<T>];
        store(value, load_lanes(y + i, lanes));
        activate(value, value, lanes);
        store_lanes<T>(y + i, load(value), lanes);
      });
    }
  }

  void chunk(Range tiles, Range columns) const {
    const int64_t v_row = round_up(ceil_divide(C, blocks()), kLanes<T>);
    const Inputs v(static_cast<Term<T>*>(scratch()), tiles.size(), v_row);
    const Products m(reinterpret_cast<S*>(v.end()), tiles.size(), round_up(columns.size(), kNR<P>));
    const int64_t step = shared() ? columns.size() : kNR<P>;
    for (int64_t block = 0; block < blocks(); ++block) {
      const Range channels = part(C, block, blocks());
      this->transform_input(tiles, source, channels, [&](int p, int64_t t, int64_t c, Vec<S> v_p) {
        store_terms(v.at(p, t, c), v_p);
      });
      for (int64_t n = 0; n < columns.size(); n += step) {
        Filters u = packed_block((columns.begin + n) / kNR<P>, block);
        if (!shared()) {
          u.data = reinterpret_cast<P*>(m.end());
          pack(columns.begin + n, channels, u);
        }
        multiply(tiles.size(), {n, smaller(n + step, columns.size())}, channels.size(), v, u,
                 blocks() * block_size(), m, block > 0);
      }
    }
    transform_output(tiles, columns, m);
  }

  void run() const {
    if (shared()) {
      parallel_for(strips() * blocks(), [&](int64_t i) {
        const int64_t strip = i / blocks(), block = i % blocks();
        pack(strip * kNR<P>, part(C, block, blocks()), packed_block(strip, block));
      });
    }
    const int64_t groups = ceil_divide(this->count(), most_tiles());
    parallel_for(groups * ceil_divide(F, widest()), [&](int64_t i) {
      const int64_t n0 = i / groups * widest();
      chunk(part(this->count(), i % groups, groups), {n0, smaller(n0 + widest(), F)});
    });
  }
};

// dw: the sums over tiles of one block of channels and filters stay in scratch, beside V and W of
// some tiles. They run in `splits` parts, each into its own copy of dw, which are added in order.
template <class T, int KH, int KW>
struct WinogradFilterGradient : Tiles<T, KH, KW> {
  using Base = Tiles<T, KH, KW>;
  using Base::kInH, Base::kInW, Base::kOutH, Base::kOutW, Base::kPlanes;
  using typename Base::Across, typename Base::Down, typename Base::P, typename Base::S,
      typename Base::Tile;
  using Terms = Planes<P, kPlanes>;  // two tiles a row of pairs
  using Sums = Planes<S, kPlanes>;

  using Base::C, Base::F;
  const T *x, *dy;

  static constexpr int64_t kChannels = 256 / sizeof(S), kFilters = 256 / sizeof(S);
  static constexpr int64_t kRows = 24 * 36 / kPlanes, kTiles = kRows * kTerms<T>;
  static_assert(Sums::bytes(kChannels, kFilters) + 2 * Terms::bytes(kRows, kFilters) <=
                kScratchBytes);

  // In multiplications, as measured: 17 a plane for dw, 14 for V, 7 for W.
  bool pays() const {
    const double v = static_cast<double>(C * ceil_divide(F, kFilters));
    const double w = static_cast<double>(F * blocks());
    return Base::pays(1.2 * static_cast<double>(C * F) + 14 * v + 7 * w, 17);
  }

  int64_t blocks() const { return ceil_divide(C, kChannels); }
  int64_t tasks() const { return blocks() * ceil_divide(F, kFilters); }
  int64_t groups() const { return ceil_divide(this->count(), kTiles); }
  int64_t size() const { return KH * KW * C * F; }
  int64_t splits() const { return smaller(ceil_divide(16, tasks()), groups()); }
  int64_t workspace() const { return splits() > 1 ? splits() * size() : 0; }

  // w[plane, tile, f] = A dy A^T, of outputs outside 0
  void transform_output_gradient(Range tiles, Range filters, const Terms& w) const {
    const int64_t right = F, down = this->cols.count * F;
    this->for_tiles(tiles, [&](int64_t t, const Tile& tile) {
      const T* dy_t = dy + (tile.n * this->rows.count + tile.row) * down + tile.col * right;
      const auto transform = [&](auto whole) {
        for_lanes<T>(filters.size(), [&](int64_t n, int64_t lanes) {
          const T* from = dy_t + filters.begin + n;
          P* to = w.at(0, t / kTerms<T>, n);
          transform_tile<S, kOutH, kInH, Down::output_gradient, kOutW, kInW,
                         Across::output_gradient>(
              [&](int i, int j) {
                const T* at = from + i * down + j * right;
                __builtin_prefetch(at + kOutW * right);  // for the next tile
                return whole || (i < tile.high && j < tile.wide) ? load_lanes(at, lanes) : Vec<S>{};
              },
              [&](int i, int j, Vec<S> w_ij) {
                put_term<T>(to + (i * kInW + j) * w.plane, w_ij, t % kTerms<T>);
              });
        });
      };
      if (kUnrollTiles && tile.high * tile.wide == kOutH * kOutW) {
        transform(std::true_type{});
      } else {
        transform(std::false_type{});
      }
    });
  }

  // dw[tap, c, f] = G^T d G
  template <class Out>
  void transform_filter_gradient(Range channels, Range filters, const Sums& d, Out* dw) const {
    for (int64_t c = 0; c < channels.size(); ++c) {
      for_lanes<T>(filters.size(), [&](int64_t n, int64_t lanes) {
        const S* from = d.at(0, c, n);
        Out* to = dw + (channels.begin + c) * F + filters.begin + n;
        transform_tile<S, kInH, KH, Down::filter_gradient, kInW, KW, Across::filter_gradient>(
            [&](int i, int j) { return load(from + (i * kInW + j) * d.plane); },
            [&](int i, int j, Vec<S> dw_ij) {
              store_lanes<Out>(to + (i * KW + j) * C * F, dw_ij, lanes);
            });
      });
    }
  }

  template <class Out>
  void task(Range task_groups, Range channels, Range filters, Out* dw) const {
    const int64_t v_row = round_up(channels.size(), kLanes<P>);
    const int64_t w_row = round_up(filters.size(), kNR<P>);
    const Sums d(static_cast<S*>(scratch()), channels.size(), w_row);
    const Terms v(reinterpret_cast<P*>(d.end()), kRows, v_row), w(v.end(), kRows, w_row);
    for (int64_t group = task_groups.begin; group < task_groups.end; ++group) {
      const Range tiles = part(this->count(), group, groups());
      this->transform_input(tiles, x, channels, [&](int p, int64_t t, int64_t c, Vec<S> v_p) {
        put_term<T>(v.at(p, t / kTerms<T>, c), v_p, t % kTerms<T>);
      });
      transform_output_gradient(tiles, filters, w);
      for (int64_t p = 0; p < kPlanes; ++p) {
        for (int64_t n = 0; n < filters.size(); n += kNR<P>) {
          const int64_t wide = filters.size() - n > kLanes<P> ? kNR<P> : kLanes<P>;
          for (int64_t c = 0; c < channels.size(); c += kMR) {
            tile<P, false>(smaller(kMR, channels.size() - c), wide, packed_depth<T>(tiles.size()),
                           v.at(p, 0, c), 1, v.row, w.at(p, 0, n), w.row, d.at(p, c, n), d.row,
                           group > task_groups.begin);
          }
        }
      }
    }
    transform_filter_gradient(channels, filters, d, dw);
  }

  void run(T* dw, S* copies) const {
    const int64_t parts = splits();
    parallel_for(parts * tasks(), [&](int64_t i) {
      const int64_t split = i / tasks(), n0 = i % tasks() / blocks() * kFilters;
      const Range sums = part(groups(), split, parts), channels = part(C, i % blocks(), blocks());
      const Range filters = {n0, smaller(n0 + kFilters, F)};
      if (parts > 1) {
        task(sums, channels, filters, copies + split * size());
      } else {
        task(sums, channels, filters, dw);
      }
    });
    if (parts > 1) add_copies(copies, parts, size(), dw);
  }
};

// visit(make(algorithm of the kernel's size)) if there is one and it pays; returns whether.
template <class T, template <class, int, int> class Algorithm, class Make, class Visit>
inline bool visit_winograd(const Axis (&axis)[3], const Make& make, const Visit& visit) {
  const auto attempt = [&](auto empty) {
    if (!empty.fit(axis)) return false;
    make(empty);
    empty.rows = axis[1], empty.cols = axis[2];
    return empty.pays() && (visit(empty), true);
  };
  return attempt(Algorithm<T, 3, 3>{}) || attempt(Algorithm<T, 5, 5>{}) ||
         attempt(Algorithm<T, 1, 3>{}) || attempt(Algorithm<T, 1, 5>{}) ||
         attempt(Algorithm<T, 4, 4>{});
}

}  // namespace narae::NARAE_ISA
