#include "kernels/squared_error.h"

#include "bindings/arrays.h"

namespace narae {
namespace {

constexpr const char* kWho = "mean_squared_error";

// Two arrays of one shape (..., C), as N rows.
template <class T>
struct Pair {
  Input<T> t, p;
  std::int64_t N, C;

  Pair(const py::array& y_true, const py::array& y_pred)
      : t(kWho, "y_true", y_true), p(kWho, "y_pred", y_pred) {
    if (p.ndim() == 0 || p.shape() != t.shape())
      fail_value(kWho, "two arrays of one shape (..., C)",
                 shape_text(t.shape()) + " and " + shape_text(p.shape()));
    C = p.shape(-1);
    N = 1;
    for (int axis = 0; axis < p.ndim() - 1; ++axis) N *= p.shape(axis);
  }
  Shape rows() const {
    Shape shape = p.shape();
    shape.pop_back();
    return shape;
  }
};

py::array forward(const py::array& y_true, const py::array& y_pred) {
  return dispatch<float, double>(kWho, y_pred, [&](auto zero) -> py::array {
    using T = decltype(zero);
    const Pair<T> pair(y_true, y_pred);
    const SquaredError<T>& kernel = kernels<SquaredError<T>>();
    Output<T> y(pair.rows());
    Workspace<T> workspace(kernel.workspace_size(pair.N, pair.C));
    run(kernel.forward, pair.t.data(), pair.p.data(), y.data(), workspace.data(), pair.N, pair.C);
    return y.array();
  });
}

py::array backward(const py::array& dy, const py::array& y_true, const py::array& y_pred) {
  return dispatch<float, double>(kWho, y_pred, [&](auto zero) -> py::array {
    using T = decltype(zero);
    const Pair<T> pair(y_true, y_pred);
    const Input<T> d(kWho, "dy", dy);
    if (d.shape() != pair.rows())
      fail_value(kWho, "dy of shape " + shape_text(pair.rows()), shape_text(d.shape()));
    Output<T> dp(pair.p.shape());
    run(kernels<SquaredError<T>>().backward, d.data(), pair.t.data(), pair.p.data(), dp.data(),
        pair.N, pair.C);
    return dp.array();
  });
}

const Binding squared_error([](py::module_& m) {
  m.def("squared_error_forward", forward, py::arg("y_true"), py::arg("y_pred"));
  m.def("squared_error_backward", backward, py::arg("dy"), py::arg("y_true"), py::arg("y_pred"));
});

}  // namespace
}  // namespace narae
