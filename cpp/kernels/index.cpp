#include "kernels/index.h"

#include <cstring>

#include "core/isa.h"
#include "core/parallel.h"
#include "core/vec.h"

namespace narae {
namespace NARAE_ISA {
namespace {

constexpr std::int64_t kGrainBytes = std::int64_t{1} << 16, kFetchBytes = 4096, kAheadBytes = 12288;

inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// ---- reading -----------------------------------------------------------------------------------

template <std::size_t kBytes>
void gather_small(const char* x, const std::int64_t* index, char* y, std::int64_t n) {
  constexpr auto kStep = static_cast<std::int64_t>(kBytes);
  for (std::int64_t i = 0; i < n; ++i) std::memcpy(y + i * kStep, x + index[i] * kStep, kBytes);
}

// Asks for bytes that are read soon: rows taken at random are in no cache, and the hardware needs
// some lines of each before it guesses the next ones. Into L2, which has more requests under way:
// 32 rows of 3 KB out of memory take 7.7 us on Zen 4, into L1 12.8.
inline void fetch(const void* p, std::int64_t bytes) {
  constexpr std::int64_t kLine = 64;
  for (std::int64_t i = 0; i < bytes; i += kLine)
    __builtin_prefetch(static_cast<const char*>(p) + i, 0, 2);
}

// Rows of whole registers, 128 bytes above all, cost less than a call of memcpy for each.
inline void copy_row(const char* from, char* to, std::int64_t bytes, bool streamed) {
  if (bytes % kVecBytes) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    return;
  }
  using Byte = std::uint8_t;
  write_lanes(reinterpret_cast<Byte*>(to), bytes, streamed, [=](std::int64_t i, std::int64_t) {
    return load(reinterpret_cast<const Byte*>(from) + i);
  });
}

void gather(const void* x, const std::int64_t* index, void* y, std::int64_t A, std::int64_t R,
            std::int64_t I, std::int64_t row_bytes) {
  const std::int64_t fetched = smaller(row_bytes, kFetchBytes),
                     ahead = 1 + kAheadBytes / (row_bytes + 1);
  const bool streamed = may_stream(static_cast<std::uint8_t*>(y), A * I * row_bytes, row_bytes);
  parallel_ranges(
      A * I, 1 + kGrainBytes / (row_bytes + 16), [&](std::int64_t begin, std::int64_t end) {
        while (begin < end) {  // the part of one a
          const std::int64_t a = begin / I, i = begin % I, n = smaller(end - begin, I - i);
          const char* x_a = static_cast<const char*>(x) + a * R * row_bytes;
          char* to = static_cast<char*>(y) + begin * row_bytes;
          if (row_bytes == 4) {
            gather_small<4>(x_a, index + i, to, n);
          } else if (row_bytes == 8) {
            gather_small<8>(x_a, index + i, to, n);
          } else {
            const auto fetch_row = [=](std::int64_t k) {
              if (k < n) fetch(x_a + index[i + k] * row_bytes, fetched);
            };
            for (std::int64_t k = 0; k < ahead; ++k) fetch_row(k);
            for (std::int64_t k = 0; k < n; ++k) {
              fetch_row(k + ahead);
              copy_row(x_a + index[i + k] * row_bytes, to + k * row_bytes, row_bytes, streamed);
            }
          }
          begin += n;
        }
        if (streamed) finish_streaming();
      });
}

template <class T>
void take_along_axis(const T* x, const std::int64_t* index, T* y, std::int64_t A, std::int64_t R,
                     std::int64_t B, std::int64_t I) {
  if (A * I * B == 0) return;
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  const std::int64_t row = B == 1 ? I : B;  // without a last axis the rows are those of the axis
  parallel_ranges(A * I * B / row, 1 + kGrainBytes / (8 * row),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t r = begin; r < end; ++r) {
                      const T* x_a = x + (B == 1 ? r : r / I) * R * B;
                      const std::int64_t* index_r = index + r * row;
                      T* y_r = y + r * row;
                      if (B == 1) {
                        if (r + 1 < end) {
                          fetch(index_r + I, smaller(8 * I, kFetchBytes));
                          fetch(x_a + R, smaller(smaller(R, 16 * I) * kSize, kFetchBytes));
                        }
                        for (std::int64_t i = 0; i < I; ++i) y_r[i] = x_a[index_r[i]];
                      } else {
                        for (std::int64_t b = 0; b < B; ++b) y_r[b] = x_a[index_r[b] * B + b];
                      }
                    }
                  });
}

// ---- writing -----------------------------------------------------------------------------------

// How y is cut: each chunk owns the rows [0, R) / row_parts and the columns [0, B) / column_parts
// of one a. Columns first: they are of equal work, however the indices are spread.
struct Parts {
  std::int64_t row_parts, column_parts, rows, columns;
};
template <class T>
Parts parts_of(std::int64_t R, std::int64_t B, std::int64_t I) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T)), kMost = 16;
  const std::int64_t bytes = (R + 2 * I) * B * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t wanted = smaller(1 + bytes / (4 * kGrainBytes), kMost);
  Parts p;
  p.columns = (B + wanted - 1) / wanted;
  p.columns = (p.columns + 4 * kLine - 1) / (4 * kLine) * (4 * kLine);
  p.column_parts = (B + p.columns - 1) / p.columns;
  // Every part reads all indices, which must cost little beside the values.
  const std::int64_t most = B * static_cast<std::int64_t>(sizeof(T)) < 32 ? 1 : R;
  p.row_parts = smaller(smaller((wanted + p.column_parts - 1) / p.column_parts, most), R);
  p.rows = (R + p.row_parts - 1) / p.row_parts;
  return p;
}

template <class T, class Combine>
void scatter(const ScatterArgs<T>& s, const Combine& combine) {
  if (s.A == 0 || s.R == 0 || s.B == 0) return;
  const Parts p = parts_of<T>(s.R, s.B, s.I);
  parallel_for(s.A * p.row_parts * p.column_parts, [&](std::int64_t chunk) {
    const std::int64_t a = chunk / (p.row_parts * p.column_parts);
    const std::int64_t r0 = chunk / p.column_parts % p.row_parts * p.rows;
    const std::int64_t r1 = smaller(r0 + p.rows, s.R);
    const std::int64_t b0 = chunk % p.column_parts * p.columns, n = smaller(p.columns, s.B - b0);
    T* y = s.y + a * s.R * s.B + b0;
    const T* values = s.values + a * s.I * s.B + b0;
    const T* base = s.base ? s.base + a * s.R * s.B + b0 : nullptr;
    if (base != y) {
      for (std::int64_t r = r0; r < r1; ++r) {
        if (base) {
          std::memcpy(y + r * s.B, base + r * s.B, static_cast<std::size_t>(n) * sizeof(T));
        } else {
          for (std::int64_t b = 0; b < n; ++b) y[r * s.B + b] = s.start;
        }
      }
    }
    for (std::int64_t i = 0; i < s.I; ++i) {
      const std::int64_t r = s.index[i];
      if (r >= r0 && r < r1) combine(y + r * s.B, values + i * s.B, n);
    }
  });
}

template <class T>
void update(ScatterArgs<T> args) {
  scatter(args, [](T* y, const T* values, std::int64_t n) {
    std::memcpy(y, values, static_cast<std::size_t>(n) * sizeof(T));
  });
}

template <class T, class Op>
void combine(const ScatterArgs<T>& args, const Op& op) {
  scatter(args, [&](T* y, const T* values, std::int64_t n) {
    if (n == 1) {
      *y = op(*y, *values);
    } else {
      for_lanes<T>(n, [&](std::int64_t b, std::int64_t lanes) {
        store_lanes<T>(y + b, op(load_lanes(y + b, lanes), load_lanes(values + b, lanes)), lanes);
      });
    }
  });
}

// Integers wrap around, which only unsigned ones may.
template <class V>
struct Wrapping {
  using type = V;
};
template <>
struct Wrapping<std::int32_t> {
  using type = std::uint32_t;
};
template <>
struct Wrapping<std::int64_t> {
  using type = std::uint64_t;
};
template <>
struct Wrapping<Vec<std::int32_t>> {
  using type = Vec<std::uint32_t>;
};
template <>
struct Wrapping<Vec<std::int64_t>> {
  using type = Vec<std::uint64_t>;
};

struct Add {
  template <class V>
  V operator()(V a, V b) const {
    using W = typename Wrapping<V>::type;
    return (V)((W)a + (W)b);
  }
};
struct Multiply {
  template <class V>
  V operator()(V a, V b) const {
    using W = typename Wrapping<V>::type;
    return (V)((W)a * (W)b);
  }
};
struct Max {
  template <class V>
  V operator()(V a, V b) const {
    return ((a > b) | (a != a)) ? a : b;
  }
};
struct Min {
  template <class V>
  V operator()(V a, V b) const {
    return ((a < b) | (a != a)) ? a : b;
  }
};

template <class T, class Op>
void combine_by(ScatterArgs<T> args) {
  combine(args, Op{});
}

template <class T>
void add_along_axis(const T* values, const std::int64_t* index, T* y, std::int64_t A,
                    std::int64_t R, std::int64_t B, std::int64_t I) {
  // Columns of one a are apart from each other: chunks of whole a's, or of columns when they are
  // few.
  const std::int64_t columns = A >= 8 || B < 128 ? (B > 0 ? B : 1) : 64;
  const std::int64_t parts = (B + columns - 1) / columns;
  parallel_ranges(A * parts, 1 + kGrainBytes / (8 * (R + I) * columns + 1),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
                      const std::int64_t a = chunk / parts, b0 = chunk % parts * columns;
                      const std::int64_t n = smaller(columns, B - b0);
                      T* y_a = y + a * R * B + b0;
                      for (std::int64_t r = 0; r < R; ++r)
                        for (std::int64_t b = 0; b < n; ++b) y_a[r * B + b] = T(0);
                      for (std::int64_t i = 0; i < I; ++i) {
                        const std::int64_t at = (a * I + i) * B + b0;
                        for (std::int64_t b = 0; b < n; ++b) {
                          T& to = y_a[index[at + b] * B + b];
                          to = Add{}(to, values[at + b]);
                        }
                      }
                    }
                  });
}

template <class T>
void hot(const std::int64_t* index, T* y, std::int64_t N, std::int64_t I, std::int64_t C, T one) {
  const std::int64_t bytes = C * static_cast<std::int64_t>(sizeof(T)) + 8 * I;
  parallel_ranges(N, 1 + kGrainBytes / (bytes + 1), [&](std::int64_t begin, std::int64_t end) {
    std::memset(y + begin * C, 0, static_cast<std::size_t>((end - begin) * C) * sizeof(T));
    for (std::int64_t n = begin; n < end; ++n) {
      for (std::int64_t i = n * I; i < (n + 1) * I; ++i)
        if (index[i] >= 0 && index[i] < C) y[n * C + index[i]] = one;
    }
  });
}

constexpr Gather kGather = {gather};
template <class T>
constexpr IndexBits<T> kBits = {take_along_axis<T>, update<T>, hot<T>};
template <class T>
constexpr IndexNumbers<T> kNumbers = {combine_by<T, Add>, combine_by<T, Max>, combine_by<T, Min>,
                                      combine_by<T, Multiply>, add_along_axis<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Gather& implementation<Gather, Isa::NARAE_ISA>() {
  return NARAE_ISA::kGather;
}
template <>
const IndexBits<std::uint8_t>& implementation<IndexBits<std::uint8_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kBits<std::uint8_t>;
}
template <>
const IndexBits<std::uint16_t>& implementation<IndexBits<std::uint16_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kBits<std::uint16_t>;
}
template <>
const IndexBits<std::uint32_t>& implementation<IndexBits<std::uint32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kBits<std::uint32_t>;
}
template <>
const IndexBits<std::uint64_t>& implementation<IndexBits<std::uint64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kBits<std::uint64_t>;
}
template <>
const IndexNumbers<float>& implementation<IndexNumbers<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kNumbers<float>;
}
template <>
const IndexNumbers<double>& implementation<IndexNumbers<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kNumbers<double>;
}
template <>
const IndexNumbers<std::int32_t>& implementation<IndexNumbers<std::int32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kNumbers<std::int32_t>;
}
template <>
const IndexNumbers<std::int64_t>& implementation<IndexNumbers<std::int64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kNumbers<std::int64_t>;
}

}  // namespace narae
