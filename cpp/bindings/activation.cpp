#include "kernels/activation.h"

#include "bindings/arrays.h"

namespace narae {
namespace {

py::array forward(const char* name, const py::array& x, double p0, double p1, double p2) {
  return dispatch<float, double, BFloat16>(name, x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    using R = Real<T>;
    Input<T> in(name, "x", x);
    Output<T> y(in.shape());
    const Activation<T>& table = kernels<Activation<T>>();
    run(table.run_forward, table.forward.find(name), in.data(), y.data(), in.size(),
        ActivationParameters<T>{{R(p0), R(p1), R(p2)}});
    return y.array();
  });
}

py::array backward(const char* name, const py::array& dy, const py::array& x, double p0, double p1,
                   double p2) {
  return dispatch<float, double, BFloat16>(name, dy, [&](auto zero) -> py::array {
    using T = decltype(zero);
    using R = Real<T>;
    Input<T> gradient(name, "dy", dy), in(name, "x", x);
    if (gradient.shape() != in.shape())
      fail_value(name, "dy of shape " + shape_text(in.shape()), shape_text(gradient.shape()));
    Output<T> dx(in.shape());
    const Activation<T>& table = kernels<Activation<T>>();
    run(table.run_backward, table.backward.find(name), gradient.data(), in.data(), dx.data(),
        in.size(), ActivationParameters<T>{{R(p0), R(p1), R(p2)}});
    return dx.array();
  });
}

// <name>_forward(x, p0, p1, p2) and <name>_backward(dy, x or y, p0, p1, p2) for each activation.
const Binding activation([](py::module_& m) {
  const Functions<ActivationRow<float>> functions = kernels<Activation<float>>().forward;
  for (int i = 0; i < functions.size; ++i) {
    const char* name = functions.items[i].name;
    m.def((std::string(name) + "_forward").c_str(),
          [name](const py::array& x, double p0, double p1, double p2) {
            return forward(name, x, p0, p1, p2);
          },
          py::arg("x"), py::arg("p0") = 0, py::arg("p1") = 0, py::arg("p2") = 0);
    m.def((std::string(name) + "_backward").c_str(),
          [name](const py::array& dy, const py::array& x, double p0, double p1, double p2) {
            return backward(name, dy, x, p0, p1, p2);
          },
          py::arg("dy"), py::arg("x"), py::arg("p0") = 0, py::arg("p1") = 0, py::arg("p2") = 0);
  }
});

}  // namespace
}  // namespace narae
