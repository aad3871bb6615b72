#include "kernels/squared_error.h"

#include "core/isa.h"
#include "kernels/reduce_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

template <class T>
NARAE_INLINE Vec<T> errors(const T* t, const T* p, std::int64_t at, std::int64_t lanes) {
  return load_lanes(p + at, lanes) - load_lanes(t + at, lanes);
}

template <class T>
void forward(const T* t, const T* p, T* y, T* workspace, std::int64_t N, std::int64_t C) {
  fold_rows<T, Sum<T>>(N, C, y, workspace, [=](std::int64_t n, std::int64_t c, std::int64_t lanes) {
    const Vec<T> error = errors(t, p, n * C + c, lanes);
    return error * error;
  });
  divide(y, N, static_cast<T>(C));
}

template <class T>
void backward(const T* dy, const T* t, const T* p, T* dp, std::int64_t N, std::int64_t C) {
  if (C == 1) {
    return parallel_ranges(N, kFoldGrain, [=](std::int64_t begin, std::int64_t end) {
      for_lanes<T>(end - begin, [=](std::int64_t i, std::int64_t lanes) {
        const Vec<T> factor = load_lanes(dy + begin + i, lanes) * T(2);
        store_lanes<T>(dp + begin + i, factor * errors(t, p, begin + i, lanes), lanes);
      });
    });
  }
  const std::int64_t grain = at_least_one(kFoldGrain / at_least_one(C));
  parallel_ranges(N, grain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const T factor = dy[n] * (T(2) / static_cast<T>(C));
      for_lanes<T>(C, [=](std::int64_t c, std::int64_t lanes) {
        store_lanes<T>(dp + n * C + c, factor * errors(t, p, n * C + c, lanes), lanes);
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
