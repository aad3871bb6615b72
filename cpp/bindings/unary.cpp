#include "kernels/unary.h"

#include "bindings/arrays.h"
#include "bindings/broadcast.h"

namespace narae {

py::array view(const py::array& x, const Shape& shape) {
  return py::array(x.dtype(), shape, {}, x.data(), x);
}

namespace {

template <class Body>
auto dispatch_any(const char* who, const py::array& x, Body&& body) {
  return dispatch<float, double, BFloat16, std::int32_t, std::int64_t, std::uint8_t, bool>(
      who, x, std::forward<Body>(body));
}

py::array cast(const py::array& x, const py::dtype& dtype) {
  return dispatch_any("cast", x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in("cast", "x", x);
    static const char* const kNames[kDtypes] = {"bool",     "uint8",   "int32",  "int64",
                                                "bfloat16", "float32", "float64"};
    const std::string name = py::cast<std::string>(py::str(dtype));
    for (int to = 0; to < kDtypes; ++to) {
      if (name != kNames[to]) continue;
      py::array y = empty_array(dtype, in.shape());
      run(kernels<Unary<T>>().cast[to], in.data(), y.mutable_data(), in.size());
      return y;
    }
    fail_type("cast", "dtype", "bool, uint8, int32, int64, bfloat16, float32 or float64", x);
  });
}

py::array copy(const py::array& x) { return copy_array(x, Shape(x.shape(), x.shape() + x.ndim())); }

void assign(py::array target, const py::array& value) {
  dispatch_any("assign", target, [&](auto zero) {
    using T = decltype(zero);
    InOut<T> to("assign", "target", target);
    Input<T> from("assign", "value", value);
    if (to.shape() != from.shape())
      fail_value("assign", "a value of shape " + shape_text(to.shape()), shape_text(from.shape()));
    run(kernels<Unary<T>>().copy, from.data(), to.data(), to.size());
  });
}

void add_into(py::array target, const py::array& value) {
  dispatch<float, double, BFloat16>("add_into", target, [&](auto zero) {
    using T = decltype(zero);
    InOut<T> to("add_into", "target", target);
    Input<T> from("add_into", "value", value);
    if (to.shape() != from.shape())
      fail_value("add_into", "a value of shape " + shape_text(to.shape()),
                 shape_text(from.shape()));
    run(kernels<Unary<T>>().add_into, from.data(), to.data(), to.size());
  });
}

// An array of one value. `value` is cast by NumPy's rules for Python numbers.
py::array full(const Shape& shape, const py::object& value, const py::dtype& dtype) {
  checked_size("full", shape);
  py::array y = empty_array(dtype, shape);
  dispatch_any("full", y, [&](auto zero) {
    using T = decltype(zero);
    Input<T> out("full", "y", y);  // checks, and is kept while recorded
    run(kernels<Unary<T>>().fill, py::cast<Real<T>>(value), static_cast<T*>(y.mutable_data()),
        out.size());
  });
  return y;
}

template <class T, class R>
py::array apply(const char* who, UnaryRow<T, R> row,
                void (*kernel)(UnaryRow<T, R>, const T*, R*, std::int64_t), const py::array& x) {
  if (!row) fail_type(who, "x", "another dtype", x);
  Input<T> in(who, "x", x);
  Output<R> y(in.shape());
  run(kernel, row, in.data(), y.data(), in.size());
  return y.array();
}

const Binding unary([](py::module_& m) {
  const Functions<UnaryRow<float, float>> floats = kernels<Unary<float>>().map;
  const auto map = [&](const char* name) {
    m.def(
        name,
        [name](const py::array& x) {
          return dispatch<float, double, BFloat16, std::int32_t, std::int64_t, std::uint8_t>(
              name, x, [&](auto zero) -> py::array {
                using T = decltype(zero);
                const Unary<T>& table = kernels<Unary<T>>();
                return apply<T, T>(name, table.map.find(name), table.run_map, x);
              });
        },
        py::arg("x"));
  };
  for (int i = 0; i < floats.size; ++i) map(floats.items[i].name);
  map("bitwise_not");
  const Functions<UnaryRow<float, bool>> tests = kernels<Unary<float>>().test;
  for (int i = 0; i < tests.size; ++i) {
    const char* name = tests.items[i].name;
    m.def(
        name,
        [name](const py::array& x) {
          return dispatch_any(name, x, [&](auto zero) -> py::array {
            using T = decltype(zero);
            const Unary<T>& table = kernels<Unary<T>>();
            return apply<T, bool>(name, table.test.find(name), table.run_test, x);
          });
        },
        py::arg("x"));
  }
  m.def("cast", cast, py::arg("x"), py::arg("dtype"));
  m.def("copy", copy, py::arg("x"));
  m.def("assign", assign, py::arg("target"), py::arg("value"));
  m.def("add_into", add_into, py::arg("target"), py::arg("value"));
  m.def("full", full, py::arg("shape"), py::arg("value"), py::arg("dtype"));
});

}  // namespace

py::array copy_array(const py::array& x, const Shape& shape) {
  return dispatch_any("copy", x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in("copy", "x", x);
    Output<T> y(shape);
    if (y.size() != in.size()) fail_value("copy", "as many elements", shape_text(shape));
    run(kernels<Unary<T>>().copy, in.data(), y.data(), in.size());
    return y.array();
  });
}

}  // namespace narae
