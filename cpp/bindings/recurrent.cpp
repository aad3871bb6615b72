#include "kernels/recurrent.h"

#include "bindings/arrays.h"

namespace narae {
namespace {

using Arrays = std::vector<py::array>;

struct Cell {
  const char* name;
  std::int64_t gates;
  bool has_cell_state, keeps, has_bias;
};
constexpr Cell kSimpleRnn = {"simple_rnn", 1, false, false, false};
constexpr Cell kLstm = {"lstm", 4, true, true, false};
constexpr Cell kGru = {"gru", 3, false, true, true};

Activation activation_of(const std::string& name) {
  if (name == "linear") return Activation::linear;
  if (name == "relu") return Activation::relu;
  if (name == "sigmoid") return Activation::sigmoid;
  if (name == "tanh") return Activation::tanh;
  fail_value("simple_rnn", "activation 'linear', 'relu', 'sigmoid' or 'tanh'", "'" + name + "'");
}

template <class T>
void check_shape(const Cell& cell, const char* name, const Input<T>& x, const Shape& expected) {
  if (x.shape() != expected)
    fail_value(cell.name, std::string(name) + " of shape " + shape_text(expected),
               std::string(name) + ".shape=" + shape_text(x.shape()));
}

// Sizes from gates (B, steps, G * U) and u (U, G * U).
template <class T>
RecurrentArgs<T> sizes(const Cell& cell, const Input<T>& gates, const Input<T>& u) {
  RecurrentArgs<T> p{};
  if (u.ndim() != 2 || u.shape(1) != cell.gates * u.shape(0) || u.shape(0) == 0)
    fail_value(cell.name,
               "recurrent_kernel of shape (units, " + std::to_string(cell.gates) + " * units)",
               "recurrent_kernel.shape=" + shape_text(u.shape()));
  p.U = u.shape(0);
  if (gates.ndim() != 3 || gates.shape(2) != u.shape(1))
    fail_value(cell.name, "x @ kernel of shape (B, T, " + std::to_string(u.shape(1)) + ")",
               shape_text(gates.shape()));
  p.B = gates.shape(0), p.steps = gates.shape(1);
  p.u = u.data();
  return p;
}

template <class T>
typename Recurrent<T>::Kernel kernel_of(const Cell& cell, bool forward) {
  const auto& table = kernels<Recurrent<T>>();
  if (cell.gates == 1) return forward ? table.simple_rnn_forward : table.simple_rnn_backward;
  if (cell.gates == 4) return forward ? table.lstm_forward : table.lstm_backward;
  return forward ? table.gru_forward : table.gru_backward;
}

const std::uint8_t* mask_of(const Cell& cell, const OptionalInput<bool>& mask, std::int64_t B,
                            std::int64_t steps) {
  if (mask) check_shape(cell, "mask", *mask.operator->(), {B, steps});
  return reinterpret_cast<const std::uint8_t*>(mask.data());
}

// Operations of h u for all steps; backward has as many in da u'.
template <class T>
double products(const Cell& cell, const RecurrentArgs<T>& p) {
  return 2.0 * static_cast<double>(p.B * p.steps * p.U * p.U) * static_cast<double>(cell.gates);
}

// y, h, c and what backward needs: kept. gates is overwritten. Absent arrays have size 0.
Arrays forward(const Cell& cell, py::array& gates, const py::array& u, const py::object& bias,
               const py::array& h0, const py::object& c0, const py::object& mask, bool reverse,
               const std::string& activation) {
  return dispatch<float, double>(cell.name, gates, [&](auto zero) -> Arrays {
    using T = decltype(zero);
    Input<T> in(cell.name, "x @ kernel", gates), recurrent(cell.name, "recurrent_kernel", u),
        h_first(cell.name, "h0", h0);
    InOut<T> changed(cell.name, "x @ kernel", gates);
    OptionalInput<T> c_first(cell.name, "c0", c0), b(cell.name, "bias", bias);
    OptionalInput<bool> keep(cell.name, "mask", mask);
    RecurrentArgs<T> p = sizes(cell, in, recurrent);
    check_shape(cell, "h0", h_first, {p.B, p.U});
    if (cell.has_cell_state) check_shape(cell, "c0", *c_first.operator->(), {p.B, p.U});
    if (b) check_shape(cell, "bias", *b.operator->(), {cell.gates * p.U});
    const Shape all{p.B, p.steps, p.U}, one{p.B, p.U}, none{0};
    Output<T> y(all), kept(cell.keeps ? all : none), h(one), c(cell.has_cell_state ? one : none);
    Workspace<T> workspace(kernels<Recurrent<T>>().workspace_size(p.B, p.U, cell.gates));
    p.h0 = h_first.data(), p.c0 = c_first.data(), p.bias = b.data();
    p.mask = mask_of(cell, keep, p.B, p.steps);
    p.reverse = reverse, p.activation = activation_of(activation);
    p.gates = changed.data(), p.y = y.data(), p.kept = kept.data(), p.h = h.data(), p.c = c.data();
    p.workspace = workspace.data();
    expect_flops(products(cell, p));
    run(kernel_of<T>(cell, true), p);
    return {y.array(), h.array(), c.array(), kept.array()};
  });
}

// da, dha, dh0, dc0; dha is da itself but for gru.
Arrays backward(const Cell& cell, const py::array& dy, const py::array& dh, const py::object& dc,
                const py::array& gates, const py::array& u, const py::array& y,
                const py::array& kept, const py::array& h0, const py::object& c0,
                const py::object& mask, bool reverse, const std::string& activation) {
  return dispatch<float, double>(cell.name, gates, [&](auto zero) -> Arrays {
    using T = decltype(zero);
    Input<T> d(cell.name, "dy", dy), d_last(cell.name, "dh", dh), in(cell.name, "gates", gates),
        recurrent(cell.name, "recurrent_kernel", u), out(cell.name, "y", y),
        k(cell.name, "kept", kept), h_first(cell.name, "h0", h0);
    OptionalInput<T> c_first(cell.name, "c0", c0), d_c(cell.name, "dc", dc);
    OptionalInput<bool> keep(cell.name, "mask", mask);
    RecurrentArgs<T> p = sizes(cell, in, recurrent);
    const Shape all{p.B, p.steps, p.U}, one{p.B, p.U}, none{0};
    check_shape(cell, "dy", d, all);
    check_shape(cell, "y", out, all);
    check_shape(cell, "dh", d_last, one);
    check_shape(cell, "h0", h_first, one);
    if (cell.keeps) check_shape(cell, "kept", k, all);
    if (cell.has_cell_state) {
      check_shape(cell, "c0", *c_first.operator->(), one);
      check_shape(cell, "dc", *d_c.operator->(), one);
    }
    Output<T> da(in.shape()), dha(cell.has_bias ? in.shape() : none), dh0(one),
        dc0(cell.has_cell_state ? one : none);
    Workspace<T> workspace(kernels<Recurrent<T>>().workspace_size(p.B, p.U, cell.gates));
    p.h0 = h_first.data(), p.c0 = c_first.data();
    p.mask = mask_of(cell, keep, p.B, p.steps);
    p.reverse = reverse, p.activation = activation_of(activation);
    // Backward reads these three.
    p.gates = const_cast<T*>(in.data()), p.y = const_cast<T*>(out.data());
    p.kept = const_cast<T*>(k.data());
    p.dy = d.data(), p.dh = d_last.data(), p.dc = d_c.data();
    p.da = da.data(), p.dha = cell.has_bias ? dha.data() : da.data();
    p.dh0 = dh0.data(), p.dc0 = dc0.data();
    p.workspace = workspace.data();
    expect_flops(products(cell, p));
    run(kernel_of<T>(cell, false), p);
    return {da.array(), cell.has_bias ? dha.array() : da.array(), dh0.array(), dc0.array()};
  });
}

py::array previous(const py::array& y, const py::array& h0, bool reverse) {
  return dispatch<float, double>("recurrent", y, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in("recurrent", "y", y), first("recurrent", "h0", h0);
    if (in.ndim() != 3 || first.shape() != Shape{in.shape(0), in.shape(2)})
      fail_value("recurrent", "y (B, T, U) and h0 (B, U)",
                 shape_text(in.shape()) + " and " + shape_text(first.shape()));
    Output<T> out(in.shape());
    run(kernels<Recurrent<T>>().previous, in.data(), first.data(), out.data(), in.shape(0),
        in.shape(1), in.shape(2), reverse);
    return out.array();
  });
}

void define(py::module_& m, const Cell& cell) {
  const auto none = py::none();
  m.def((cell.name + std::string("_forward")).c_str(),
        [&cell](py::array& gates, const py::array& u, const py::array& h0, const py::object& c0,
                const py::object& bias, const py::object& mask, bool reverse,
                const std::string& activation) {
          return forward(cell, gates, u, bias, h0, c0, mask, reverse, activation);
        },
        py::arg("gates"), py::arg("u"), py::arg("h0"), py::arg("c0") = none, py::arg("bias") = none,
        py::arg("mask") = none, py::arg("reverse") = false, py::arg("activation") = "tanh");
  m.def((cell.name + std::string("_backward")).c_str(),
        [&cell](const py::array& dy, const py::array& dh, const py::object& dc,
                const py::array& gates, const py::array& u, const py::array& y,
                const py::array& kept, const py::array& h0, const py::object& c0,
                const py::object& mask, bool reverse, const std::string& activation) {
          return backward(cell, dy, dh, dc, gates, u, y, kept, h0, c0, mask, reverse, activation);
        },
        py::arg("dy"), py::arg("dh"), py::arg("dc"), py::arg("gates"), py::arg("u"), py::arg("y"),
        py::arg("kept"), py::arg("h0"), py::arg("c0") = none, py::arg("mask") = none,
        py::arg("reverse") = false, py::arg("activation") = "tanh");
}

const Binding recurrent([](py::module_& m) {
  define(m, kSimpleRnn);
  define(m, kLstm);
  define(m, kGru);
  m.def("recurrent_previous", previous, py::arg("y"), py::arg("h0"), py::arg("reverse") = false);
});

}  // namespace
}  // namespace narae
