#include "kernels/attention.h"

#include "bindings/arrays.h"

namespace narae {
namespace {

constexpr const char* kWho = "dot_product_attention";

// Strides for (b, h, t, j), 0 where an axis broadcasts.
void set_strides(const char* name, const Shape& shape, const Shape& scores,
                 std::int64_t (&stride)[4]) {
  bool fits = shape.size() == 4;
  std::int64_t step = 1;
  for (int a = 3; a >= 0 && fits; --a) {
    fits = shape[a] == 1 || shape[a] == scores[a];
    stride[a] = shape[a] == 1 ? 0 : step;
    step *= shape[a];
  }
  if (!fits)
    fail_value(kWho, std::string(name) + " that broadcasts to (B, H, T, S) = " + shape_text(scores),
               std::string(name) + ".shape=" + shape_text(shape));
}

// The inputs of forward and backward, checked.
template <class T>
struct Inputs {
  Input<T> q, k, v;
  OptionalInput<T> bias;
  OptionalInput<bool> mask;
  OptionalInput<std::int64_t> key;
  AttentionArgs<T> args{};

  Inputs(const py::array& query, const py::array& key_array, const py::array& value, double scale,
         bool causal, const py::object& bias_array, const py::object& mask_array,
         const py::object& dropout_key, double rate)
      : q(kWho, "query", query),
        k(kWho, "key", key_array),
        v(kWho, "value", value),
        bias(kWho, "bias", bias_array),
        mask(kWho, "mask", mask_array),
        key(kWho, "dropout key", dropout_key) {
    const Shape qs = q.shape(), ks = k.shape(), vs = v.shape();
    const bool fits = qs.size() == 4 && ks.size() == 4 && vs.size() == 4 && qs[0] == ks[0] &&
                      ks[0] == vs[0] && ks[1] == vs[1] && ks[2] == vs[2] && qs[3] == ks[3] &&
                      (ks[2] > 0 && qs[2] % ks[2] == 0);
    if (!fits)
      fail_value(kWho, "query (B, T, H, D), key (B, S, G, D), value (B, S, G, E), G a divisor of H",
                 shape_text(qs) + ", " + shape_text(ks) + ", " + shape_text(vs));
    args.B = qs[0], args.T_ = qs[1], args.H = qs[2], args.D = qs[3];
    args.S = ks[1], args.G = ks[2], args.E = vs[3];
    const std::int64_t most = kernels<Attention<T>>().largest_head();
    if (args.D > most || args.E > most)
      fail_value(kWho, "heads of at most " + std::to_string(most) + " channels", shape_text(qs));
    args.q = q.data(), args.k = k.data(), args.v = v.data();
    args.scale = static_cast<T>(scale), args.causal = causal;
    const Shape scores{qs[0], qs[2], qs[1], ks[1]};
    if (bias) set_strides("bias", bias->shape(), scores, args.bias_stride);
    if (mask) set_strides("mask", mask->shape(), scores, args.mask_stride);
    args.bias = bias.data(), args.mask = mask.data();
    if (key && key->size() != 2) fail_value(kWho, "a dropout key of two integers", "another");
    if (!(rate >= 0 && rate < 1)) fail_value(kWho, "dropout in [0, 1)", std::to_string(rate));
    args.key = key.data(), args.kept = static_cast<T>(1 / (1 - rate));
    args.threshold = static_cast<std::uint32_t>(rate * 2147483648.0);
  }
};

// Pairs of a query and a key that it sees, masks aside.
template <class T>
double pairs(const AttentionArgs<T>& p) {
  return static_cast<double>(p.B * p.H * p.T_ * p.S) / (p.causal ? 2 : 1);
}

py::tuple forward(const py::array& q, const py::array& k, const py::array& v, double scale,
                  bool causal, const py::object& bias, const py::object& mask,
                  const py::object& key, double rate) {
  py::array kept;  // m and r, which are not rounded with the results of bfloat16
  const py::array y = dispatch<float, double>(kWho, q, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Inputs<T> in(q, k, v, scale, causal, bias, mask, key, rate);
    AttentionArgs<T>& p = in.args;
    Output<T> y({p.B, p.T_, p.H, p.E}), sums({2, p.B, p.H, p.T_});
    p.y = y.data(), p.m = sums.data(), p.r = p.m + p.B * p.H * p.T_;
    expect_flops(2 * pairs(p) * static_cast<double>(p.D + p.E));  // q k', p v
    run(kernels<Attention<T>>().forward, p);
    kept = sums.array();
    return y.array();
  });
  return py::make_tuple(y, kept);
}

py::tuple backward(const py::array& dy, const py::array& y, const py::array& kept,
                   const py::array& q, const py::array& k, const py::array& v, double scale,
                   bool causal, const py::object& bias, const py::object& mask,
                   const py::object& key, double rate, bool wants_bias) {
  return dispatch<float, double>(kWho, q, [&](auto zero) -> py::tuple {
    using T = decltype(zero);
    Inputs<T> in(q, k, v, scale, causal, bias, mask, key, rate);
    AttentionArgs<T>& p = in.args;
    Input<T> dy_in(kWho, "dy", dy), y_in(kWho, "y", y), sums(kWho, "kept", kept);
    const Shape out{p.B, p.T_, p.H, p.E}, rows{2, p.B, p.H, p.T_};
    if (dy_in.shape() != out || y_in.shape() != out || sums.shape() != rows)
      fail_value(kWho, "dy and y of shape " + shape_text(out), shape_text(dy_in.shape()));
    Output<T> dq(in.q.shape()), dk(in.k.shape()), dv(in.v.shape());
    Output<T> ds(wants_bias ? Shape{p.B, p.H, p.T_, p.S} : Shape{0});
    p.dy = dy_in.data(), p.y = const_cast<T*>(y_in.data());
    p.m = const_cast<T*>(sums.data()), p.r = p.m + p.B * p.H * p.T_;
    p.dq = dq.data(), p.dk = dk.data(), p.dv = dv.data(), p.ds = wants_bias ? ds.data() : nullptr;
    Workspace<T> workspace(kernels<Attention<T>>().workspace_size(p));
    p.workspace = workspace.data();
    // q k' again, dy v', p' dy, ds k, ds' q
    expect_flops(2 * pairs(p) * static_cast<double>(3 * p.D + 2 * p.E));
    run(kernels<Attention<T>>().backward, p);
    return py::make_tuple(dq.array(), dk.array(), dv.array(),
                          wants_bias ? py::object(ds.array()) : py::none());
  });
}

const Binding attention([](py::module_& m) {
  m.def("attention_forward", forward, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("scale"),
        py::arg("causal") = false, py::arg("bias") = py::none(), py::arg("mask") = py::none(),
        py::arg("key") = py::none(), py::arg("rate") = 0.0);
  m.def("attention_backward", backward, py::arg("dy"), py::arg("y"), py::arg("kept"), py::arg("q"),
        py::arg("k"), py::arg("v"), py::arg("scale"), py::arg("causal") = false,
        py::arg("bias") = py::none(), py::arg("mask") = py::none(), py::arg("key") = py::none(),
        py::arg("rate") = 0.0, py::arg("wants_bias") = false);
  m.def("attention_largest_head", [](const std::string& dtype) {
    return dtype == "float64" ? kernels<Attention<double>>().largest_head()
                              : kernels<Attention<float>>().largest_head();
  });
});

}  // namespace
}  // namespace narae
