// Strided NumPy views are the language here: Python makes the view (a slice, a transpose), the
// kernel moves the elements.
#include "kernels/shape.h"

#include <algorithm>

#include "bindings/arrays.h"

namespace narae {
namespace {

void check_view(const char* who, const char* name, const py::array& a) {
  constexpr int kAligned = 0x0100;  // NPY_ARRAY_ALIGNED
  const char order = a.dtype().byteorder();
  if (!(a.flags() & kAligned) || !(order == '=' || order == '|'))
    fail_type(who, name, "aligned, native layout", a);
}

// Dimensions of size 1 are dropped, neighbours joined where both strides allow it.
MoveShape joined(const char* who, const py::array& from, const py::array& to) {
  MoveShape s = {};
  const std::int64_t item = from.itemsize();
  for (int d = 0; d < from.ndim(); ++d) {
    const std::int64_t n = from.shape(d), f = from.strides(d) / item, t = to.strides(d) / item;
    if (n == 1) continue;
    if (s.dims && s.from[s.dims - 1] == f * n && s.to[s.dims - 1] == t * n) {
      s.size[s.dims - 1] *= n, s.from[s.dims - 1] = f, s.to[s.dims - 1] = t;
      continue;
    }
    if (s.dims == kMaxDims)
      fail_value(who, "at most 8 dimensions", std::to_string(from.ndim()) + " dimensions");
    s.size[s.dims] = n, s.from[s.dims] = f, s.to[s.dims] = t;
    ++s.dims;
  }
  if (s.dims == 0) s.dims = 1, s.size[0] = 1, s.from[0] = s.to[0] = 1;
  return s;
}

void move(const char* who, const py::array& from, py::array& to) {
  const MoveShape shape = joined(who, from, to);
  if (from.size() == 0) return;
  const auto launch_as = [&](auto zero) {
    using T = decltype(zero);
    run(kernels<Move<T>>().move, shape, static_cast<const T*>(from.data()),
        static_cast<T*>(to.mutable_data()));
  };
  switch (from.itemsize()) {
    case 1:
      return launch_as(std::uint8_t{});
    case 2:
      return launch_as(std::uint16_t{});
    case 4:
      return launch_as(std::uint32_t{});
    case 8:
      return launch_as(std::uint64_t{});
    default:
      fail_type(who, "x", "1, 2, 4 or 8 bytes per element", from);
  }
}

// A contiguous copy of a view.
py::array contiguous(const py::array& x) {
  check_view("copy", "x", x);
  keep_while_recorded(x);
  py::array y = empty_array(x.dtype(), Shape(x.shape(), x.shape() + x.ndim()));
  move("copy", x, y);
  return y;
}

// target[...] = x, where target is a writable view of the same shape and dtype.
void copy_into(py::array target, const py::array& x) {
  check_view("copy", "target", target);
  check_view("copy", "x", x);
  if (!target.writeable()) fail_type("copy", "target", "writable memory", target);
  if (!target.dtype().is(x.dtype()) && !target.dtype().equal(x.dtype()))
    fail_type("copy", "x", py::cast<std::string>(py::str(target.dtype())), x);
  if (target.ndim() != x.ndim() || !std::equal(x.shape(), x.shape() + x.ndim(), target.shape()))
    fail_value("copy", "x of target's shape " + describe(target), describe(x));
  keep_while_recorded(target);
  keep_while_recorded(x);
  move("copy", x, target);
}

const Binding shape([](py::module_& m) {
  m.def("contiguous", contiguous, py::arg("x"));
  m.def("copy_into", copy_into, py::arg("target"), py::arg("x"));
});

}  // namespace
}  // namespace narae
