// Random words by counter: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011), a vector of blocks
// at a time.
//
// A stream is (seed, counter), a block is four 32-bit words:
//   key      (seed low, seed high)
//   counter  (block low, block high, counter low, counter high)
//   word i   lane i % 4 of block i / 4
// The words depend on these numbers only: not on the thread, the instruction set or the order.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <utility>

#include "core/vec.h"

namespace narae::NARAE_ISA {

template <>
struct IntOf<std::uint32_t> {
  using type = std::int32_t;
};
template <>
struct IntOf<std::uint64_t> {
  using type = std::int64_t;
};

using Words64 = Vec<std::uint64_t>;

// The product of the lower halves of each lane: one instruction, which compilers do not find.
// (GCC 12 warns within the plain AVX-512 form of it.)
inline Words64 multiply_low_halves(Words64 a, Words64 b) {
#if defined(__AVX512F__)
  return (Words64)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Words64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Words64)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

template <class V, int... I>
inline V interleave_lanes(V a, V b, int offset, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  return offset == 0 ? __builtin_shufflevector(a, b, (I % 2 * n + I / 2)...)
                     : __builtin_shufflevector(a, b, (I % 2 * n + (n + I) / 2)...);
}

// a0 b0 a1 b1 ..., stored at p: 2 * kLanes<T> values.
template <class T>
inline void store_interleaved(T* p, Vec<T> a, Vec<T> b) {
  const std::make_integer_sequence<int, kLanes<T>> lanes{};
  store<T>(p, interleave_lanes(a, b, 0, lanes));
  store<T>(p + kLanes<T>, interleave_lanes(a, b, 1, lanes));
}

class Philox {
 public:
  static constexpr int kBlocks = kLanes<std::uint64_t>;  // made together
  static constexpr int kWords = 4 * kBlocks;

  // Lane j holds a word of block j in its lower half; the upper half is arbitrary.
  struct Lanes {
    Words64 c0, c1, c2, c3;

    Words64 pairs01() const { return (c0 & 0xffffffffu) | c1 << 32; }
    Words64 pairs23() const { return (c2 & 0xffffffffu) | c3 << 32; }
    void store_words(std::uint32_t* words) const {  // kWords of them, in order
      std::uint64_t pairs[2 * kBlocks];
      store_interleaved<std::uint64_t>(pairs, pairs01(), pairs23());
      std::memcpy(words, pairs, sizeof pairs);
    }
  };

  explicit Philox(const std::int64_t* key) : counter_(static_cast<std::uint64_t>(key[1])) {
    const std::uint64_t seed = static_cast<std::uint64_t>(key[0]);
    std::uint32_t k0 = static_cast<std::uint32_t>(seed),
                  k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int r = 0; r < kRounds; ++r, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
      keys_[r][0] = broadcast<std::uint64_t>(k0);
      keys_[r][1] = broadcast<std::uint64_t>(k1);
    }
  }

  // Blocks first, first + 1, ...
  Lanes operator()(std::uint64_t first) const {
    Words64 block;
    for (int j = 0; j < kBlocks; ++j) block[j] = first + static_cast<std::uint64_t>(j);
    const Words64 stream = broadcast(counter_);
    Lanes c = {block, block >> 32, stream, stream >> 32};
    NARAE_UNROLL
    for (int r = 0; r < kRounds; ++r) {
      const Words64 p0 = multiply_low_halves(c.c0, broadcast<std::uint64_t>(0xd2511f53u));
      const Words64 p1 = multiply_low_halves(c.c2, broadcast<std::uint64_t>(0xcd9e8d57u));
      c = {p1 >> 32 ^ c.c1 ^ keys_[r][0], p1, p0 >> 32 ^ c.c3 ^ keys_[r][1], p0};
    }
    return c;
  }

 private:
  static constexpr int kRounds = 10;
  Words64 keys_[kRounds][2];
  std::uint64_t counter_;
};

}  // namespace narae::NARAE_ISA
