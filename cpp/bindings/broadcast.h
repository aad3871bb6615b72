// How arrays of different shapes are read together.
#pragma once

#include <array>

#include "bindings/arrays.h"
#include "kernels/elementwise.h"

namespace narae {

// NumPy's broadcasting of contiguous arrays, with dimensions joined where all strides allow it.
template <int Inputs>
Broadcast<Inputs> broadcast(const char* who, const std::array<Shape, Inputs>& shapes, Shape* out) {
  std::size_t dims = 0;
  for (const Shape& s : shapes) dims = s.size() > dims ? s.size() : dims;
  out->assign(dims, 1);
  const auto size_of = [&](const Shape& s, std::size_t d) -> std::int64_t {
    return d + s.size() < dims ? 1 : s[d + s.size() - dims];
  };
  for (std::size_t d = 0; d < dims; ++d) {
    for (const Shape& s : shapes) {
      const std::int64_t n = size_of(s, d);
      if (n == 1) continue;
      if ((*out)[d] != 1 && (*out)[d] != n) {
        std::string text;
        for (const Shape& each : shapes) text += (text.empty() ? "" : " and ") + shape_text(each);
        fail_value(who, "shapes that broadcast", text);
      }
      (*out)[d] = n;
    }
  }
  checked_size(who, *out);
  // Innermost first, then turned around.
  Broadcast<Inputs> rows = {};
  std::int64_t step[Inputs];
  for (std::int64_t& s : step) s = 1;
  for (std::size_t d = dims; d-- > 0;) {
    const std::int64_t n = (*out)[d];
    if (n == 1) continue;
    std::int64_t stride[Inputs];
    bool joins = rows.dims > 0;
    for (int i = 0; i < Inputs; ++i) {
      const std::int64_t size = size_of(shapes[i], d);
      stride[i] = size == 1 ? 0 : step[i];
      step[i] *= size;
      if (joins) {
        const int k = rows.dims - 1;
        joins = stride[i] == rows.stride[i][k] * rows.size[k];
      }
    }
    if (joins) {
      rows.size[rows.dims - 1] *= n;
      continue;
    }
    if (rows.dims == kMaxDims)
      fail_value(who, "at most 8 dimensions", std::to_string(dims) + " dimensions");
    rows.size[rows.dims] = n;
    for (int i = 0; i < Inputs; ++i) rows.stride[i][rows.dims] = stride[i];
    ++rows.dims;
  }
  if (rows.dims == 0) {
    rows.dims = 1;
    rows.size[0] = 1;
    for (int i = 0; i < Inputs; ++i) rows.stride[i][0] = 1;
  }
  for (int k = 0; k < rows.dims / 2; ++k) {
    const int l = rows.dims - 1 - k;
    std::swap(rows.size[k], rows.size[l]);
    for (int i = 0; i < Inputs; ++i) std::swap(rows.stride[i][k], rows.stride[i][l]);
  }
  return rows;
}

py::array copy_array(const py::array& x, const Shape& shape);  // a copy, with another shape
py::array view(const py::array& x, const Shape& shape);        // the same memory

}  // namespace narae
