#include "kernels/peak.h"

#include "kernels/gemm_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

// Enough independent sums to hide the latency of a multiply-add (4 cycles, 2 a cycle) within 16
// registers. Products of pairs take longer, where there are 32.
template <class T>
constexpr int kSums = 12 * kTerms<T>;

template <class T>
std::int64_t operations(std::int64_t rounds) {
  return rounds * kSums<T> * kLanes<T> * 2 * kTerms<T>;
}

template <class T>
void multiply_add(std::int64_t rounds, Real<T>* sink) {
  Vec<T> sums[kSums<T>];
  // Different starts: equal sums would be computed once.
  for (int i = 0; i < kSums<T>; ++i) sums[i] = broadcast(Real<T>(i) * *sink);
  const Vec<T> factor = broadcast(*sink), term = factor;
  for (std::int64_t r = 0; r < rounds; ++r) {
    NARAE_UNROLL
    for (int i = 0; i < kSums<T>; ++i) {
      if constexpr (kTerms<T> == 2) {
        sums[i] = NARAE_ISA::multiply_add(Pair{0x3f003f00}, (Vec<Pair>)term, sums[i]);  // 0.5
      } else {
        sums[i] = sums[i] * factor + term;
      }
    }
  }
  Vec<T> total = {};
  for (int i = 0; i < kSums<T>; ++i) total += sums[i];
  *sink = sum<Real<T>>(total);
}

template <class T>
void copy(const T* x, T* y, std::int64_t n) {
  parallel_ranges(n, std::int64_t{1} << 16, [&](std::int64_t begin, std::int64_t end) {
    std::memcpy(y + begin, x + begin, static_cast<std::size_t>(end - begin) * sizeof(T));
  });
}

template <class T>
constexpr Peak<T> kTable = {operations<T>, multiply_add<T>, copy<T>};

}  // namespace
}  // namespace NARAE_ISA

#if !defined(__AVX512BF16__)
template <>
const Peak<float>& implementation<Peak<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Peak<double>& implementation<Peak<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}
#endif
template <>
const Peak<BFloat16>& implementation<Peak<BFloat16>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<BFloat16>;
}

}  // namespace narae
