#include "kernels/elementwise.h"

#include "bindings/arrays.h"
#include "bindings/broadcast.h"

namespace narae {
namespace {

template <class T, class R>
py::array binary(const char* who, BinaryRow<T, R> row,
                 void (*kernel)(BinaryRow<T, R>, Broadcast<2>, const T*, const T*, R*),
                 const py::array& x1, const py::array& x2) {
  Input<T> a(who, "x1", x1), b(who, "x2", x2);
  Shape shape;
  const Broadcast<2> rows = broadcast<2>(who, {a.shape(), b.shape()}, &shape);
  Output<R> y(shape);
  if (y.size()) run(kernel, row, rows, a.data(), b.data(), y.data());
  return y.array();
}

py::array where(const py::array& condition, const py::array& x1, const py::array& x2) {
  return dispatch<float, double, BFloat16, std::int32_t, std::int64_t, std::uint8_t,
                  bool>("where", x1, [&](auto zero) -> py::array {
    using T = decltype(zero);
    using Bits =
        std::tuple_element_t<sizeof(T) == 1   ? 0
                             : sizeof(T) == 2 ? 1
                             : sizeof(T) == 4 ? 2
                                              : 3,
                             std::tuple<std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t>>;
    Input<bool> c("where", "condition", condition);
    Input<T> a("where", "x1", x1), b("where", "x2", x2);
    Shape shape;
    const auto rows = broadcast<3>("where", {c.shape(), a.shape(), b.shape()}, &shape);
    Output<T> y(shape);
    if (y.size()) {
      run(kernels<Select<Bits>>().where, rows, c.data(), reinterpret_cast<const Bits*>(a.data()),
          reinterpret_cast<const Bits*>(b.data()), reinterpret_cast<Bits*>(y.data()));
    }
    return y.array();
  });
}

// Sums x down to a shape that broadcasts to x's: one run of summed dimensions after the other,
// outermost first.
py::array sum_to_shape(const py::array& x, const Shape& shape) {
  return dispatch<float, double, BFloat16>("sum_to_shape", x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    const char* who = "sum_to_shape";
    check_layout(who, "x", x);
    Shape left(x.shape(), x.shape() + x.ndim()), padded = shape;
    if (padded.size() > left.size())
      fail_value(who, "a shape that broadcasts to x's", shape_text(shape));
    padded.insert(padded.begin(), left.size() - padded.size(), 1);
    for (std::size_t d = 0; d < left.size(); ++d) {
      if (padded[d] != left[d] && padded[d] != 1)
        fail_value(who, "a shape that broadcasts to " + shape_text(left), shape_text(shape));
    }
    const Elementwise<T>& table = kernels<Elementwise<T>>();
    py::array now = x;
    const auto summed = [&](std::size_t d) { return left[d] != 1 && padded[d] == 1; };
    for (std::size_t begin = 0; begin < left.size(); ++begin) {
      if (!summed(begin)) continue;
      std::size_t end = begin + 1;
      while (end < left.size() && (left[end] == 1 || summed(end))) ++end;
      std::int64_t O = 1, R = 1, I = 1;
      for (std::size_t d = 0; d < left.size(); ++d) (d < begin ? O : d < end ? R : I) *= left[d];
      for (std::size_t d = begin; d < end; ++d) left[d] = 1;
      Input<T> from(who, "x", now);
      Output<T> y(left);
      Workspace<Real<T>> workspace(table.sum_to_workspace(O, R, I));
      if (y.size()) run(table.sum_to, from.data(), y.data(), O, R, I, workspace.data());
      now = y.array();
    }
    return now.ptr() == x.ptr() ? copy_array(x, shape) : view(now, shape);
  });
}

// One function of _core per name that any dtype's table has.
template <class... Ts>
void define_binary(py::module_& m) {
  const auto define = [&](const auto& functions, auto&& make) {
    for (int i = 0; i < functions.size; ++i) {
      const char* name = functions.items[i].name;
      if (!py::hasattr(m, name)) make(name);
    }
  };
  const auto arithmetic = [&](const char* name) {
    m.def(
        name,
        [name](const py::array& x1, const py::array& x2) {
          return dispatch<Ts...>(name, x1, [&](auto zero) -> py::array {
            using T = decltype(zero);
            const Elementwise<T>& table = kernels<Elementwise<T>>();
            const auto row = table.binary.find(name);
            if (!row) fail_type(name, "x1", "another dtype", x1);
            return binary<T, T>(name, row, table.run_binary, x1, x2);
          });
        },
        py::arg("x1"), py::arg("x2"));
  };
  const auto compare = [&](const char* name) {
    m.def(
        name,
        [name](const py::array& x1, const py::array& x2) {
          return dispatch<Ts...>(name, x1, [&](auto zero) -> py::array {
            using T = decltype(zero);
            const Elementwise<T>& table = kernels<Elementwise<T>>();
            return binary<T, bool>(name, table.compare.find(name), table.run_compare, x1, x2);
          });
        },
        py::arg("x1"), py::arg("x2"));
  };
  (define(kernels<Elementwise<Ts>>().binary, arithmetic), ...);
  (define(kernels<Elementwise<Ts>>().compare, compare), ...);
}

const Binding elementwise([](py::module_& m) {
  define_binary<float, double, BFloat16, std::int32_t, std::int64_t, std::uint8_t, bool>(m);
  m.def("where", where, py::arg("condition"), py::arg("x1"), py::arg("x2"));
  m.def("sum_to_shape", sum_to_shape, py::arg("x"), py::arg("shape"));
});

}  // namespace
}  // namespace narae
