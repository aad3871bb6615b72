// What the machine can do at most, for benchmarks to be measured against.
//
//   multiply_add  runs `rounds` rounds of independent multiply-adds that stay in registers; returns
//   how many
//                 floating-point operations (two for each multiply-add) that were. `sink` takes a
//                 result, so that nothing is optimized away.
//   copy          y = x, n values: as many bytes read as written
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "core/isa.h"

namespace narae {

template <class T>
struct Peak {
  std::int64_t (*operations)(std::int64_t rounds);
  void (*multiply_add)(std::int64_t rounds, Real<T>* sink);
  void (*copy)(const T* x, T* y, std::int64_t n);
};
template <>
inline constexpr bool kGainsFromBf16<Peak<BFloat16>> = true;

}  // namespace narae
