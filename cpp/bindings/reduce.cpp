#include "kernels/reduce.h"

#include "bindings/arrays.h"

namespace narae {
namespace {

// Axes [begin, end) of an array, folded: the shape as (outer, R, inner), and what comes out.
struct Axes {
  std::int64_t outer = 1, R = 1, inner = 1;
  Shape reduced;

  Axes(const char* who, const Shape& shape, int begin, int end, bool keepdims) {
    const int ndim = static_cast<int>(shape.size());
    if (begin < 0 || begin > end || end > ndim) {
      fail_value(who, "axes of x",
                 "axes " + std::to_string(begin) + " to " + std::to_string(end) +
                     ", x.shape=" + shape_text(shape));
    }
    for (int d = 0; d < ndim; ++d) {
      (d < begin ? outer : d < end ? R : inner) *= shape[d];
      if (d < begin || d >= end) {
        reduced.push_back(shape[d]);
      } else if (keepdims) {
        reduced.push_back(1);
      }
    }
  }
  void check(const char* who, const char* name, const Shape& shape) const {
    std::int64_t size = 1;
    for (py::ssize_t n : shape) size *= n;
    if (size != outer * inner)
      fail_value(who, std::string(name) + " with one value per fold, shape " + shape_text(reduced),
                 std::string(name) + ".shape=" + shape_text(shape));
  }
};

using AxesArgs = std::pair<int, int>;

template <class T, class Kernel>
py::array fold(const char* who, const py::array& x, AxesArgs axes, bool keepdims, Kernel kernel) {
  Input<T> in(who, "x", x);
  const Axes a(who, in.shape(), axes.first, axes.second, keepdims);
  Output<T> y(a.reduced);
  Workspace<T> workspace(kernels<Reduce<T>>().workspace_size(a.outer, a.R, a.inner));
  run(kernel, in.data(), y.data(), a.outer, a.R, a.inner, workspace.data());
  return y.array();
}

template <class T>
py::array fold_plain(const char* who, const py::array& x, AxesArgs axes, bool keepdims,
                     typename Reduce<T>::Fold Reduce<T>::* kernel) {
  return fold<T>(who, x, axes, keepdims, kernels<Reduce<T>>().*kernel);
}

void check_not_empty(const char* who, const py::array& x, AxesArgs axes) {
  const Axes a(who, Shape(x.shape(), x.shape() + x.ndim()), axes.first, axes.second, false);
  if (a.R == 0 && a.outer * a.inner > 0)
    fail_value(who, "at least one value to reduce (there is no identity)", "x=" + describe(x));
}

// A bool array as the bytes that it is.
template <class T>
constexpr bool kIsByte = sizeof(T) == 1;

template <bool kMax>
py::array extremum(const char* who, const py::array& x, AxesArgs axes, bool keepdims) {
  check_not_empty(who, x, axes);
  return dispatch<float, double, std::int32_t, std::int64_t, std::uint8_t, bool>(
      who, x, [&](auto zero) -> py::array {
        using T = decltype(zero);
        using K = std::conditional_t<kIsByte<T>, std::uint8_t, T>;
        const auto& table = kernels<Reduce<K>>();
        const auto kernel = kMax ? table.max : table.min;
        if constexpr (std::is_same_v<T, bool>) {
          const auto bytes = py::cast<py::array>(x.attr("view")(py::dtype::of<K>()));
          return fold<K>(who, bytes, axes, keepdims, kernel).attr("view")(py::dtype::of<bool>());
        } else {
          return fold<K>(who, x, axes, keepdims, kernel);
        }
      });
}

template <bool kMax>
py::array arg(const char* who, const py::array& x, AxesArgs axes, bool keepdims) {
  check_not_empty(who, x, axes);
  return dispatch<float, double, std::int32_t, std::int64_t, std::uint8_t>(
      who, x, [&](auto zero) -> py::array {
        using T = decltype(zero);
        Input<T> in(who, "x", x);
        const Axes a(who, in.shape(), axes.first, axes.second, keepdims);
        if (a.R > std::int64_t{0x7fffffff})
          fail_value(who, "fewer than 2^31 values along the axis", "x=" + describe(x));
        const auto& table = kernels<Reduce<T>>();
        Workspace<T> workspace(table.workspace_size(a.outer, a.R, a.inner)), y(a.outer * a.inner);
        Output<std::int32_t> index(a.reduced);
        run(kMax ? table.argmax : table.argmin, in.data(), y.data(), index.data(), a.outer, a.R,
            a.inner, workspace.data());
        return index.array();
      });
}

// The variance, and the mean with its axes kept.
py::tuple variance(const py::array& x, AxesArgs axes, bool keepdims) {
  return dispatch<float, double>("var", x, [&](auto zero) -> py::tuple {
    using T = decltype(zero);
    Input<T> in("var", "x", x);
    const Axes a("var", in.shape(), axes.first, axes.second, keepdims),
        kept("var", in.shape(), axes.first, axes.second, true);
    Output<T> y(a.reduced), mean(kept.reduced);
    Workspace<T> workspace(kernels<Reduce<T>>().workspace_size(a.outer, a.R, a.inner));
    run(kernels<ReduceFloat<T>>().variance, in.data(), mean.data(), y.data(), a.outer, a.R, a.inner,
        workspace.data());
    return py::make_tuple(y.array(), mean.array());
  });
}

py::array logsumexp(const py::array& x, AxesArgs axes, bool keepdims) {
  return dispatch<float, double>("logsumexp", x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in("logsumexp", "x", x);
    const Axes a("logsumexp", in.shape(), axes.first, axes.second, keepdims);
    Output<T> y(a.reduced);
    Workspace<T> workspace(kernels<Reduce<T>>().workspace_size(a.outer, a.R, a.inner)),
        m(a.outer * a.inner);
    run(kernels<ReduceFloat<T>>().logsumexp, in.data(), m.data(), y.data(), a.outer, a.R, a.inner,
        workspace.data());
    return y.array();
  });
}

template <bool kProduct>
py::array scan(const char* who, const py::array& x, int axis, bool reverse) {
  return dispatch<float, double, std::int32_t, std::int64_t>(who, x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in(who, "x", x);
    const Axes a(who, in.shape(), axis, axis + 1, true);
    Output<T> y(in.shape());
    const auto& table = kernels<Reduce<T>>();
    run(kProduct ? table.cumprod : table.cumsum, in.data(), y.data(), a.outer, a.R, a.inner,
        reverse);
    return y.array();
  });
}

py::array expand(const py::array& dy, const Shape& shape, AxesArgs axes, double divisor) {
  return dispatch<float, double>("sum", dy, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in("sum", "dy", dy);
    checked_size("sum", shape);
    const Axes a("sum", shape, axes.first, axes.second, true);
    a.check("sum", "dy", in.shape());
    Output<T> dx(shape);
    run(kernels<ReduceFloat<T>>().expand, in.data(), dx.data(), a.outer, a.R, a.inner,
        static_cast<T>(divisor));
    return dx.array();
  });
}

py::array extremum_backward(const py::array& dy, const py::array& y, const py::array& x,
                            AxesArgs axes) {
  return dispatch<float, double>("max", dy, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> d("max", "dy", dy), best("max", "y", y), in("max", "x", x);
    const Axes a("max", in.shape(), axes.first, axes.second, true);
    a.check("max", "dy", d.shape());
    a.check("max", "y", best.shape());
    Output<T> dx(in.shape());
    run(kernels<ReduceFloat<T>>().extremum_backward, d.data(), best.data(), in.data(), dx.data(),
        a.outer, a.R, a.inner);
    return dx.array();
  });
}

py::array prod_backward(const py::array& dy, const py::array& x, AxesArgs axes) {
  return dispatch<float, double>("prod", dy, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> d("prod", "dy", dy), in("prod", "x", x);
    const Axes a("prod", in.shape(), axes.first, axes.second, true);
    a.check("prod", "dy", d.shape());
    Output<T> dx(in.shape());
    if (a.R > 0) {
      run(kernels<ReduceFloat<T>>().prod_backward, d.data(), in.data(), dx.data(), a.outer, a.R,
          a.inner);
    }
    return dx.array();
  });
}

py::array cumprod_backward(const py::array& dy, const py::array& x, int axis) {
  return dispatch<float, double>("cumprod", dy, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> d("cumprod", "dy", dy), in("cumprod", "x", x);
    if (d.shape() != in.shape())
      fail_value("cumprod", "dy of x's shape " + shape_text(in.shape()),
                 "dy.shape=" + shape_text(d.shape()));
    const Axes a("cumprod", in.shape(), axis, axis + 1, true);
    Output<T> dx(in.shape());
    run(kernels<ReduceFloat<T>>().cumprod_backward, d.data(), in.data(), dx.data(), a.outer, a.R,
        a.inner);
    return dx.array();
  });
}

// Axes are a pair (begin, end), non-negative; all of them are folded into one.
const Binding reduce([](py::module_& m) {
  const auto x = py::arg("x"), axes = py::arg("axes");
  const auto keepdims = py::arg("keepdims") = false;
  m.def(
      "reduce_sum",
      [](const py::array& x, AxesArgs axes, bool keepdims) {
        return dispatch<float, double, std::int32_t, std::int64_t>(
            "sum", x, [&](auto zero) -> py::array {
              using T = decltype(zero);
              return fold_plain<T>("sum", x, axes, keepdims, &Reduce<T>::sum);
            });
      },
      x, axes, keepdims);
  m.def(
      "reduce_prod",
      [](const py::array& x, AxesArgs axes, bool keepdims) {
        return dispatch<float, double, std::int32_t, std::int64_t>(
            "prod", x, [&](auto zero) -> py::array {
              using T = decltype(zero);
              return fold_plain<T>("prod", x, axes, keepdims, &Reduce<T>::prod);
            });
      },
      x, axes, keepdims);
  m.def(
      "reduce_mean",
      [](const py::array& x, AxesArgs axes, bool keepdims) {
        return dispatch<float, double>("mean", x, [&](auto zero) -> py::array {
          using T = decltype(zero);
          return fold<T>("mean", x, axes, keepdims, kernels<ReduceFloat<T>>().mean);
        });
      },
      x, axes, keepdims);
  m.def(
      "reduce_max",
      [](const py::array& x, AxesArgs axes, bool keepdims) {
        return extremum<true>("max", x, axes, keepdims);
      },
      x, axes, keepdims);
  m.def(
      "reduce_min",
      [](const py::array& x, AxesArgs axes, bool keepdims) {
        return extremum<false>("min", x, axes, keepdims);
      },
      x, axes, keepdims);
  m.def(
      "reduce_argmax",
      [](const py::array& x, AxesArgs axes, bool keepdims) {
        return arg<true>("argmax", x, axes, keepdims);
      },
      x, axes, keepdims);
  m.def(
      "reduce_argmin",
      [](const py::array& x, AxesArgs axes, bool keepdims) {
        return arg<false>("argmin", x, axes, keepdims);
      },
      x, axes, keepdims);
  m.def("reduce_variance", variance, x, axes, keepdims);
  m.def("reduce_logsumexp", logsumexp, x, axes, keepdims);
  m.def("reduce_expand", expand, py::arg("dy"), py::arg("shape"), axes, py::arg("divisor") = 1.0);
  m.def("reduce_extremum_backward", extremum_backward, py::arg("dy"), py::arg("y"), x, axes);
  m.def("reduce_prod_backward", prod_backward, py::arg("dy"), x, axes);
  m.def(
      "reduce_cumsum",
      [](const py::array& x, int axis, bool reverse) {
        return scan<false>("cumsum", x, axis, reverse);
      },
      x, py::arg("axis"), py::arg("reverse") = false);
  m.def(
      "reduce_cumprod",
      [](const py::array& x, int axis, bool reverse) {
        return scan<true>("cumprod", x, axis, reverse);
      },
      x, py::arg("axis"), py::arg("reverse") = false);
  m.def("reduce_cumprod_backward", cumprod_backward, py::arg("dy"), x, py::arg("axis"));
});

}  // namespace
}  // namespace narae
