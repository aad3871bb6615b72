#include "kernels/pool.h"

#include "bindings/arrays.h"

namespace narae {
namespace {

using Sizes = std::vector<std::int64_t>;

PoolShape pool_shape(const char* who, const Shape& x, const Sizes& out, const Sizes& window,
                     const Sizes& strides, const Sizes& before) {
  const std::size_t rank = x.size() < 3 ? 0 : x.size() - 2;
  if (rank < 1 || rank > 3 || out.size() != rank || window.size() != rank ||
      strides.size() != rank || before.size() != rank)
    fail_value(who, "inputs of 3 to 5 dimensions and one value for each spatial axis",
               "inputs.shape=" + shape_text(x));
  PoolShape s{};
  s.N = x[0], s.C = x.back();
  for (std::size_t a = 0; a < 3; ++a) {
    const bool given = a + rank >= 3;
    const std::size_t from = a + rank - 3;
    s.in[a] = given ? x[from + 1] : 1;
    s.out[a] = given ? out[from] : 1;
    s.window[a] = given ? window[from] : 1;
    s.stride[a] = given ? strides[from] : 1;
    s.before[a] = given ? before[from] : 0;
    constexpr std::int64_t kMost = std::int64_t{1} << 31;
    const bool sane = s.in[a] >= 1 && s.out[a] >= 1 && s.out[a] < kMost && s.window[a] >= 1 &&
                      s.window[a] < kMost && s.stride[a] >= 1 && s.stride[a] < kMost;
    // Every window holds a cell of the image.
    if (!sane || s.before[a] < 0 || s.before[a] >= s.window[a] ||
        (s.out[a] - 1) * s.stride[a] - s.before[a] >= s.in[a])
      fail_value(who, "windows that lie on the image", "inputs.shape=" + shape_text(x));
  }
  return s;
}

Shape output_shape(const Shape& x, const Sizes& out) {
  Shape y{x[0]};
  y.insert(y.end(), out.begin(), out.end());
  y.push_back(x.back());
  return y;
}

void check_shape(const char* who, const Shape& received, const Shape& expected) {
  if (received != expected)
    fail_value(who, "dy and y of shape " + shape_text(expected), shape_text(received));
}

template <bool kMax>
py::array forward(const py::array& x, const Sizes& out, const Sizes& window, const Sizes& strides,
                  const Sizes& before) {
  const char* who = kMax ? "max_pool" : "average_pool";
  return dispatch<float, double, BFloat16>(who, x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in(who, "inputs", x);
    const PoolShape s = pool_shape(who, in.shape(), out, window, strides, before);
    Output<T> y(output_shape(in.shape(), out));
    const Pooling<T>& pool = kernels<Pooling<T>>();
    run(kMax ? pool.max_forward : pool.average_forward, s, in.data(), y.data());
    return y.array();
  });
}

py::array max_backward(const py::array& dy, const py::array& x, const py::array& y,
                       const Sizes& window, const Sizes& strides, const Sizes& before) {
  return dispatch<float, double, BFloat16>("max_pool", x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> dy_in("max_pool", "dy", dy), x_in("max_pool", "inputs", x), y_in("max_pool", "y", y);
    const Shape shape = y_in.shape();
    const Sizes out(shape.size() < 3 ? shape.end() : shape.begin() + 1,
                    shape.size() < 3 ? shape.end() : shape.end() - 1);
    const PoolShape s = pool_shape("max_pool", x_in.shape(), out, window, strides, before);
    check_shape("max_pool", shape, output_shape(x_in.shape(), out));
    check_shape("max_pool", dy_in.shape(), shape);
    Output<T> dx(x_in.shape());
    run(kernels<Pooling<T>>().max_backward, s, dy_in.data(), x_in.data(), y_in.data(), dx.data());
    return dx.array();
  });
}

py::array average_backward(const py::array& dy, const Sizes& in_size, const Sizes& window,
                           const Sizes& strides, const Sizes& before) {
  return dispatch<float, double, BFloat16>("average_pool", dy, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in("average_pool", "dy", dy);
    const Shape shape = in.shape();
    if (shape.size() < 3) fail_value("average_pool", "dy of 3 to 5 dimensions", shape_text(shape));
    const Shape x = output_shape(shape, in_size);
    checked_size("average_pool", x);
    const PoolShape s = pool_shape("average_pool", x, Sizes(shape.begin() + 1, shape.end() - 1),
                                   window, strides, before);
    Output<T> dx(x);
    run(kernels<Pooling<T>>().average_backward, s, in.data(), dx.data());
    return dx.array();
  });
}

const Binding pool([](py::module_& m) {
  m.def("max_pool_forward", forward<true>, py::arg("x"), py::arg("out_size"), py::arg("window"),
        py::arg("strides"), py::arg("before"));
  m.def("max_pool_backward", max_backward, py::arg("dy"), py::arg("x"), py::arg("y"),
        py::arg("window"), py::arg("strides"), py::arg("before"));
  m.def("average_pool_forward", forward<false>, py::arg("x"), py::arg("out_size"),
        py::arg("window"), py::arg("strides"), py::arg("before"));
  m.def("average_pool_backward", average_backward, py::arg("dy"), py::arg("in_size"),
        py::arg("window"), py::arg("strides"), py::arg("before"));
});

}  // namespace
}  // namespace narae
