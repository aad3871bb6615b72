#include "kernels/norm.h"

#include "bindings/arrays.h"
#include "kernels/reduce.h"

namespace narae {
namespace {

using Arrays = std::vector<py::object>;

void check_shape(const char* who, const char* name, const Shape& shape, const Shape& expected) {
  if (shape != expected)
    fail_value(who, std::string(name) + " of shape " + shape_text(expected),
               std::string(name) + ".shape=" + shape_text(shape));
}

// gamma or beta: None, or one value for each channel.
template <class T>
OptionalInput<T> parameter(const char* who, const char* name, const py::object& value,
                           std::int64_t C) {
  OptionalInput<T> p(who, name, value);
  if (p) check_shape(who, name, p->shape(), {C});
  return p;
}

// x as rows of its last axis, taken as (N, C).
template <class T>
struct Rows {
  std::int64_t N, C;
  Rows(const char* who, const Input<T>& x) {
    if (x.ndim() != 2) fail_value(who, "two dimensions", "x.shape=" + shape_text(x.shape()));
    N = x.shape(0), C = x.shape(1);
  }
};

constexpr const char* kLayer = "layer_normalization";
constexpr const char* kRms = "rms_normalization";
constexpr const char* kBatch = "batch_normalization";

Arrays layer_forward(const py::array& x, const py::object& gamma, const py::object& beta,
                     double epsilon) {
  return dispatch<float, double, BFloat16>(kLayer, x, [&](auto zero) -> Arrays {
    using T = decltype(zero);
    using R = Real<T>;
    Input<T> in(kLayer, "x", x);
    const Rows<T> rows(kLayer, in);
    const auto scale = parameter<R>(kLayer, "gamma", gamma, rows.C),
               shift = parameter<R>(kLayer, "beta", beta, rows.C);
    Output<T> y(in.shape());
    Output<R> mean({rows.N}), r({rows.N});
    run(kernels<Norm<T>>().layer_forward, in.data(), scale.data(), shift.data(), y.data(),
        mean.data(), r.data(), rows.N, rows.C, static_cast<R>(epsilon));
    return {y.array(), mean.array(), r.array()};
  });
}

// dx, dgamma, dbeta; the last two are None unless wanted.
Arrays layer_backward(const py::array& dy, const py::array& x, const py::object& gamma,
                      const py::array& mean, const py::array& r, bool want_dgamma,
                      bool want_dbeta) {
  return dispatch<float, double, BFloat16>(kLayer, x, [&](auto zero) -> Arrays {
    using T = decltype(zero);
    using R = Real<T>;
    Input<T> d(kLayer, "dy", dy), in(kLayer, "x", x);
    Input<R> m(kLayer, "mean", mean), inv(kLayer, "r", r);
    const Rows<T> rows(kLayer, in);
    const auto scale = parameter<R>(kLayer, "gamma", gamma, rows.C);
    check_shape(kLayer, "dy", d.shape(), in.shape());
    check_shape(kLayer, "mean", m.shape(), {rows.N});
    check_shape(kLayer, "r", inv.shape(), {rows.N});
    Output<T> dx(in.shape());
    Output<R> dgamma({rows.C}), dbeta({rows.C});
    Workspace<R> workspace(kernels<Norm<T>>().rows_workspace_size(rows.N, rows.C));
    run(kernels<Norm<T>>().layer_backward, d.data(), in.data(), scale.data(), m.data(), inv.data(),
        dx.data(), want_dgamma ? dgamma.data() : nullptr, want_dbeta ? dbeta.data() : nullptr,
        rows.N, rows.C, workspace.data());
    return {dx.array(), want_dgamma ? py::object(dgamma.array()) : py::none(),
            want_dbeta ? py::object(dbeta.array()) : py::none()};
  });
}

Arrays rms_forward(const py::array& x, const py::object& gamma, double epsilon) {
  return dispatch<float, double, BFloat16>(kRms, x, [&](auto zero) -> Arrays {
    using T = decltype(zero);
    using R = Real<T>;
    Input<T> in(kRms, "x", x);
    const Rows<T> rows(kRms, in);
    const auto scale = parameter<R>(kRms, "scale", gamma, rows.C);
    Output<T> y(in.shape());
    Output<R> r({rows.N});
    run(kernels<Norm<T>>().rms_forward, in.data(), scale.data(), y.data(), r.data(), rows.N, rows.C,
        static_cast<R>(epsilon));
    return {y.array(), r.array()};
  });
}

Arrays rms_backward(const py::array& dy, const py::array& x, const py::object& gamma,
                    const py::array& r, bool want_dgamma) {
  return dispatch<float, double, BFloat16>(kRms, x, [&](auto zero) -> Arrays {
    using T = decltype(zero);
    using R = Real<T>;
    Input<T> d(kRms, "dy", dy), in(kRms, "x", x);
    Input<R> inv(kRms, "r", r);
    const Rows<T> rows(kRms, in);
    const auto scale = parameter<R>(kRms, "scale", gamma, rows.C);
    check_shape(kRms, "dy", d.shape(), in.shape());
    check_shape(kRms, "r", inv.shape(), {rows.N});
    Output<T> dx(in.shape());
    Output<R> dgamma({rows.C});
    Workspace<R> workspace(kernels<Norm<T>>().rows_workspace_size(rows.N, rows.C));
    run(kernels<Norm<T>>().rms_backward, d.data(), in.data(), scale.data(), inv.data(), dx.data(),
        want_dgamma ? dgamma.data() : nullptr, rows.N, rows.C, workspace.data());
    return {dx.array(), want_dgamma ? py::object(dgamma.array()) : py::none()};
  });
}

// ---- channels --------------------------------------------------------------------------------

template <class T>
struct Channels {
  std::int64_t N, S, C;
  Channels(const Input<T>& x) {
    if (x.ndim() != 3) fail_value(kBatch, "three dimensions", "x.shape=" + shape_text(x.shape()));
    N = x.shape(0), S = x.shape(1), C = x.shape(2);
  }
  void check_moments(const Input<Real<T>>& mean, const Input<Real<T>>& variance) const {
    check_shape(kBatch, "mean", mean.shape(), {N, C});
    check_shape(kBatch, "variance", variance.shape(), {N, C});
  }
  void check_groups(std::int64_t groups) const {
    if (groups < 1 || C % groups != 0)
      fail_value("group_normalization",
                 "groups that divide the channels (" + std::to_string(C) + ")",
                 "groups=" + std::to_string(groups));
  }
  std::int64_t workspace_size() const {
    return kernels<Norm<T>>().channels_workspace_size(N, S, C);
  }
};

// mean, variance (N, C) of x (N, S, C).
Arrays channel_moments(const py::array& x, std::int64_t groups) {
  return dispatch<float, double, BFloat16>(kBatch, x, [&](auto zero) -> Arrays {
    using T = decltype(zero);
    using R = Real<T>;
    Input<T> in(kBatch, "x", x);
    const Channels<T> c(in);
    c.check_groups(groups);
    Output<R> mean({c.N, c.C}), variance({c.N, c.C});
    Workspace<R> workspace(c.workspace_size());
    run(kernels<Norm<T>>().channel_moments, in.data(), mean.data(), variance.data(), c.N, c.S, c.C,
        groups, workspace.data());
    return {mean.array(), variance.array()};
  });
}

py::array channel_forward(const py::array& x, const py::array& mean, const py::array& variance,
                          const py::object& gamma, const py::object& beta, double epsilon) {
  return dispatch<float, double, BFloat16>(kBatch, x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    using R = Real<T>;
    Input<T> in(kBatch, "x", x);
    Input<R> m(kBatch, "mean", mean), v(kBatch, "variance", variance);
    const Channels<T> c(in);
    c.check_moments(m, v);
    const auto scale = parameter<R>(kBatch, "gamma", gamma, c.C),
               shift = parameter<R>(kBatch, "beta", beta, c.C);
    Output<T> y(in.shape());
    Workspace<R> workspace(c.workspace_size());
    run(kernels<Norm<T>>().channel_forward, in.data(), m.data(), v.data(), scale.data(),
        shift.data(), y.data(), c.N, c.S, c.C, static_cast<R>(epsilon), workspace.data());
    return y.array();
  });
}

// dgamma, dbeta (N, C): sums over the positions alone.
Arrays channel_sums(const py::array& dy, const py::array& x, const py::array& mean,
                    const py::array& variance, double epsilon) {
  return dispatch<float, double, BFloat16>(kBatch, x, [&](auto zero) -> Arrays {
    using T = decltype(zero);
    using R = Real<T>;
    Input<T> d(kBatch, "dy", dy), in(kBatch, "x", x);
    Input<R> m(kBatch, "mean", mean), v(kBatch, "variance", variance);
    const Channels<T> c(in);
    check_shape(kBatch, "dy", d.shape(), in.shape());
    c.check_moments(m, v);
    Output<R> dgamma({c.N, c.C}), dbeta({c.N, c.C});
    Workspace<R> workspace(c.workspace_size());
    run(kernels<Norm<T>>().channel_sums, d.data(), in.data(), m.data(), v.data(), dgamma.data(),
        dbeta.data(), c.N, c.S, c.C, static_cast<R>(epsilon), workspace.data());
    return {dgamma.array(), dbeta.array()};
  });
}

py::array channel_backward(const py::array& dy, const py::array& x, const py::array& mean,
                           const py::array& variance, const py::object& gamma,
                           const py::array& dgamma, const py::array& dbeta, std::int64_t groups,
                           double epsilon) {
  return dispatch<float, double, BFloat16>(kBatch, x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    using R = Real<T>;
    Input<T> d(kBatch, "dy", dy), in(kBatch, "x", x);
    Input<R> m(kBatch, "mean", mean), v(kBatch, "variance", variance), dg(kBatch, "dgamma", dgamma),
        db(kBatch, "dbeta", dbeta);
    const Channels<T> c(in);
    c.check_groups(groups);
    check_shape(kBatch, "dy", d.shape(), in.shape());
    c.check_moments(m, v);
    c.check_moments(dg, db);
    const auto scale = parameter<R>(kBatch, "gamma", gamma, c.C);
    Output<T> dx(in.shape());
    Workspace<R> workspace(c.workspace_size());
    run(kernels<Norm<T>>().channel_backward, d.data(), in.data(), m.data(), v.data(), scale.data(),
        dg.data(), db.data(), dx.data(), c.N, c.S, c.C, groups, static_cast<R>(epsilon),
        workspace.data());
    return dx.array();
  });
}

const Binding norm([](py::module_& m) {
  const auto x = py::arg("x"), dy = py::arg("dy"), gamma = py::arg("gamma"), beta = py::arg("beta");
  const auto mean = py::arg("mean"), variance = py::arg("variance"), r = py::arg("r");
  const auto epsilon = py::arg("epsilon"), groups = py::arg("groups");
  m.def("layer_norm_forward", layer_forward, x, gamma, beta, epsilon);
  m.def("layer_norm_backward", layer_backward, dy, x, gamma, mean, r, py::arg("want_dgamma"),
        py::arg("want_dbeta"));
  m.def("rms_norm_forward", rms_forward, x, gamma, epsilon);
  m.def("rms_norm_backward", rms_backward, dy, x, gamma, r, py::arg("want_dgamma"));
  m.def("channel_norm_moments", channel_moments, x, groups);
  m.def("channel_norm_forward", channel_forward, x, mean, variance, gamma, beta, epsilon);
  m.def("channel_norm_sums", channel_sums, dy, x, mean, variance, epsilon);
  m.def("channel_norm_backward", channel_backward, dy, x, mean, variance, gamma, py::arg("dgamma"),
        py::arg("dbeta"), groups, epsilon);
});

}  // namespace
}  // namespace narae
