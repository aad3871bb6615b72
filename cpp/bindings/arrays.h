// Arrays in, arrays out: what every binding is written with.
//
//   Binding softmax([](py::module_& m) {
//     m.def("softmax_forward", [](const py::array& x) {
//       return dispatch<float, double>("softmax", x, [&](auto zero) -> py::array {
//         using T = decltype(zero);
//         Input<T> in("softmax", "x", x);
//         Output<T> y(in.shape());
//         run(kernels<Softmax<T>>().forward, in.data(), y.data(), rows, columns);
//         return y.array();
//       });
//     });
//   });
//
// Inputs must be C-contiguous, aligned, in native byte order and of the kernel's dtype: narae's
// Tensors always are, and anything else is a TypeError, never a silent copy. Only bfloat16 is
// widened where a kernel reads float, so that a family without BFloat16 in its dispatch serves it
// too: computed in float32, results rounded. While a step is recorded, every array that a call
// touches is kept alive.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/bfloat16.h"
#include "core/isa.h"
#include "core/pool.h"
#include "core/recorder.h"

namespace narae {

namespace py = pybind11;
using Shape = std::vector<py::ssize_t>;

// Every binding file defines one or more of these at namespace scope; module.cpp runs them all.
class Binding {
 public:
  explicit Binding(void (*define)(py::module_&)) : define_(define), next_(first()) {
    first() = this;
  }
  static void define_all(py::module_& m) {
    for (const Binding* b = first(); b; b = b->next_) b->define_(m);
  }

 private:
  static const Binding*& first() {
    static const Binding* head = nullptr;
    return head;
  }
  void (*define_)(py::module_&);
  const Binding* next_;
};

std::string describe(const py::array& a);  // "float32 array of shape (2, 3)"
[[noreturn]] void fail_type(const char* who, const char* name, const std::string& expected,
                            const py::array& received);
[[noreturn]] void fail_value(const char* who, const std::string& expected,
                             const std::string& received);
std::string shape_text(const Shape& shape);

template <class T>
inline constexpr bool kIsBFloat16 = std::is_same_v<T, BFloat16>;

template <class T>
constexpr char kind_of() {
  if constexpr (std::is_same_v<T, bool>) return 'b';
  if constexpr (kIsBFloat16<T>) return 'V';  // to NumPy an unknown type, of ml_dtypes
  return std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
}
template <class T>
bool has_dtype(const py::array& a) {
  const py::dtype dtype = a.dtype();
  return dtype.kind() == kind_of<T>() && dtype.itemsize() == static_cast<py::ssize_t>(sizeof(T)) &&
         (!kIsBFloat16<T> || dtype.char_() == 'E');
}
template <class T>
std::string dtype_name() {
  if constexpr (std::is_same_v<T, bool>) return "bool";
  if constexpr (kIsBFloat16<T>) return "bfloat16";
  const char* kind = std::is_floating_point_v<T> ? "float" : std::is_signed_v<T> ? "int" : "uint";
  return kind + std::to_string(8 * sizeof(T));
}

py::dtype bfloat16_dtype();
template <class T>
py::dtype dtype_of() {
  if constexpr (kIsBFloat16<T>) {
    return bfloat16_dtype();
  } else {
    return py::dtype::of<T>();
  }
}

// A bfloat16 array as float32; what is float32 of a result (arrays, one by one) as bfloat16.
py::array widened(const char* who, const char* name, const py::array& a);
py::array rounded(const py::array& y);
py::object rounded(const py::object& y);
py::tuple rounded(const py::tuple& ys);
template <class A>
std::vector<A> rounded(std::vector<A> ys) {
  for (A& y : ys) y = rounded(y);
  return ys;
}
template <class A, class B>
std::pair<A, B> rounded(const std::pair<A, B>& ys) {
  return {rounded(ys.first), rounded(ys.second)};
}

// body(T{}) for the first T of the list that is a's dtype; for bfloat16 that is not in the list
// body(float{}).
template <class... Ts, class Body>
auto dispatch(const char* who, const py::array& a, Body&& body) {
  using Result = decltype(body(std::get<0>(std::tuple<Ts...>{})));
  if constexpr ((std::is_same_v<Ts, float> || ...) && !(kIsBFloat16<Ts> || ...)) {
    if (has_dtype<BFloat16>(a)) {
      if constexpr (std::is_void_v<Result>) {
        return body(float{});
      } else {
        return Result(rounded(body(float{})));
      }
    }
  }
  if constexpr (std::is_void_v<Result>) {
    const bool found = ((has_dtype<Ts>(a) && (body(Ts{}), true)) || ...);
    if (!found) fail_type(who, "x", ((dtype_name<Ts>() + " ") + ...) + "dtype", a);
  } else {
    Result result;
    const bool found = ((has_dtype<Ts>(a) && (result = body(Ts{}), true)) || ...);
    if (!found) fail_type(who, "x", ((dtype_name<Ts>() + " ") + ...) + "dtype", a);
    return result;
  }
}

void keep_while_recorded(const py::array& a);
void check_layout(const char* who, const char* name, const py::array& a);

// An array that a kernel reads.
template <class T>
class Input {
 public:
  Input(const char* who, const char* name, const py::array& a) : array_(a) {
    if (!has_dtype<T>(a)) {
      if (!std::is_same_v<T, float> || !has_dtype<BFloat16>(a))
        fail_type(who, name, dtype_name<T>(), a);
      array_ = widened(who, name, a);
      return;
    }
    check_layout(who, name, a);
    keep_while_recorded(a);
    expect_bytes(static_cast<double>(a.nbytes()));
  }
  const T* data() const { return static_cast<const T*>(array_.data()); }
  std::int64_t size() const { return array_.size(); }
  int ndim() const { return static_cast<int>(array_.ndim()); }
  std::int64_t shape(int axis) const { return array_.shape(axis < 0 ? axis + ndim() : axis); }
  Shape shape() const { return Shape(array_.shape(), array_.shape() + array_.ndim()); }
  const py::array& array() const { return array_; }

 private:
  py::array array_;
};

// An optional array that a kernel reads: None gives nullptr.
template <class T>
class OptionalInput {
 public:
  OptionalInput(const char* who, const char* name, const py::object& a) {
    if (!a.is_none()) input_.emplace_back(who, name, py::cast<py::array>(a));
  }
  explicit operator bool() const { return !input_.empty(); }
  const Input<T>* operator->() const { return &input_[0]; }
  const T* data() const { return input_.empty() ? nullptr : input_[0].data(); }

 private:
  std::vector<Input<T>> input_;
};

// An array that a kernel changes in place (variables, optimizer slots, accumulators).
template <class T>
class InOut {
 public:
  InOut(const char* who, const char* name, py::array& a)
      : input_(who, name, a), data_(static_cast<T*>(a.mutable_data())) {
    if (!has_dtype<T>(a)) fail_type(who, name, dtype_name<T>(), a);
    expect_bytes(static_cast<double>(a.nbytes()));
  }
  T* data() const { return data_; }
  std::int64_t size() const { return input_.size(); }
  std::int64_t shape(int axis) const { return input_.shape(axis); }
  Shape shape() const { return input_.shape(); }

 private:
  Input<T> input_;
  T* data_;
};

// A fresh array from the pool (the recording's own while recording); its content is undefined.
py::array empty_array(const py::dtype& dtype, const Shape& shape);

template <class T>
class Output {
 public:
  explicit Output(const Shape& shape) : array_(empty_array(dtype_of<T>(), shape)) {
    expect_bytes(static_cast<double>(array_.nbytes()));
  }
  T* data() { return static_cast<T*>(array_.mutable_data()); }
  std::int64_t size() const { return array_.size(); }
  py::array array() const { return array_; }

 private:
  py::array array_;
};

// Memory for the length of one call (a kernel's workspace).
template <class T>
class Workspace {
 public:
  explicit Workspace(std::int64_t size)
      : data_(static_cast<T*>(allocate(static_cast<std::size_t>(size) * sizeof(T),
                                       recording() ? recording()->pool() : nullptr))) {}
  ~Workspace() { deallocate(data_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  T* data() const { return data_; }

 private:
  T* data_;
};

// Hands the call to the recorder and runs it without the GIL.
template <class... P, class... A>
void run(void (*kernel)(P...), A&&... arguments) {
  py::gil_scoped_release release;
  launch(kernel, std::forward<A>(arguments)...);
}

// Product of sizes in 64 bits; raises on overflow or a negative size.
std::int64_t checked_size(const char* who, const Shape& shape);

}  // namespace narae
