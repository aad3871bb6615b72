#include "kernels/sort.h"

#include <limits>

#include "bindings/arrays.h"

namespace narae {
namespace {

template <class T>
class Rows : public Input<T> {  // (..., C)
 public:
  Rows(const char* who, const py::array& x) : Input<T>(who, "x", x) {
    if (this->ndim() == 0 || C() > std::numeric_limits<std::int32_t>::max())
      fail_value(who, "a last axis of less than 2^31 elements", shape_text(this->shape()));
  }
  std::int64_t C() const { return this->shape(-1); }
  std::int64_t N() const { return C() ? this->size() / C() : 0; }
  using Input<T>::shape;
};

py::array argsort(const py::array& x, bool descending) {
  return dispatch<float, double, std::int32_t, std::int64_t>(
      "argsort", x, [&](auto zero) -> py::array {
        using T = decltype(zero);
        Rows<T> in("argsort", x);
        Output<std::int32_t> index(in.shape());
        const Sort<T>& sort = kernels<Sort<T>>();
        Workspace<char> room(sort.workspace_bytes(in.C()));
        run(sort.argsort, in.data(), index.data(), in.N(), in.C(), descending, room.data());
        return index.array();
      });
}

py::array top_k(const py::array& x, std::int64_t k) {
  return dispatch<float, double, std::int32_t, std::int64_t>(
      "top_k", x, [&](auto zero) -> py::array {
        using T = decltype(zero);
        Rows<T> in("top_k", x);
        if (k < 0 || k > in.C()) {
          fail_value("top_k", "k between 0 and the size of the last axis",
                     "k=" + std::to_string(k) + ", x.shape=" + shape_text(in.shape()));
        }
        Shape shape = in.shape();
        shape.back() = static_cast<py::ssize_t>(k);
        Output<std::int32_t> index(shape);
        const Sort<T>& sort = kernels<Sort<T>>();
        Workspace<char> room(sort.workspace_bytes(in.C()));
        run(sort.top_k, in.data(), index.data(), in.N(), in.C(), k, room.data());
        return index.array();
      });
}

// The targets are those of index_resolve: in range.
py::array in_top_k(const py::array& targets, const py::array& predictions, std::int64_t k) {
  Input<std::int64_t> target("in_top_k", "targets", targets);
  return dispatch<float, double>("in_top_k", predictions, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Rows<T> x("in_top_k", predictions);
    Shape rows = x.shape();
    rows.pop_back();
    if (target.shape() != rows) {
      fail_value("in_top_k", "a target for each row of predictions",
                 "targets.shape=" + shape_text(target.shape()) +
                     ", predictions.shape=" + shape_text(x.shape()));
    }
    Output<bool> y(rows);
    run(kernels<Sort<T>>().in_top_k, x.data(), target.data(), y.data(), x.N(), x.C(), k);
    return y.array();
  });
}

py::array searchsorted(const py::array& sequence, const py::array& values, bool right) {
  return dispatch<float, double, std::int32_t, std::int64_t>(
      "searchsorted", sequence, [&](auto zero) -> py::array {
        using T = decltype(zero);
        Rows<T> x("searchsorted", sequence);
        Input<T> v("searchsorted", "values", values);
        if (x.ndim() != 1)
          fail_value("searchsorted", "a sorted_sequence of one axis", shape_text(x.shape()));
        Output<std::int32_t> y(v.shape());
        run(kernels<Sort<T>>().searchsorted, x.data(), x.C(), v.data(), y.data(), v.size(), right);
        return y.array();
      });
}

const Binding sort([](py::module_& m) {
  m.def("sort_argsort", argsort, py::arg("x"), py::arg("descending") = false);
  m.def("sort_top_k", top_k, py::arg("x"), py::arg("k"));
  m.def("sort_in_top_k", in_top_k, py::arg("targets"), py::arg("predictions"), py::arg("k"));
  m.def("sort_searchsorted", searchsorted, py::arg("sequence"), py::arg("values"),
        py::arg("right") = false);
});

}  // namespace
}  // namespace narae
