// bfloat16: the upper half of a float32, sign, 8 bits of exponent and 7 of mantissa. It is stored,
// never computed in: kernels widen it to float and round the result (core/vec.h).
#pragma once

#include <cstdint>
#include <type_traits>

namespace narae {

struct BFloat16 {
  std::uint16_t bits;
};

// What a kernel for T computes in: scalars, sums, statistics, parameters.
template <class T>
using Real = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

}  // namespace narae
