#include "kernels/squared_error.h"

#include "core/isa.h"
#include "kernels/reduce_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

template <class T>
void forward(const T* p, const T* t, T* y, T* workspace, std::int64_t N, std::int64_t C) {
  fold_rows<T, Sum<T>>(N, C, y, workspace, [=](std::int64_t n, std::int64_t c, std::int64_t lanes) {
    const std::int64_t at = n * C + c;
    const Vec<T> error = load_lanes(p + at, lanes) - load_lanes(t + at, lanes);
    return error * error;
  });
  for (std::int64_t n = 0; n < N; ++n) y[n] /= static_cast<T>(C);
}

template <class T>
void backward(const T* dy, const T* p, const T* t, T* dp, std::int64_t N, std::int64_t C) {
  parallel_ranges(
      N, at_least_one(kFoldGrain / at_least_one(C)), [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t n = begin; n < end; ++n) {
          const T factor = dy[n] * (T(2) / static_cast<T>(C));
          const std::int64_t row = n * C;
          for_lanes<T>(C, [=](std::int64_t c, std::int64_t lanes) {
            const Vec<T> error = load_lanes(p + row + c, lanes) - load_lanes(t + row + c, lanes);
            store_lanes<T>(dp + row + c, factor * error, lanes);
          });
        }
      });
}

template <class T>
constexpr SquaredError<T> kTable = {fold_rows_workspace, forward<T>, backward<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const SquaredError<float>& implementation<SquaredError<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const SquaredError<double>& implementation<SquaredError<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}

}  // namespace narae
