#include "kernels/index.h"

#include <limits>
#include <stdexcept>

#include "bindings/arrays.h"

namespace narae {
namespace {

using Index = Input<std::int64_t>;

std::string place_text(std::int64_t flat, const Shape& shape) {
  Shape place(shape.size());
  for (std::size_t d = shape.size(); d-- > 0; flat /= shape[d]) place[d] = flat % shape[d];
  return shape_text(place);
}

// flat[...] = sum_k index[..., k] * (sizes[k+1] * sizes[k+2] * ...), where index[..., k] in
// [-sizes[k], sizes[k]) counts from the end when negative (or, without wrap, may not be negative).
template <class T>
void resolve_one_by_one(const std::string& who, const T* index, std::int64_t* flat,
                        const Shape& shape, const Shape& sizes, bool wrap) {
  const std::int64_t K = static_cast<std::int64_t>(sizes.size());
  std::int64_t n = 1;
  for (std::size_t d = 0; d + 1 < shape.size(); ++d) n *= shape[d];
  for (std::int64_t i = 0; i < n; ++i) {
    std::int64_t at = 0;
    for (std::int64_t k = 0; k < K; ++k) {
      const std::int64_t size = sizes[static_cast<std::size_t>(k)];
      std::int64_t one = static_cast<std::int64_t>(index[i * K + k]);
      if (wrap && one < 0) one += size;  // no overflow: their signs differ
      if (one < 0 || one >= size) {
        const Shape outer(shape.begin(), shape.end() - 1);
        std::string text = "narae.ops." + who + ": expected indices in [" +
                           std::to_string(wrap ? -size : 0) + ", " + std::to_string(size) + ")";
        if (K > 1) text += " for axis " + std::to_string(k);
        throw std::out_of_range(text + ". Received: " + std::to_string(index[i * K + k]) +
                                " at position " + place_text(i, outer) + ".");
      }
      at = at * size + one;
    }
    flat[i] = at;
  }
}

// The usual case of one axis first, without a branch, which compilers vectorize.
template <class T>
void resolve_indices(const std::string& who, const T* index, std::int64_t* flat, const Shape& shape,
                     const Shape& sizes, bool wrap) {
  bool out_of_range = sizes.size() > 1;
  if (!out_of_range) {
    const std::int64_t size = sizes[0], from_end = wrap ? size : 0;
    std::int64_t n = 1;
    for (std::size_t d = 0; d + 1 < shape.size(); ++d) n *= shape[d];
    std::uint64_t bad = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t given = index[i], one = given < 0 ? given + from_end : given;
      bad |= static_cast<std::uint64_t>(one) |
             (static_cast<std::uint64_t>(size - 1) - static_cast<std::uint64_t>(one));
      flat[i] = one;
    }
    out_of_range = bad >> 63;  // the sign of one, or of what is left above it
  }
  if (out_of_range) resolve_one_by_one(who, index, flat, shape, sizes, wrap);
}

py::array resolve(const std::string& who, const py::array& indices, const Shape& sizes, bool wrap) {
  return dispatch<std::int32_t, std::int64_t>(who.c_str(), indices, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> index(who.c_str(), "indices", indices);
    const Shape shape = index.shape();
    if (sizes.empty() || shape.empty() || shape.back() != static_cast<py::ssize_t>(sizes.size())) {
      fail_value(who.c_str(), "indices with a last axis of " + std::to_string(sizes.size()),
                 "indices.shape=" + shape_text(shape));
    }
    checked_size(who.c_str(), sizes);
    Output<std::int64_t> flat(Shape(shape.begin(), shape.end() - 1));
    const T* from = index.data();
    std::int64_t* to = flat.data();
    {
      py::gil_scoped_release release;
      launch_check([=] { resolve_indices(who, from, to, shape, sizes, wrap); });
    }
    return flat.array();
  });
}

std::int64_t product(const Shape& shape, std::size_t begin, std::size_t end) {
  std::int64_t n = 1;
  for (std::size_t d = begin; d < end; ++d) n *= shape[d];
  return n;
}

std::size_t checked_axis(const char* who, const Shape& shape, int axis) {
  if (axis < 0 || axis >= static_cast<int>(shape.size()))
    fail_value(who, "an axis of " + shape_text(shape), "axis=" + std::to_string(axis));
  return static_cast<std::size_t>(axis);
}

// shape with the axis replaced by other axes
Shape replaced(const Shape& shape, std::size_t axis, const Shape& by) {
  Shape result(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(axis));
  result.insert(result.end(), by.begin(), by.end());
  result.insert(result.end(), shape.begin() + static_cast<std::ptrdiff_t>(axis) + 1, shape.end());
  return result;
}

template <class Body>
py::array of_bits(const py::dtype& dtype, Body&& body) {
  switch (dtype.itemsize()) {
    case 1:
      return body(std::uint8_t{});
    case 2:
      return body(std::uint16_t{});
    case 4:
      return body(std::uint32_t{});
    case 8:
      return body(std::uint64_t{});
    default:
      throw py::type_error("narae.ops: expected elements of 1, 2, 4 or 8 bytes.");
  }
}

// Any array that is only moved.
class Bytes {
 public:
  Bytes(const char* who, const char* name, const py::array& a) : array_(a) {
    check_layout(who, name, a);
    keep_while_recorded(a);
  }
  const void* data() const { return array_.data(); }
  Shape shape() const { return Shape(array_.shape(), array_.shape() + array_.ndim()); }

 private:
  py::array array_;
};

py::array take(const py::array& x, const py::array& indices, int axis) {
  Bytes from("take", "x", x);
  Index index("take", "indices", indices);
  const Shape shape = from.shape();
  const std::size_t d = checked_axis("take", shape, axis);
  const Shape result = replaced(shape, d, index.shape());
  checked_size("take", result);
  py::array y = empty_array(x.dtype(), result);
  run(kernels<Gather>().gather, from.data(), index.data(), y.mutable_data(), product(shape, 0, d),
      static_cast<std::int64_t>(shape[d]), index.size(),
      product(shape, d + 1, shape.size()) * x.itemsize());
  return y;
}

// ---- rows of a data set ------------------------------------------------------------------------

void gather_rows(const py::array& source, const py::array& indices, py::array& out) {
  Bytes from("gather_rows", "source", source), to("gather_rows", "out", out);
  Index index("gather_rows", "indices", indices);
  const Shape shape = from.shape();
  if (shape.empty() || index.ndim() != 1 || to.shape() != replaced(shape, 0, index.shape()) ||
      !out.dtype().equal(source.dtype())) {
    fail_value("gather_rows", "source (N, ...), indices (B,) and out (B, ...) of one dtype",
               describe(source) + ", " + describe(indices) + ", " + describe(out));
  }
  const std::int64_t* rows = index.data();
  for (std::int64_t i = 0; i < index.size(); ++i) {
    if (rows[i] < 0 || rows[i] >= shape[0]) {
      throw py::index_error("narae: expected row numbers in [0, " + std::to_string(shape[0]) +
                            "). Received: " + std::to_string(rows[i]) + " at position " +
                            std::to_string(i) + ".");
    }
  }
  run(kernels<Gather>().gather, from.data(), rows, out.mutable_data(), std::int64_t{1},
      static_cast<std::int64_t>(shape[0]), index.size(),
      product(shape, 1, shape.size()) * source.itemsize());
}

// ---- writing -----------------------------------------------------------------------------------

template <class T>
ScatterArgs<T> scatter_args(const char* who, const Shape& values, const Index& index, int axis,
                            std::int64_t size, Shape* result) {
  // values has the index's axes where y has one of `size`
  const Shape at = index.shape();
  const std::size_t d = static_cast<std::size_t>(axis), dims = at.size();
  bool fits = axis >= 0 && size >= 0 && d + dims <= values.size();
  for (std::size_t k = 0; fits && k < dims; ++k) fits = values[d + k] == at[k];
  if (!fits) {
    fail_value(who, "values with the axes of the indices",
               "values.shape=" + shape_text(values) + ", indices.shape=" + shape_text(at));
  }
  result->assign(values.begin(), values.begin() + axis);
  result->push_back(static_cast<py::ssize_t>(size));
  result->insert(result->end(), values.begin() + static_cast<std::ptrdiff_t>(d + dims),
                 values.end());
  checked_size(who, *result);
  ScatterArgs<T> s{};
  s.A = product(values, 0, d), s.R = size, s.B = product(values, d + dims, values.size());
  s.I = index.size();
  s.index = index.data();
  return s;
}

template <class T, class Kernel>
py::array run_scatter(const char* who, Kernel kernel, ScatterArgs<T> s, const Shape& result,
                      const py::object& base, const py::array& values, const py::dtype& dtype) {
  Bytes from(who, "values", values);
  s.values = static_cast<const T*>(from.data());
  if (!base.is_none()) {
    const auto array = py::cast<py::array>(base);
    Bytes before(who, "x", array);
    if (before.shape() != result || !array.dtype().equal(dtype))
      fail_value(who, "x of shape " + shape_text(result) + " and the dtype of the values",
                 "x=" + describe(array));
    s.base = static_cast<const T*>(before.data());
  }
  py::array y = empty_array(dtype, result);
  s.y = static_cast<T*>(y.mutable_data());
  run(kernel, s);
  return y;
}

py::array update(const py::array& x, const py::array& values, const py::array& indices) {
  Index index("scatter_update", "indices", indices);
  return of_bits(values.dtype(), [&](auto zero) {
    using T = decltype(zero);
    Shape result;
    const ScatterArgs<T> s =
        scatter_args<T>("scatter_update", Shape(values.shape(), values.shape() + values.ndim()),
                        index, 0, x.ndim() ? x.shape(0) : 0, &result);
    return run_scatter<T>("scatter_update", kernels<IndexBits<T>>().update, s, result, x, values,
                          values.dtype());
  });
}

py::array combine(const std::string& how, const py::object& base, const py::array& values,
                  const py::array& indices, int axis, std::int64_t size) {
  Index index("scatter", "indices", indices);
  return dispatch<float, double, std::int32_t, std::int64_t>(
      "scatter", values, [&](auto zero) -> py::array {
        using T = decltype(zero);
        using Limits = std::numeric_limits<T>;
        const Input<T> from("scatter", "values", values);
        const py::object before =
            base.is_none() ? base : Input<T>("scatter", "x", py::cast<py::array>(base)).array();
        constexpr T kLargest = Limits::has_infinity ? Limits::infinity() : Limits::max();
        constexpr T kSmallest = Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
        Shape result;
        ScatterArgs<T> s = scatter_args<T>("scatter", from.shape(), index, axis, size, &result);
        const auto& table = kernels<IndexNumbers<T>>();
        auto kernel = table.combine_add;
        if (how == "max") {
          kernel = table.combine_max, s.start = kSmallest;
        } else if (how == "min") {
          kernel = table.combine_min, s.start = kLargest;
        } else if (how == "mul") {
          kernel = table.combine_multiply, s.start = T(1);
        } else if (how != "add") {
          fail_value("scatter", "add, max, min or mul", how);
        }
        return run_scatter<T>("scatter", kernel, s, result, before, from.array(),
                              from.array().dtype());
      });
}

// ---- along an axis -----------------------------------------------------------------------------

void check_along(const char* who, const Shape& x, const Shape& index, std::size_t axis) {
  bool fits = x.size() == index.size();
  for (std::size_t d = 0; fits && d < x.size(); ++d) fits = d == axis || x[d] == index[d];
  if (!fits) {
    fail_value(who, "indices of x's shape but for the axis",
               "x.shape=" + shape_text(x) + ", indices.shape=" + shape_text(index));
  }
}

py::array take_along_axis(const py::array& x, const py::array& indices, int axis) {
  const char* who = "take_along_axis";
  Bytes from(who, "x", x);
  Index index(who, "indices", indices);
  const Shape shape = from.shape();
  const std::size_t d = checked_axis(who, shape, axis);
  check_along(who, shape, index.shape(), d);
  return of_bits(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    py::array y = empty_array(x.dtype(), index.shape());
    run(kernels<IndexBits<T>>().take_along_axis, static_cast<const T*>(from.data()), index.data(),
        static_cast<T*>(y.mutable_data()), product(shape, 0, d),
        static_cast<std::int64_t>(shape[d]), product(shape, d + 1, shape.size()),
        index.shape(axis));
    return y;
  });
}

py::array add_along_axis(const py::array& values, const py::array& indices, int axis,
                         std::int64_t size) {
  const char* who = "take_along_axis";
  Index index(who, "indices", indices);
  return dispatch<float, double, std::int32_t, std::int64_t>(
      who, values, [&](auto zero) -> py::array {
        using T = decltype(zero);
        Input<T> dy(who, "dy", values);
        Shape shape = dy.shape();
        if (shape != index.shape() || size < 0)
          fail_value(who, "dy of the shape of the indices", shape_text(shape));
        const std::size_t d = checked_axis(who, shape, axis);
        const std::int64_t A = product(shape, 0, d), I = shape[d],
                           B = product(shape, d + 1, shape.size());
        shape[d] = static_cast<py::ssize_t>(size);
        Output<T> dx(shape);
        run(kernels<IndexNumbers<T>>().add_along_axis, dy.data(), index.data(), dx.data(), A, size,
            B, I);
        return dx.array();
      });
}

// ---- one and many hot --------------------------------------------------------------------------

// indices (..., I) give (..., classes) of any dtype.
py::array hot(const py::array& indices, std::int64_t classes, const py::dtype& dtype) {
  Index index("one_hot", "indices", indices);
  Shape shape = index.shape();
  if (shape.empty() || classes < 0)
    fail_value("one_hot", "num_classes >= 0", "num_classes=" + std::to_string(classes));
  const std::int64_t I = shape.back(), N = product(shape, 0, shape.size() - 1);
  shape.back() = static_cast<py::ssize_t>(classes);
  checked_size("one_hot", shape);
  const py::array one = py::module_::import("numpy").attr("ones")(py::make_tuple(), dtype);
  return of_bits(dtype, [&](auto zero) {
    using T = decltype(zero);
    py::array y = empty_array(dtype, shape);
    run(kernels<IndexBits<T>>().hot, index.data(), static_cast<T*>(y.mutable_data()), N, I, classes,
        *static_cast<const T*>(one.data()));
    return y;
  });
}

const Binding index([](py::module_& m) {
  m.def("index_resolve", resolve, py::arg("who"), py::arg("indices"), py::arg("sizes"),
        py::arg("wrap") = true);
  m.def("index_take", take, py::arg("x"), py::arg("indices"), py::arg("axis"));
  m.def("index_update", update, py::arg("x"), py::arg("values"), py::arg("indices"));
  m.def("index_combine", combine, py::arg("how"), py::arg("base"), py::arg("values"),
        py::arg("indices"), py::arg("axis"), py::arg("size"));
  m.def("index_take_along_axis", take_along_axis, py::arg("x"), py::arg("indices"),
        py::arg("axis"));
  m.def("index_add_along_axis", add_along_axis, py::arg("values"), py::arg("indices"),
        py::arg("axis"), py::arg("size"));
  m.def("index_hot", hot, py::arg("indices"), py::arg("classes"), py::arg("dtype"));
  m.def("gather_rows", gather_rows, py::arg("source"), py::arg("indices"), py::arg("out"));
});

}  // namespace
}  // namespace narae
