#include "kernels/shape.h"

#include "core/isa.h"
#include "core/transpose.h"
#include "kernels/elementwise_rows.h"

namespace narae {
namespace NARAE_ISA {
namespace {

// Of a transpose: rows of `to` that are written together.
constexpr std::int64_t kBandRows = 64;

template <class T>
bool may_stream_rows(const MoveShape& s, const T* to) {
  std::int64_t size = 1, steps = 0;
  for (int d = 0; d < s.dims; ++d) {
    size *= s.size[d];
    if (d < s.dims - 1) steps |= s.to[d];
  }
  return sizeof(T) >= 4 && may_stream(to, size, steps);
}

template <class T>
inline void move_row(const T* from, std::int64_t from_step, T* to, std::int64_t to_step,
                     std::int64_t n, bool streamed) {
  if (to_step == 1 && from_step == 1) {
    if (streamed) {
      for (std::int64_t i = 0; i < n; i += kLanes<T>) stream(to + i, load(from + i));
    } else {
      std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
    }
  } else if (to_step == 1 && from_step == 0) {
    const T value = *from;
    for (std::int64_t i = 0; i < n; ++i) to[i] = value;
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
  }
}

// The offsets of row `index` of the first `dims` dimensions.
void locate(const MoveShape& s, int dims, std::int64_t index, std::int64_t* from,
            std::int64_t* to) {
  *from = *to = 0;
  for (int d = dims - 1; d >= 0; --d) {
    const std::int64_t i = index % s.size[d];
    index /= s.size[d];
    *from += i * s.from[d];
    *to += i * s.to[d];
  }
}

template <class T>
void move_rows(const MoveShape& s, const T* from, T* to) {
  const int last = s.dims - 1;
  const std::int64_t n = s.size[last];
  std::int64_t rows = 1;
  for (int d = 0; d < last; ++d) rows *= s.size[d];
  const bool streamed = n % kLanes<T> == 0 && may_stream_rows(s, to);
  // A long row is cut in pieces, short rows go together.
  const std::int64_t piece = n < 2 * kElementGrain ? n : kElementGrain;
  const std::int64_t pieces = (n + piece - 1) / piece;
  if (pieces > 1) {
    return parallel_for(rows * pieces, [&](std::int64_t i) {
      const std::int64_t start = i % pieces * piece;
      std::int64_t a, b;
      locate(s, last, i / pieces, &a, &b);
      move_row(from + a + start * s.from[last], s.from[last], to + b + start * s.to[last],
               s.to[last], piece < n - start ? piece : n - start, streamed);
      if (streamed) finish_streaming();
    });
  }
  // The dimension before the last is walked in a loop, those before it are located.
  const std::int64_t M = last ? s.size[last - 1] : 1;
  parallel_ranges(rows, kElementGrain / piece + 1, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      std::int64_t a, b;
      locate(s, last, begin, &a, &b);
      const std::int64_t left = M - begin % M, count = left < end - begin ? left : end - begin;
      for (std::int64_t m = 0; m < count; ++m) {
        const std::int64_t a_m = last ? a + m * s.from[last - 1] : a;
        const std::int64_t b_m = last ? b + m * s.to[last - 1] : b;
        move_row(from + a_m, s.from[last], to + b_m, s.to[last], n, streamed);
      }
      begin += count;
    }
    if (streamed) finish_streaming();
  });
}

// A side of the tiles that are turned in registers. Bytes have none: a tile would not fit.
template <class T>
constexpr std::int64_t kTile = sizeof(T) == 1   ? 1
                               : sizeof(T) == 2 ? kLanes<float>
                                                : kLanes<T>;

// to[j * to_row + i] = from[i * from_row + j]. Two bytes are turned as lanes of four: one by one,
// 2048 x 2048 of them took 7.7 ms.
template <class T, bool kStream>
inline void move_tile(const T* from, std::int64_t from_row, T* to, std::int64_t to_row) {
  if constexpr (sizeof(T) == 2) {
    Vec<float> rows[kTile<T>];
    Halves halves;
    NARAE_UNROLL
    for (int i = 0; i < kTile<T>; ++i) {
      std::memcpy(&halves, from + i * from_row, sizeof halves);
      rows[i] = widen(halves);
    }
    transpose<float>(rows);
    NARAE_UNROLL
    for (int i = 0; i < kTile<T>; ++i) {
      halves = __builtin_convertvector((Words)rows[i] >> 16, Halves);
      std::memcpy(to + i * to_row, &halves, sizeof halves);
    }
  } else {
    transpose_tile<T, kStream>(from, from_row, to, to_row);
  }
}

// to[m * m_step + n] = from[m + n * n_step] for a band of M x N elements, block by block of
// columns, each from top to bottom. A
// block's width was tuned: streamed stores want few rows of `to` open at a time, others a page of
// `from` used up.
template <class T, bool kStream>
void move_band(const T* from, std::int64_t n_step, T* to, std::int64_t m_step, std::int64_t M,
               std::int64_t N) {
  constexpr std::int64_t kWidth = kStream ? kTile<T> : 256;
  const std::int64_t tiled_m = M / kTile<T> * kTile<T>, tiled_n = N / kTile<T> * kTile<T>;
  const auto one_by_one = [=](std::int64_t m0, std::int64_t m1, std::int64_t n0, std::int64_t n1) {
    for (std::int64_t m = m0; m < m1; ++m) {
      for (std::int64_t n = n0; n < n1; ++n) to[m * m_step + n] = from[m + n * n_step];
    }
  };
  for (std::int64_t n0 = 0; n0 < tiled_n; n0 += kWidth) {
    const std::int64_t n1 = n0 + kWidth < tiled_n ? n0 + kWidth : tiled_n;
    if constexpr (kTile<T> == 1) {
      one_by_one(0, M, n0, n1);
    } else {
      for (std::int64_t m = 0; m < tiled_m; m += kTile<T>) {
        for (std::int64_t n = n0; n < n1; n += kTile<T>)
          move_tile<T, kStream>(from + m + n * n_step, n_step, to + m * m_step + n, m_step);
      }
      one_by_one(tiled_m, M, n0, n1);
    }
  }
  one_by_one(0, M, tiled_n, N);
  if (kStream) finish_streaming();
}

// A transpose of the last two dimensions: the last is contiguous in `to`, the one before in `from`.
template <class T>
void move_bands(const MoveShape& s, const T* from, T* to) {
  const int last = s.dims - 1;
  const std::int64_t M = s.size[last - 1], N = s.size[last];
  const std::int64_t m_step = s.to[last - 1], n_step = s.from[last];
  std::int64_t matrices = 1;
  for (int d = 0; d < last - 1; ++d) matrices *= s.size[d];
  const std::int64_t bands = (M + kBandRows - 1) / kBandRows;
  const auto band = may_stream_rows(s, to) ? move_band<T, true> : move_band<T, false>;
  parallel_ranges(matrices * bands, kElementGrain / ((M < kBandRows ? M : kBandRows) * N) + 1,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      std::int64_t a, b;
                      locate(s, last - 1, i / bands, &a, &b);
                      const std::int64_t m = i % bands * kBandRows;
                      band(from + a + m, n_step, to + b + m * m_step, m_step,
                           kBandRows < M - m ? kBandRows : M - m, N);
                    }
                  });
}

template <class T>
void move(MoveShape s, const T* from, T* to) {
  const int last = s.dims - 1;
  if (s.dims > 1 && s.to[last] == 1 && s.from[last] > 1) {
    for (int d = last - 1; d >= 0; --d) {
      if (s.from[d] != 1 || s.size[d] < 4) continue;
      const std::int64_t size = s.size[d], step = s.to[d];
      for (int k = d; k < last - 1; ++k) {
        s.size[k] = s.size[k + 1], s.from[k] = s.from[k + 1], s.to[k] = s.to[k + 1];
      }
      s.size[last - 1] = size, s.from[last - 1] = 1, s.to[last - 1] = step;
      return move_bands(s, from, to);
    }
  }
  move_rows(s, from, to);
}

template <class T>
constexpr Move<T> kTable = {move<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Move<std::uint8_t>& implementation<Move<std::uint8_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::uint8_t>;
}
template <>
const Move<std::uint16_t>& implementation<Move<std::uint16_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::uint16_t>;
}
template <>
const Move<std::uint32_t>& implementation<Move<std::uint32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::uint32_t>;
}
template <>
const Move<std::uint64_t>& implementation<Move<std::uint64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::uint64_t>;
}

}  // namespace narae
