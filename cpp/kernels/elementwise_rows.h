// Walks the rows of a broadcast, and a range of a flat array, in parallel.
#pragma once

#include "core/parallel.h"
#include "core/vec.h"
#include "kernels/elementwise.h"

namespace narae::NARAE_ISA {

inline constexpr std::int64_t kElementGrain = std::int64_t{1} << 15;

// row(offsets, begin, n): the offset of each input and that of y, and the length.
template <int Inputs, class Row>
inline void for_rows(const Broadcast<Inputs>& shape, const Row& row) {
  const int last = shape.dims - 1;
  const std::int64_t width = shape.size[last];
  std::int64_t total = 1;
  for (int d = 0; d <= last; ++d) total *= shape.size[d];
  parallel_ranges(total, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t index[kMaxDims] = {}, offset[Inputs] = {};
    for (std::int64_t d = last, rest = begin; d >= 0; --d) {
      index[d] = rest % shape.size[d];
      rest /= shape.size[d];
      for (int i = 0; i < Inputs; ++i) offset[i] += index[d] * shape.stride[i][d];
    }
    while (begin < end) {
      const std::int64_t left = width - index[last];
      const std::int64_t n = left < end - begin ? left : end - begin;
      row(offset, begin, n);
      begin += n;
      // To the start of the next row: an odometer over the outer dimensions.
      for (int i = 0; i < Inputs; ++i) offset[i] -= index[last] * shape.stride[i][last];
      index[last] = 0;
      for (int d = last - 1; d >= 0; --d) {
        for (int i = 0; i < Inputs; ++i) offset[i] += shape.stride[i][d];
        if (++index[d] < shape.size[d]) break;
        for (int i = 0; i < Inputs; ++i) offset[i] -= shape.size[d] * shape.stride[i][d];
        index[d] = 0;
      }
    }
  });
}

}  // namespace narae::NARAE_ISA
