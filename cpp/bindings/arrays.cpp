#include "bindings/arrays.h"

#include <pybind11/gil_safe_call_once.h>

#include "kernels/unary.h"

namespace narae {

std::string shape_text(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

std::string describe(const py::array& a) {
  return py::cast<std::string>(py::str(a.dtype())) + " array of shape " +
         shape_text(Shape(a.shape(), a.shape() + a.ndim()));
}

void fail_type(const char* who, const char* name, const std::string& expected,
               const py::array& received) {
  throw py::type_error("narae.ops." + std::string(who) + ": expected " + name + " of " + expected +
                       ". Received: " + name + "=" + describe(received) + ".");
}

void fail_value(const char* who, const std::string& expected, const std::string& received) {
  throw py::value_error("narae.ops." + std::string(who) + ": expected " + expected +
                        ". Received: " + received + ".");
}

void check_layout(const char* who, const char* name, const py::array& a) {
  constexpr int kAligned = 0x0100;  // NPY_ARRAY_ALIGNED
  constexpr int kNeeded = py::array::c_style | kAligned;
  const char order = a.dtype().byteorder();
  const bool native = order == '=' || order == '|';
  if ((a.flags() & kNeeded) != kNeeded || !native)
    fail_type(who, name, "C-contiguous, aligned, native layout", a);
}

py::dtype bfloat16_dtype() {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::dtype> dtype;
  return dtype
      .call_once_and_store_result(
          [] { return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16")); })
      .get_stored();
}

py::array widened(const char* who, const char* name, const py::array& a) {
  Input<BFloat16> x(who, name, a);
  Output<float> y(x.shape());
  run(kernels<Unary<BFloat16>>().cast[kFloat32], x.data(), y.data(), x.size());
  return y.array();
}

py::array rounded(const py::array& y) {
  if (!has_dtype<float>(y)) return y;
  Input<float> x("cast", "x", y);
  Output<BFloat16> short_y(x.shape());
  run(kernels<Unary<float>>().cast[kBFloat16], x.data(), short_y.data(), x.size());
  return short_y.array();
}
py::object rounded(const py::object& y) {
  return py::isinstance<py::array>(y) ? py::object(rounded(py::cast<py::array>(y))) : y;
}
py::tuple rounded(const py::tuple& ys) {
  py::tuple result(ys.size());
  for (std::size_t i = 0; i < ys.size(); ++i) result[i] = rounded(py::object(ys[i]));
  return result;
}

void keep_while_recorded(const py::array& a) {
  Recording* active = recording();
  if (!active) return;
  // Memory of the recording's own pool stays by itself; keeping it would only stop its reuse.
  py::object base = a;
  while (py::isinstance<py::array>(base)) {
    py::object next = py::reinterpret_borrow<py::array>(base).base();
    if (!next || next.is_none()) break;
    base = next;
  }
  if (py::isinstance<py::capsule>(base)) {
    auto capsule = py::reinterpret_borrow<py::capsule>(base);
    if (capsule.name() == std::string("narae.pool") && active->owns(capsule.get_pointer())) return;
  }
  active->keep(std::shared_ptr<void>(new py::object(a),
                                     [](void* p) { delete static_cast<py::object*>(p); }));
}

py::array empty_array(const py::dtype& dtype, const Shape& shape) {
  std::int64_t bytes = dtype.itemsize();
  for (py::ssize_t n : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::int64_t>(n), &bytes)) throw std::bad_alloc();
  }
  void* memory =
      allocate(static_cast<std::size_t>(bytes), recording() ? recording()->pool() : nullptr);
  py::capsule owner(memory, "narae.pool",
                    [](PyObject* o) { deallocate(PyCapsule_GetPointer(o, "narae.pool")); });
  return py::array(dtype, shape, {}, memory, owner);
}

std::int64_t checked_size(const char* who, const Shape& shape) {
  std::int64_t size = 1;
  for (py::ssize_t n : shape) {
    if (n < 0 || __builtin_mul_overflow(size, static_cast<std::int64_t>(n), &size)) {
      fail_value(who, "non-negative sizes whose product fits 64 bits", shape_text(shape));
    }
  }
  return size;
}

}  // namespace narae
