// Transposes of a square tile held in registers: kLanes<T> rows of kLanes<T> values.
//
// log2(kLanes) rounds; round s swaps the off-diagonal s x s blocks of every 2s x 2s block:
//   a b      a c        row i of the upper half meets row i + s of the lower
//   c d  ->  b d
#pragma once

#include <utility>

#include "core/vec.h"

namespace narae::NARAE_ISA {

// Lanes of a and b by number: those of b go on where a's end.
template <class T, int... kLane>
inline Vec<T> shuffle(Vec<T> a, Vec<T> b) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, kLane...);
#else
  return __builtin_shuffle(a, b, Vec<Int<T>>{kLane...});
#endif
}

template <class T, int kStep, int... kLane>
inline void swap_blocks(Vec<T>& upper, Vec<T>& lower, std::integer_sequence<int, kLane...>) {
  constexpr int kB = kLanes<T>;  // the first lane of the second operand
  const Vec<T> a = upper, b = lower;
  upper = shuffle<T, (kLane & kStep ? kB + kLane - kStep : kLane)...>(a, b);
  lower = shuffle<T, (kLane & kStep ? kB + kLane : kLane + kStep)...>(a, b);
}

template <class T, int kStep = 1>
inline void transpose(Vec<T> (&rows)[kLanes<T>]) {
  NARAE_UNROLL
  for (int i = 0; i < kLanes<T>; ++i) {
    if (!(i & kStep)) {
      swap_blocks<T, kStep>(rows[i], rows[i + kStep], std::make_integer_sequence<int, kLanes<T>>{});
    }
  }
  if constexpr (2 * kStep < kLanes<T>) transpose<T, 2 * kStep>(rows);
}

// Lane i is all lanes of row i combined, a sum by default: as transpose, but what meets is combined
// at once.
struct Plus {
  template <class V>
  V operator()(V a, V b) const {
    return a + b;
  }
};
template <class T, int kStep = 1, class Combine = Plus>
inline Vec<T> fold_rows(Vec<T> (&rows)[kLanes<T>], const Combine& combine = {}) {
  NARAE_UNROLL
  for (int i = 0; i < kLanes<T>; i += 2 * kStep) {
    swap_blocks<T, kStep>(rows[i], rows[i + kStep], std::make_integer_sequence<int, kLanes<T>>{});
    rows[i] = combine(rows[i], rows[i + kStep]);
  }
  if constexpr (2 * kStep < kLanes<T>) return fold_rows<T, 2 * kStep>(rows, combine);
  return rows[0];
}

// to[j * to_row + i] = from[i * from_row + j] for a whole tile; kStream: past the caches.
template <class T, bool kStream>
inline void transpose_tile(const T* from, std::int64_t from_row, T* to, std::int64_t to_row) {
  Vec<T> rows[kLanes<T>];
  NARAE_UNROLL
  for (int i = 0; i < kLanes<T>; ++i) rows[i] = load(from + i * from_row);
  transpose<T>(rows);
  NARAE_UNROLL
  for (int i = 0; i < kLanes<T>; ++i) {
    if constexpr (kStream) {
      stream(to + i * to_row, rows[i]);
    } else {
      store(to + i * to_row, rows[i]);
    }
  }
}

}  // namespace narae::NARAE_ISA
