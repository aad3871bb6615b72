#include "kernels/peak.h"

#include <algorithm>
#include <chrono>

#include "bindings/arrays.h"

namespace narae {
namespace {

template <class Body>
double seconds(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Floating-point operations a second of one thread: the best of many short runs (a neighbour only
// ever slows one down).
double peak_flops(const std::string& dtype) {
  constexpr std::int64_t kRounds = 20000;
  const auto best_of = [](auto zero) {
    using T = decltype(zero);
    const Peak<T>& peak = kernels<Peak<T>>();
    double best = 0;
    auto sink = Real<T>(0.5);  // x = x * 0.5 + 0.5 stays a normal number
    for (int repeat = 0; repeat < 200; ++repeat) {
      const double time = seconds([&] { peak.multiply_add(kRounds, &sink); });
      best = std::max(best, static_cast<double>(peak.operations(kRounds)) / time);
      sink = Real<T>(0.5);
    }
    return best;
  };
  py::gil_scoped_release release;
  if (dtype == "bfloat16") return best_of(BFloat16{});
  return dtype == "float64" ? best_of(double{}) : best_of(float{});
}

// Bytes a second, read and written, of a copy between two buffers of `bytes` bytes each.
double peak_copy(std::int64_t bytes) {
  const std::int64_t n = bytes / static_cast<std::int64_t>(sizeof(float));
  Workspace<float> x(n), y(n);
  std::fill_n(x.data(), n, 1.0f);
  std::fill_n(y.data(), n, 0.0f);
  double best = 0;
  py::gil_scoped_release release;
  for (int repeat = 0; repeat < 10; ++repeat) {
    const double time = seconds([&] { kernels<Peak<float>>().copy(x.data(), y.data(), n); });
    best = std::max(best, 2.0 * static_cast<double>(bytes) / time);
  }
  return best;
}

const Binding peak([](py::module_& m) {
  m.def("peak_flops", peak_flops, py::arg("dtype") = "float32");
  m.def("peak_copy", peak_copy, py::arg("bytes") = std::int64_t{1} << 28);
});

}  // namespace
}  // namespace narae
