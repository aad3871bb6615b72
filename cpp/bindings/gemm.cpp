#include "kernels/gemm.h"

#include "bindings/arrays.h"
#include "kernels/activation.h"

namespace narae {
namespace {

// Leading dimensions of a (..., M, K) broadcast with those of b (..., K, N).
template <class T>
Shape set_batch(MatmulArgs<T>& p, const Shape& a, const Shape& b) {
  const std::size_t a_dims = a.size() - 2, b_dims = b.size() - 2, dims = std::max(a_dims, b_dims);
  if (dims > kMaxBatchDims)
    fail_value("matmul", "at most 6 batch dimensions", shape_text(a) + " and " + shape_text(b));
  Shape batch(dims);
  std::int64_t a_step = a[a_dims] * a[a_dims + 1], b_step = b[b_dims] * b[b_dims + 1];
  p.batch_dims = static_cast<int>(dims);
  for (std::size_t back = 1; back <= dims; ++back) {
    const std::size_t d = dims - back;
    const std::int64_t na = back <= a_dims ? a[a_dims - back] : 1,
                       nb = back <= b_dims ? b[b_dims - back] : 1;
    if (na != nb && na != 1 && nb != 1)
      fail_value("matmul", "batch dimensions that broadcast",
                 shape_text(a) + " and " + shape_text(b));
    batch[d] = p.batch[d] = na == 1 ? nb : na;
    p.a_batch[d] = na == 1 ? 0 : a_step;
    p.b_batch[d] = nb == 1 ? 0 : b_step;
    a_step *= na;
    b_step *= nb;
  }
  return batch;
}

template <class T>
py::array matmul(const py::array& x, const py::array& w, bool transpose_x, bool transpose_w,
                 const py::object& bias, PlainActivation<Real<T>> activate) {
  Input<T> a("matmul", "x1", x), b("matmul", "x2", w);
  OptionalInput<T> b1("matmul", "bias", bias);
  const Shape as = a.shape(), bs = b.shape();
  if (as.size() < 2 || bs.size() < 2)
    fail_value("matmul", "matrices", shape_text(as) + " and " + shape_text(bs));
  const std::int64_t a_rows = a.shape(-2), a_cols = a.shape(-1), b_rows = b.shape(-2),
                     b_cols = b.shape(-1);
  MatmulArgs<T> p{};
  p.M = transpose_x ? a_cols : a_rows;
  p.K = transpose_x ? a_rows : a_cols;
  p.N = transpose_w ? b_rows : b_cols;
  if ((transpose_w ? b_cols : b_rows) != p.K) {
    fail_value("matmul", "inner dimensions that agree",
               "x1.shape=" + shape_text(as) + ", x2.shape=" + shape_text(bs) +
                   (transpose_x ? ", x1 transposed" : "") + (transpose_w ? ", x2 transposed" : ""));
  }
  if (b1 && (b1->ndim() != 1 || b1->shape(0) != p.N)) {
    fail_value("matmul", "bias of shape (" + std::to_string(p.N) + ",)",
               "bias.shape=" + shape_text(b1->shape()));
  }
  p.a = a.data(), p.a_row = transpose_x ? 1 : a_cols, p.a_col = transpose_x ? a_cols : 1;
  p.b = b.data(), p.b_row = transpose_w ? 1 : b_cols, p.b_col = transpose_w ? b_cols : 1;
  p.bias = b1.data();
  p.activate = activate;
  Shape shape = set_batch(p, as, bs);
  // One matrix b for all: the batch is just more rows of a.
  if (!transpose_x && bs.size() == 2) {
    for (; p.batch_dims > 0; --p.batch_dims) p.M *= p.batch[p.batch_dims - 1];
  }
  shape.push_back(transpose_x ? a_cols : a_rows);
  shape.push_back(p.N);
  checked_size("matmul", shape);
  Output<T> c(shape);
  p.c = c.data();
  const Gemm<T>& gemm = kernels<Gemm<T>>();
  Workspace<Real<T>> workspace(gemm.workspace_size(p.M, p.N, p.K));
  p.workspace = workspace.data();
  expect_flops(2.0 * static_cast<double>(c.size() * p.K));
  run(gemm.matmul, p);
  return c.array();
}

py::array bias_backward(const py::array& dy) {
  return dispatch<float, double, BFloat16>("dense", dy, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> in("dense", "dy", dy);
    const std::int64_t N = in.ndim() ? in.shape(-1) : 1;
    Output<T> db({static_cast<py::ssize_t>(N)});
    run(kernels<Gemm<T>>().bias_backward, in.data(), db.data(), N ? in.size() / N : 0, N);
    return db.array();
  });
}

const Binding gemm([](py::module_& m) {
  m.def(
      "matmul",
      [](const py::array& x, const py::array& w, bool transpose_x, bool transpose_w,
         const py::object& bias, const char* activation) {
        return dispatch<float, double, BFloat16>("matmul", x, [&](auto zero) -> py::array {
          using T = decltype(zero);
          PlainActivation<Real<T>> activate = nullptr;
          if (activation) {
            activate = kernels<Activation<Real<T>>>().plain.find(activation);
            if (!activate)
              fail_value("matmul", "activation to be relu, sigmoid, tanh or None", activation);
          }
          return matmul<T>(x, w, transpose_x, transpose_w, bias, activate);
        });
      },
      py::arg("x1"), py::arg("x2"), py::arg("transpose_x1") = false,
      py::arg("transpose_x2") = false, py::arg("bias") = py::none(),
      py::arg("activation") = py::none());
  m.def("bias_backward", bias_backward, py::arg("dy"));
});

}  // namespace
}  // namespace narae
