#include "kernels/conv.h"

#include "bindings/arrays.h"
#include "kernels/activation.h"
#include "kernels/gemm.h"

namespace narae {
namespace {

using Sizes = std::vector<std::int64_t>;

// The three axes of `values`, leading ones filled in.
void set_axes(const char* who, const char* name, const Sizes& values, std::size_t rank,
              std::int64_t fill, std::int64_t lowest, std::int64_t (&to)[3]) {
  if (values.size() != rank)
    fail_value(
        who,
        std::string(name) + " with one value for each of " + std::to_string(rank) + " spatial axes",
        std::string(name) + "=" + shape_text(Shape(values.begin(), values.end())));
  for (std::size_t a = 0; a < 3; ++a) {
    to[a] = a + rank < 3 ? fill : values[a + rank - 3];
    if (to[a] < lowest || to[a] > std::int64_t{1} << 31)
      fail_value(who, std::string(name) + " of at least " + std::to_string(lowest),
                 std::string(name) + "=" + shape_text(Shape(values.begin(), values.end())));
  }
}

// What forward and both gradients know: x (N, *in, C), w (*kernel, C / groups, F), y (N, *out, F).
ConvShape conv_shape(const char* who, const Shape& x, const Shape& w, const Shape& y,
                     const Sizes& strides, const Sizes& before, const Sizes& dilation) {
  const std::size_t rank = x.size() - 2;
  if (x.size() < 3 || x.size() > 5 || w.size() != x.size() || y.size() != x.size())
    fail_value(who, "inputs and kernel of 3 to 5 dimensions",
               "x.shape=" + shape_text(x) + ", kernel.shape=" + shape_text(w));
  ConvShape s{};
  s.N = x[0], s.C = x.back(), s.F = y.back();
  if (y[0] != x[0] || w.back() != s.F)
    fail_value(who, "arrays that agree in batch size and filters",
               "x.shape=" + shape_text(x) + ", kernel.shape=" + shape_text(w) +
                   ", y.shape=" + shape_text(y));
  const std::int64_t depth = w[rank];
  if (depth == 0 ? s.C != 0 : s.C % depth != 0)
    fail_value(who, "kernel whose in_channels divide x's channels",
               "x.shape=" + shape_text(x) + ", kernel.shape=" + shape_text(w));
  s.groups = s.C == 0 ? 1 : s.C / depth;
  if (s.F % s.groups != 0)
    fail_value(who, "filters that " + std::to_string(s.groups) + " groups divide",
               "kernel.shape=" + shape_text(w));
  set_axes(who, "sizes", Sizes(x.begin() + 1, x.end() - 1), rank, 1, 0, s.in);
  set_axes(who, "sizes", Sizes(y.begin() + 1, y.end() - 1), rank, 1, 0, s.out);
  set_axes(who, "kernel_size", Sizes(w.begin(), w.end() - 2), rank, 1, 0, s.kernel);
  set_axes(who, "strides", strides, rank, 1, 1, s.stride);
  set_axes(who, "dilation_rate", dilation, rank, 1, 1, s.dilation);
  set_axes(who, "padding", before, rank, 0, 0, s.before);
  double flops = 2.0 * static_cast<double>(s.N * s.C / s.groups * s.F);
  for (int a = 0; a < 3; ++a) flops *= static_cast<double>(s.out[a] * s.kernel[a]);
  expect_flops(flops);  // the gradients' too
  return s;
}

Shape with_sizes(std::int64_t first, const Sizes& sizes, std::int64_t last) {
  Shape shape{static_cast<py::ssize_t>(first)};
  shape.insert(shape.end(), sizes.begin(), sizes.end());
  shape.push_back(static_cast<py::ssize_t>(last));
  return shape;
}

template <class T>
PlainActivation<T> find_activation(const std::string& name) {
  if (name.empty()) return nullptr;
  const PlainActivation<T> found = kernels<Activation<T>>().plain.find(name.c_str());
  if (!found) fail_value("conv", "an activation that the kernel knows", "activation=" + name);
  return found;
}

template <class T>
void call(std::int64_t workspace_size, void (*kernel)(const ConvArgs<T>&), ConvArgs<T>& p) {
  Workspace<Real<T>> workspace(workspace_size);
  p.workspace = workspace.data();
  run(kernel, p);
}

bool is_depthwise(const ConvShape& s) { return s.groups == s.C && s.C > 1; }

// bfloat16 has kernels of its own, but for depthwise ones, which are computed in float.
template <class Body>
py::array dispatch_conv(const py::array& x, bool depthwise, const Body& body) {
  return depthwise ? dispatch<float, double>("conv", x, body)
                   : dispatch<float, double, BFloat16>("conv", x, body);
}

// 1x1 with stride 1: rows of x times a matrix.
bool is_pointwise(const ConvShape& s) {
  for (int a = 0; a < 3; ++a) {
    if (s.kernel[a] != 1 || s.stride[a] != 1 || s.before[a] != 0 || s.in[a] != s.out[a])
      return false;
  }
  return s.groups == 1;
}

// Few positions and large filters: 16 of them with 512 channels and filters take 0.46 instead of
// 1.06 ms, since w is read where it lies.
bool is_few(const ConvShape& s) {
  const std::int64_t w = s.kernel[0] * s.kernel[1] * s.kernel[2] * s.C * s.F;
  return s.groups == 1 && s.N * s.out[0] * s.out[1] * s.out[2] <= 32 && w >= 1 << 18;
}

// out = p.a times w, or w transposed, with K values in each row of p.a.
template <class T>
void call_matmul(const ConvArgs<T>& p, std::int64_t K, bool transpose_w) {
  const ConvShape& s = p.shape;
  const auto& positions = transpose_w ? s.in : s.out;
  MatmulArgs<T> m{};
  m.M = s.N * positions[0] * positions[1] * positions[2];
  m.N = transpose_w ? s.C : s.F, m.K = K;
  m.a = p.a, m.a_row = m.K, m.a_col = 1;
  m.b = p.b, m.b_row = transpose_w ? 1 : s.F, m.b_col = transpose_w ? s.F : 1;
  m.c = p.out, m.bias = p.bias, m.activate = p.activate;
  const Gemm<T>& gemm = kernels<Gemm<T>>();
  Workspace<Real<T>> workspace(gemm.workspace_size(m.M, m.N, m.K));
  m.workspace = workspace.data();
  run(gemm.matmul, m);
}

template <class T>
void check_bias(const char* who, const OptionalInput<T>& bias, std::int64_t size) {
  if (bias && (bias->ndim() != 1 || bias->shape(0) != size))
    fail_value(who, "bias of shape (" + std::to_string(size) + ",)",
               "bias.shape=" + shape_text(bias->shape()));
}

py::array forward(const py::array& x, const py::array& w, const Sizes& out, const Sizes& strides,
                  const Sizes& before, const Sizes& dilation, const py::object& bias,
                  const std::string& activation) {
  const bool depthwise =
      x.ndim() > 0 && w.ndim() > 1 && w.shape(w.ndim() - 2) == 1 && x.shape(x.ndim() - 1) > 1;
  return dispatch_conv(x, depthwise, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> a("conv", "inputs", x), b("conv", "kernel", w);
    OptionalInput<T> b1("conv", "bias", bias);
    if (a.ndim() < 1 || b.ndim() < 1) fail_value("conv", "arrays of 3 to 5 dimensions", "a scalar");
    const Shape shape = with_sizes(a.shape(0), out, b.shape(-1));
    ConvArgs<T> p{};
    p.shape = conv_shape("conv", a.shape(), b.shape(), shape, strides, before, dilation);
    checked_size("conv", shape);
    check_bias("conv", b1, p.shape.F);
    Output<T> y(shape);
    p.a = a.data(), p.b = b.data(), p.out = y.data(), p.bias = b1.data();
    p.activate = find_activation<Real<T>>(activation);
    if (is_pointwise(p.shape)) {
      call_matmul(p, p.shape.C, false);
    } else if (is_few(p.shape)) {
      const std::int64_t K = b.size() / p.shape.F;
      Workspace<T> rows(K * y.size() / p.shape.F);
      run(kernels<Conv<T>>().patches, p.shape, p.a, rows.data());
      p.a = rows.data();
      call_matmul(p, K, false);
    } else if (is_depthwise(p.shape)) {
      if constexpr (!kIsBFloat16<T>) {
        const DepthwiseConv<T>& conv = kernels<DepthwiseConv<T>>();
        call(conv.forward_workspace(p.shape), conv.forward, p);
      }
    } else {
      const Conv<T>& conv = kernels<Conv<T>>();
      call(conv.forward_workspace(p.shape), conv.forward, p);
    }
    return y.array();
  });
}

py::array input_gradient(const py::array& dy, const py::array& w, const Sizes& in,
                         const Sizes& strides, const Sizes& before, const Sizes& dilation,
                         std::int64_t groups, const py::object& bias,
                         const std::string& activation) {
  const bool depthwise = groups > 1 && w.ndim() > 1 && w.shape(w.ndim() - 2) == 1;
  return dispatch_conv(dy, depthwise, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> a("conv", "dy", dy), b("conv", "kernel", w);
    OptionalInput<T> b1("conv", "bias", bias);
    if (a.ndim() < 1 || b.ndim() < 2 || groups < 1)
      fail_value("conv", "arrays of 3 to 5 dimensions", "a scalar");
    const Shape shape = with_sizes(a.shape(0), in, b.shape(-2) * groups);
    ConvArgs<T> p{};
    p.shape = conv_shape("conv", shape, b.shape(), a.shape(), strides, before, dilation);
    checked_size("conv", shape);
    check_bias("conv", b1, p.shape.C);
    Output<T> dx(shape);
    p.a = a.data(), p.b = b.data(), p.out = dx.data(), p.bias = b1.data();
    p.activate = find_activation<Real<T>>(activation);
    if (is_pointwise(p.shape)) {
      call_matmul(p, p.shape.F, true);
    } else if (is_depthwise(p.shape)) {
      if constexpr (!kIsBFloat16<T>) {
        const DepthwiseConv<T>& conv = kernels<DepthwiseConv<T>>();
        call(conv.input_gradient_workspace(p.shape), conv.input_gradient, p);
      }
    } else {
      const Conv<T>& conv = kernels<Conv<T>>();
      call(conv.input_gradient_workspace(p.shape), conv.input_gradient, p);
    }
    return dx.array();
  });
}

py::array filter_gradient(const py::array& x, const py::array& dy, const Sizes& kernel,
                          const Sizes& strides, const Sizes& before, const Sizes& dilation,
                          std::int64_t groups) {
  const bool depthwise = groups > 1 && x.ndim() > 0 && x.shape(x.ndim() - 1) == groups;
  return dispatch_conv(x, depthwise, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> a("conv", "inputs", x), b("conv", "dy", dy);
    if (a.ndim() < 1 || b.ndim() < 1 || groups < 1)
      fail_value("conv", "arrays of 3 to 5 dimensions", "a scalar");
    Shape shape(kernel.begin(), kernel.end());
    shape.push_back(static_cast<py::ssize_t>(a.shape(-1) / groups));
    shape.push_back(static_cast<py::ssize_t>(b.shape(-1)));
    ConvArgs<T> p{};
    p.shape = conv_shape("conv", a.shape(), shape, b.shape(), strides, before, dilation);
    checked_size("conv", shape);
    Output<T> dw(shape);
    p.a = a.data(), p.b = b.data(), p.out = dw.data();
    if (is_depthwise(p.shape)) {
      if constexpr (!kIsBFloat16<T>) {
        const DepthwiseConv<T>& conv = kernels<DepthwiseConv<T>>();
        call(conv.filter_gradient_workspace(p.shape), conv.filter_gradient, p);
      }
    } else {
      const Conv<T>& conv = kernels<Conv<T>>();
      call(conv.filter_gradient_workspace(p.shape), conv.filter_gradient, p);
    }
    return dw.array();
  });
}

const Binding conv([](py::module_& m) {
  m.def("conv_forward", forward, py::arg("x"), py::arg("w"), py::arg("out_size"),
        py::arg("strides"), py::arg("before"), py::arg("dilation"), py::arg("bias") = py::none(),
        py::arg("activation") = "");
  m.def("conv_input_gradient", input_gradient, py::arg("dy"), py::arg("w"), py::arg("in_size"),
        py::arg("strides"), py::arg("before"), py::arg("dilation"), py::arg("groups") = 1,
        py::arg("bias") = py::none(), py::arg("activation") = "");
  m.def("conv_filter_gradient", filter_gradient, py::arg("x"), py::arg("dy"),
        py::arg("kernel_size"), py::arg("strides"), py::arg("before"), py::arg("dilation"),
        py::arg("groups") = 1);
});

}  // namespace
}  // namespace narae
