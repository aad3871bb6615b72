#include "kernels/shape.h"

#include "core/isa.h"
#include "kernels/elementwise_rows.h"

namespace narae {
namespace NARAE_ISA {
namespace {

constexpr std::int64_t kTile = 32;

template <class T>
inline void move_row(const T* from, std::int64_t from_step, T* to, std::int64_t to_step,
                     std::int64_t n) {
  if (to_step == 1 && from_step == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
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
  // A long row is cut in pieces, short rows go together.
  const std::int64_t piece = n < 2 * kElementGrain ? n : kElementGrain;
  const std::int64_t pieces = (n + piece - 1) / piece;
  if (pieces > 1) {
    return parallel_for(rows * pieces, [&](std::int64_t i) {
      const std::int64_t start = i % pieces * piece;
      std::int64_t a, b;
      locate(s, last, i / pieces, &a, &b);
      move_row(from + a + start * s.from[last], s.from[last], to + b + start * s.to[last],
               s.to[last], piece < n - start ? piece : n - start);
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
        move_row(from + a_m, s.from[last], to + b_m, s.to[last], n);
      }
      begin += count;
    }
  });
}

// The last dimension is contiguous in `to`, the one before it in `from`: tile by tile, so that a
// line of either is used whole while it is in the cache.
template <class T>
void move_tiles(const MoveShape& s, const T* from, T* to) {
  const int last = s.dims - 1;
  const std::int64_t M = s.size[last - 1], N = s.size[last];
  const std::int64_t m_step = s.to[last - 1], n_step = s.from[last];
  std::int64_t matrices = 1;
  for (int d = 0; d < last - 1; ++d) matrices *= s.size[d];
  const std::int64_t bands = (M + kTile - 1) / kTile;
  const auto band = [&](std::int64_t index) {
    std::int64_t a, b;
    locate(s, last - 1, index / bands, &a, &b);
    const std::int64_t m0 = index % bands * kTile;
    const std::int64_t rows = kTile < M - m0 ? kTile : M - m0;
    const T* from_band = from + a + m0;
    T* to_band = to + b + m0 * m_step;
    for (std::int64_t n0 = 0; n0 < N; n0 += kTile) {
      const std::int64_t columns = kTile < N - n0 ? kTile : N - n0;
      for (std::int64_t m = 0; m < rows; ++m) {
        for (std::int64_t n = n0; n < n0 + columns; ++n)
          to_band[m * m_step + n] = from_band[m + n * n_step];
      }
    }
  };
  parallel_ranges(matrices * bands, kElementGrain / (kTile * N) + 1,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t index = begin; index < end; ++index) band(index);
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
      return move_tiles(s, from, to);
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
const Move<std::uint32_t>& implementation<Move<std::uint32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::uint32_t>;
}
template <>
const Move<std::uint64_t>& implementation<Move<std::uint64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::uint64_t>;
}

}  // namespace narae
