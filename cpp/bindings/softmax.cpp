#include "kernels/softmax.h"

#include "bindings/arrays.h"

namespace narae {
namespace {

// Rows of the last axis.
template <class T>
struct Rows {
  std::int64_t N, C;
  Shape leading;
  Rows(const char* who, const Input<T>& x) : leading(x.shape()) {
    if (leading.empty()) fail_value(who, "at least one dimension", "shape ()");
    C = leading.back();
    leading.pop_back();
    N = C ? x.size() / C : 0;
    if (!C) {
      N = 1;
      for (py::ssize_t n : leading) N *= n;
    }
  }
  void check_classes(const char* who) const {
    if (C == 0 && N > 0) fail_value(who, "at least one class", "a last axis of size 0");
  }
};

void check_shape(const char* who, const char* name, const Shape& shape, const Shape& expected) {
  if (shape != expected)
    fail_value(who, std::string(name) + " of shape " + shape_text(expected),
               std::string(name) + ".shape=" + shape_text(shape));
}

template <class T>
using RowKernel = void (*)(const T*, T*, std::int64_t, std::int64_t);
template <class T>
using RowBackward = void (*)(const T*, const T*, T*, std::int64_t, std::int64_t);

template <class T>
py::array rows_forward(const char* who, const py::array& x, RowKernel<T> kernel) {
  Input<T> in(who, "x", x);
  const Rows<T> rows(who, in);
  Output<T> y(in.shape());
  if (rows.C) run(kernel, in.data(), y.data(), rows.N, rows.C);
  return y.array();
}

template <class T>
py::array rows_backward(const char* who, const py::array& dy, const py::array& y,
                        RowBackward<T> kernel) {
  Input<T> d(who, "dy", dy), out(who, "y", y);
  check_shape(who, "dy", d.shape(), out.shape());
  const Rows<T> rows(who, out);
  Output<T> dx(out.shape());
  if (rows.C) run(kernel, d.data(), out.data(), dx.data(), rows.N, rows.C);
  return dx.array();
}

// Labels outside [0, C) raise, in replays too.
template <class Label>
void check_labels(const char* who, const Input<Label>& labels, std::int64_t C) {
  launch_check([who, label = labels.data(), n = labels.size(), C] {
    for (std::int64_t i = 0; i < n; ++i) {
      if (label[i] >= 0 && label[i] < C) continue;
      fail_value(who,
                 "labels from 0 to " + std::to_string(C - 1) + " (" + std::to_string(C) +
                     (C == 1 ? " class)" : " classes)"),
                 "label " + std::to_string(label[i]) + " at position " + std::to_string(i));
    }
  });
}

// body(T{}, Label{}) for the dtypes of x and of the labels.
template <class Body>
auto dispatch_labels(const char* who, const py::array& x, const py::array& labels, Body&& body) {
  return dispatch<float, double>(who, x, [&](auto zero) {
    using T = decltype(zero);
    return dispatch<std::int32_t, std::int64_t>(
        who, labels, [&](auto label) { return body(T{}, decltype(label){}); });
  });
}

constexpr const char* kSparse = "sparse_categorical_crossentropy";
constexpr const char* kDense = "categorical_crossentropy";
constexpr const char* kBinary = "binary_crossentropy";

// ---- sparse labels ---------------------------------------------------------------------------

// y, and the rows' maxima and sums for backward.
std::pair<py::array, py::array> sparse_forward(const py::array& x, const py::array& labels) {
  return dispatch_labels(kSparse, x, labels, [&](auto zero, auto label) {
    using T = decltype(zero);
    using L = decltype(label);
    Input<T> in(kSparse, "output", x);
    Input<L> target(kSparse, "target", labels);
    const Rows<T> rows(kSparse, in);
    rows.check_classes(kSparse);
    check_shape(kSparse, "target", target.shape(), rows.leading);
    check_labels(kSparse, target, rows.C);
    Output<T> y(rows.leading), ms({2, rows.N});
    run(kernels<SparseCrossentropy<T, L>>().forward, in.data(), target.data(), y.data(), ms.data(),
        rows.N, rows.C);
    return std::make_pair(y.array(), ms.array());
  });
}

py::array sparse_backward(const py::array& dy, const py::array& x, const py::array& labels,
                          const py::array& kept) {
  return dispatch_labels(kSparse, x, labels, [&](auto zero, auto label) -> py::array {
    using T = decltype(zero);
    using L = decltype(label);
    Input<T> d(kSparse, "dy", dy), in(kSparse, "output", x), ms(kSparse, "ms", kept);
    Input<L> target(kSparse, "target", labels);
    const Rows<T> rows(kSparse, in);
    check_shape(kSparse, "dy", d.shape(), rows.leading);
    check_shape(kSparse, "target", target.shape(), rows.leading);
    check_shape(kSparse, "ms", ms.shape(), {2, rows.N});
    check_labels(kSparse, target, rows.C);
    Output<T> dx(in.shape());
    run(kernels<SparseCrossentropy<T, L>>().backward, d.data(), in.data(), target.data(), ms.data(),
        dx.data(), rows.N, rows.C);
    return dx.array();
  });
}

py::array sparse_of_probabilities(const py::array& p, const py::array& labels, double epsilon) {
  return dispatch_labels(kSparse, p, labels, [&](auto zero, auto label) -> py::array {
    using T = decltype(zero);
    using L = decltype(label);
    Input<T> in(kSparse, "output", p);
    Input<L> target(kSparse, "target", labels);
    const Rows<T> rows(kSparse, in);
    rows.check_classes(kSparse);
    check_shape(kSparse, "target", target.shape(), rows.leading);
    check_labels(kSparse, target, rows.C);
    Output<T> y(rows.leading);
    run(kernels<SparseCrossentropy<T, L>>().of_probabilities, in.data(), target.data(), y.data(),
        rows.N, rows.C, static_cast<T>(epsilon));
    return y.array();
  });
}

py::array sparse_of_probabilities_backward(const py::array& dy, const py::array& p,
                                           const py::array& labels, double epsilon) {
  return dispatch_labels(kSparse, p, labels, [&](auto zero, auto label) -> py::array {
    using T = decltype(zero);
    using L = decltype(label);
    Input<T> d(kSparse, "dy", dy), in(kSparse, "output", p);
    Input<L> target(kSparse, "target", labels);
    const Rows<T> rows(kSparse, in);
    check_shape(kSparse, "dy", d.shape(), rows.leading);
    check_shape(kSparse, "target", target.shape(), rows.leading);
    check_labels(kSparse, target, rows.C);
    Output<T> dp(in.shape());
    run(kernels<SparseCrossentropy<T, L>>().of_probabilities_backward, d.data(), in.data(),
        target.data(), dp.data(), rows.N, rows.C, static_cast<T>(epsilon));
    return dp.array();
  });
}

// ---- dense targets ---------------------------------------------------------------------------

std::pair<py::array, py::array> dense_forward(const py::array& x, const py::array& t) {
  return dispatch<float, double>(kDense, x, [&](auto zero) {
    using T = decltype(zero);
    Input<T> in(kDense, "output", x), target(kDense, "target", t);
    check_shape(kDense, "target", target.shape(), in.shape());
    const Rows<T> rows(kDense, in);
    rows.check_classes(kDense);
    Output<T> y(rows.leading), ms({2, rows.N});
    run(kernels<Crossentropy<T>>().forward, in.data(), target.data(), y.data(), ms.data(), rows.N,
        rows.C);
    return std::make_pair(y.array(), ms.array());
  });
}

using Gradients = std::pair<py::object, py::object>;

// dx, and dt when it is wanted; `call(dx, dt)` runs the kernel.
template <class T, class Call>
Gradients gradients(const Shape& shape, bool want_dt, const Call& call) {
  Output<T> dx(shape);
  if (!want_dt) {
    call(dx.data(), static_cast<T*>(nullptr));
    return {dx.array(), py::none()};
  }
  Output<T> dt(shape);
  call(dx.data(), dt.data());
  return {dx.array(), dt.array()};
}

Gradients dense_backward(const py::array& dy, const py::array& x, const py::array& t,
                         const py::array& kept, bool want_dt) {
  return dispatch<float, double>(kDense, x, [&](auto zero) {
    using T = decltype(zero);
    Input<T> d(kDense, "dy", dy), in(kDense, "output", x), target(kDense, "target", t),
        ms(kDense, "ms", kept);
    const Rows<T> rows(kDense, in);
    check_shape(kDense, "dy", d.shape(), rows.leading);
    check_shape(kDense, "target", target.shape(), in.shape());
    check_shape(kDense, "ms", ms.shape(), {2, rows.N});
    return gradients<T>(in.shape(), want_dt, [&](T* dx, T* dt) {
      run(kernels<Crossentropy<T>>().backward, d.data(), in.data(), target.data(), ms.data(), dx,
          dt, rows.N, rows.C);
    });
  });
}

py::array dense_of_probabilities(const py::array& p, const py::array& t, double epsilon) {
  return dispatch<float, double>(kDense, p, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in(kDense, "output", p), target(kDense, "target", t);
    check_shape(kDense, "target", target.shape(), in.shape());
    const Rows<T> rows(kDense, in);
    rows.check_classes(kDense);
    Output<T> y(rows.leading);
    run(kernels<Crossentropy<T>>().of_probabilities, in.data(), target.data(), y.data(), rows.N,
        rows.C, static_cast<T>(epsilon));
    return y.array();
  });
}

Gradients dense_of_probabilities_backward(const py::array& dy, const py::array& p,
                                          const py::array& t, double epsilon, bool want_dt) {
  return dispatch<float, double>(kDense, p, [&](auto zero) {
    using T = decltype(zero);
    Input<T> d(kDense, "dy", dy), in(kDense, "output", p), target(kDense, "target", t);
    const Rows<T> rows(kDense, in);
    check_shape(kDense, "dy", d.shape(), rows.leading);
    check_shape(kDense, "target", target.shape(), in.shape());
    return gradients<T>(in.shape(), want_dt, [&](T* dp, T* dt) {
      run(kernels<Crossentropy<T>>().of_probabilities_backward, d.data(), in.data(), target.data(),
          dp, dt, rows.N, rows.C, static_cast<T>(epsilon));
    });
  });
}

// ---- binary ----------------------------------------------------------------------------------

py::array binary(const py::array& x, const py::array& t) {
  return dispatch<float, double>(kBinary, x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in(kBinary, "output", x), target(kBinary, "target", t);
    check_shape(kBinary, "target", target.shape(), in.shape());
    Output<T> y(in.shape());
    run(kernels<Crossentropy<T>>().binary, in.data(), target.data(), y.data(), in.size());
    return y.array();
  });
}

Gradients binary_backward(const py::array& dy, const py::array& x, const py::array& t,
                          bool want_dt) {
  return dispatch<float, double>(kBinary, x, [&](auto zero) {
    using T = decltype(zero);
    Input<T> d(kBinary, "dy", dy), in(kBinary, "output", x), target(kBinary, "target", t);
    check_shape(kBinary, "dy", d.shape(), in.shape());
    check_shape(kBinary, "target", target.shape(), in.shape());
    return gradients<T>(in.shape(), want_dt, [&](T* dx, T* dt) {
      run(kernels<Crossentropy<T>>().binary_backward, d.data(), in.data(), target.data(), dx, dt,
          in.size());
    });
  });
}

py::array binary_of_probabilities(const py::array& p, const py::array& t, double epsilon) {
  return dispatch<float, double>(kBinary, p, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in(kBinary, "output", p), target(kBinary, "target", t);
    check_shape(kBinary, "target", target.shape(), in.shape());
    Output<T> y(in.shape());
    run(kernels<Crossentropy<T>>().binary_of_probabilities, in.data(), target.data(), y.data(),
        in.size(), static_cast<T>(epsilon));
    return y.array();
  });
}

Gradients binary_of_probabilities_backward(const py::array& dy, const py::array& p,
                                           const py::array& t, double epsilon, bool want_dt) {
  return dispatch<float, double>(kBinary, p, [&](auto zero) {
    using T = decltype(zero);
    Input<T> d(kBinary, "dy", dy), in(kBinary, "output", p), target(kBinary, "target", t);
    check_shape(kBinary, "dy", d.shape(), in.shape());
    check_shape(kBinary, "target", target.shape(), in.shape());
    return gradients<T>(in.shape(), want_dt, [&](T* dp, T* dt) {
      run(kernels<Crossentropy<T>>().binary_of_probabilities_backward, d.data(), in.data(),
          target.data(), dp, dt, in.size(), static_cast<T>(epsilon));
    });
  });
}

const Binding softmax([](py::module_& m) {
  const auto x = py::arg("x"), y = py::arg("y"), dy = py::arg("dy"), p = py::arg("p");
  const auto target = py::arg("target"), ms = py::arg("ms"), epsilon = py::arg("epsilon");
  const auto want_dt = py::arg("want_dt") = false;
  m.def(
      "softmax_forward",
      [](const py::array& x) {
        return dispatch<float, double>("softmax", x, [&](auto zero) -> py::array {
          using T = decltype(zero);
          return rows_forward<T>("softmax", x, kernels<Softmax<T>>().forward);
        });
      },
      x);
  m.def(
      "softmax_backward",
      [](const py::array& dy, const py::array& y) {
        return dispatch<float, double>("softmax", y, [&](auto zero) -> py::array {
          using T = decltype(zero);
          return rows_backward<T>("softmax", dy, y, kernels<Softmax<T>>().backward);
        });
      },
      dy, y);
  m.def(
      "log_softmax_forward",
      [](const py::array& x) {
        return dispatch<float, double>("log_softmax", x, [&](auto zero) -> py::array {
          using T = decltype(zero);
          return rows_forward<T>("log_softmax", x, kernels<Softmax<T>>().log_forward);
        });
      },
      x);
  m.def(
      "log_softmax_backward",
      [](const py::array& dy, const py::array& y) {
        return dispatch<float, double>("log_softmax", y, [&](auto zero) -> py::array {
          using T = decltype(zero);
          return rows_backward<T>("log_softmax", dy, y, kernels<Softmax<T>>().log_backward);
        });
      },
      dy, y);
  m.def("sparse_crossentropy_forward", sparse_forward, x, target);
  m.def("sparse_crossentropy_backward", sparse_backward, dy, x, target, ms);
  m.def("sparse_crossentropy_of_probabilities", sparse_of_probabilities, p, target, epsilon);
  m.def("sparse_crossentropy_of_probabilities_backward", sparse_of_probabilities_backward, dy, p,
        target, epsilon);
  m.def("crossentropy_forward", dense_forward, x, target);
  m.def("crossentropy_backward", dense_backward, dy, x, target, ms, want_dt);
  m.def("crossentropy_of_probabilities", dense_of_probabilities, p, target, epsilon);
  m.def("crossentropy_of_probabilities_backward", dense_of_probabilities_backward, dy, p, target,
        epsilon, want_dt);
  m.def("binary_crossentropy_forward", binary, x, target);
  m.def("binary_crossentropy_backward", binary_backward, dy, x, target, want_dt);
  m.def("binary_crossentropy_of_probabilities", binary_of_probabilities, p, target, epsilon);
  m.def("binary_crossentropy_of_probabilities_backward", binary_of_probabilities_backward, dy, p,
        target, epsilon, want_dt);
});

}  // namespace
}  // namespace narae
