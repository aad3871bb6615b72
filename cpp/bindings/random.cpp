#include "kernels/random.h"

#include <cmath>
#include <limits>

#include "bindings/arrays.h"

namespace narae {
namespace {

class Key : public Input<std::int64_t> {
 public:
  Key(const char* who, const py::array& key) : Input(who, "key", key) {
    if (shape() != Shape{2}) fail_value(who, "a key of shape (2,)", shape_text(shape()));
  }
};

std::string text(double x) { return py::cast<std::string>(py::str(py::float_(x))); }

// The threshold of bernoulli and dropout: 31 bits of the probability to fall below it.
std::uint32_t threshold(const char* who, const char* name, double probability, double below) {
  if (!(probability >= 0 && probability <= 1)) {
    fail_value(who, std::string(name) + " between 0 and 1",
               std::string(name) + "=" + text(probability));
  }
  return static_cast<std::uint32_t>(std::lround(below * 0x1p31));
}

template <class Body>
py::array of_floats(const char* who, const py::dtype& dtype, const Shape& shape, Body&& body) {
  checked_size(who, shape);
  const py::array like(dtype, Shape{0});
  return dispatch<float, double>(who, like, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Output<T> y(shape);
    body(y, zero);
    return y.array();
  });
}

py::array uniform(const py::array& key, const Shape& shape, double low, double high,
                  const py::dtype& dtype) {
  Key in("random.uniform", key);
  return of_floats("random.uniform", dtype, shape, [&](auto& y, auto zero) {
    using T = decltype(zero);
    const T a = static_cast<T>(low), b = static_cast<T>(high), span = b - a;
    if (!(a <= b && std::isfinite(span)))
      fail_value("random.uniform", "minval <= maxval, both finite",
                 "minval=" + text(low) + ", maxval=" + text(high));
    const T last = a < b ? std::nextafter(b, a) : a;
    run(kernels<Random<T>>().uniform, in.data(), y.data(), y.size(), a, span, last);
  });
}

template <bool truncated>
py::array normal(const py::array& key, const Shape& shape, double mean, double stddev,
                 const py::dtype& dtype) {
  const char* who = truncated ? "random.truncated_normal" : "random.normal";
  Key in(who, key);
  return of_floats(who, dtype, shape, [&](auto& y, auto zero) {
    using T = decltype(zero);
    const auto& table = kernels<Random<T>>();
    run(truncated ? table.truncated_normal : table.normal, in.data(), y.data(), y.size(),
        static_cast<T>(mean), static_cast<T>(stddev));
  });
}

py::array dropout(const py::array& key, const py::array& x, double rate) {
  Key in("dropout", key);
  const std::uint32_t drop = threshold("dropout", "rate", rate, rate);
  return dispatch<float, double, BFloat16>("dropout", x, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> values("dropout", "x", x);
    Output<T> y(values.shape());
    run(kernels<Random<T>>().dropout, in.data(), values.data(), y.data(), y.size(), drop,
        static_cast<Real<T>>(rate < 1 ? 1 / (1 - rate) : 0));
    return y.array();
  });
}

py::array bernoulli(const py::array& key, const Shape& shape, double p) {
  Key in("random.bernoulli", key);
  checked_size("random.bernoulli", shape);
  Output<bool> y(shape);
  run(kernels<RandomIntegers<std::uint8_t>>().bernoulli, in.data(),
      reinterpret_cast<std::uint8_t*>(y.data()), y.size(),
      threshold("random.bernoulli", "p", p, 1 - p));
  return y.array();
}

py::array randint(const py::array& key, const Shape& shape, std::int64_t low, std::int64_t high,
                  const py::dtype& dtype) {
  Key in("random.randint", key);
  checked_size("random.randint", shape);
  const std::string received = "minval=" + std::to_string(low) + ", maxval=" + std::to_string(high);
  if (low >= high) fail_value("random.randint", "minval < maxval", received);
  const py::array like(dtype, Shape{0});
  return dispatch<std::uint8_t, std::int32_t, std::int64_t>(
      "random.randint", like, [&](auto zero) -> py::array {
        using T = decltype(zero);
        if (low < std::int64_t{std::numeric_limits<T>::min()} ||
            high - 1 > std::int64_t{std::numeric_limits<T>::max()})
          fail_value("random.randint", "values that " + dtype_name<T>() + " holds", received);
        Output<T> y(shape);
        run(kernels<RandomIntegers<T>>().randint, in.data(), y.data(), y.size(), low,
            static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low));
        return y.array();
      });
}

py::array permutation(const py::array& key, std::int64_t n, const py::dtype& dtype) {
  Key in("random.permutation", key);
  if (n < 0) fail_value("random.permutation", "n >= 0", "n=" + std::to_string(n));
  const py::array like(dtype, Shape{0});
  return dispatch<std::int32_t, std::int64_t>(
      "random.permutation", like, [&](auto zero) -> py::array {
        using T = decltype(zero);
        if (n > std::int64_t{std::numeric_limits<T>::max()})
          fail_value("random.permutation", "n that " + dtype_name<T>() + " holds",
                     "n=" + std::to_string(n));
        Output<T> y({static_cast<py::ssize_t>(n)});
        run(kernels<RandomIntegers<T>>().permutation, in.data(), y.data(), n);
        return y.array();
      });
}

py::array categorical(const py::array& key, const py::array& logits, std::int64_t samples) {
  Key in("random.categorical", key);
  return dispatch<float, double>("random.categorical", logits, [&](auto zero) -> py::array {
    using T = decltype(zero);
    Input<T> x("random.categorical", "logits", logits);
    if (x.ndim() != 2 || x.shape(1) == 0 || samples < 0) {
      fail_value(
          "random.categorical", "logits of shape (batch, classes >= 1) and num_samples >= 0",
          "logits.shape=" + shape_text(x.shape()) + ", num_samples=" + std::to_string(samples));
    }
    const Shape shape = {x.shape()[0], static_cast<py::ssize_t>(samples)};
    checked_size("random.categorical", shape);
    Output<std::int64_t> y(shape);
    Workspace<double> sums(x.size());
    run(kernels<Random<T>>().categorical, in.data(), x.data(), y.data(), x.shape(0), x.shape(1),
        samples, sums.data());
    return y.array();
  });
}

void next_key(std::int64_t* state, std::int64_t* key) {
  key[0] = state[0];
  key[1] = state[1]++;
}

py::array random_next(py::array& state) {
  InOut<std::int64_t> s("random", "state", state);
  if (s.shape() != Shape{2}) fail_value("random", "a state of shape (2,)", shape_text(s.shape()));
  Output<std::int64_t> key({2});
  run(next_key, s.data(), key.data());
  return key.array();
}

py::array words(const py::array& key, std::int64_t n, std::uint64_t first_block) {
  Key in("random", key);
  if (n < 0) fail_value("random", "n >= 0", "n=" + std::to_string(n));
  Output<std::uint32_t> y({static_cast<py::ssize_t>(n)});
  run(kernels<RandomWords>().words, in.data(), first_block, y.data(), n);
  return y.array();
}

const Binding random([](py::module_& m) {
  m.def("random_next", random_next, py::arg("state"));
  m.def("random_words", words, py::arg("key"), py::arg("n"), py::arg("first_block") = 0);
  m.def("random_uniform", uniform, py::arg("key"), py::arg("shape"), py::arg("low"),
        py::arg("high"), py::arg("dtype"));
  m.def("random_normal", normal<false>, py::arg("key"), py::arg("shape"), py::arg("mean"),
        py::arg("stddev"), py::arg("dtype"));
  m.def("random_truncated_normal", normal<true>, py::arg("key"), py::arg("shape"), py::arg("mean"),
        py::arg("stddev"), py::arg("dtype"));
  m.def("random_bernoulli", bernoulli, py::arg("key"), py::arg("shape"), py::arg("p"));
  m.def("random_randint", randint, py::arg("key"), py::arg("shape"), py::arg("low"),
        py::arg("high"), py::arg("dtype"));
  m.def("random_permutation", permutation, py::arg("key"), py::arg("n"), py::arg("dtype"));
  m.def("random_categorical", categorical, py::arg("key"), py::arg("logits"),
        py::arg("num_samples"));
  m.def("random_dropout", dropout, py::arg("key"), py::arg("x"), py::arg("rate"));
});

}  // namespace
}  // namespace narae
