// Vec<T>: one SIMD register of T, on the compilers' vector extensions: + - * / < == ?: work lane by
// lane, and a scalar operand is broadcast. A kernel written over it compiles to every instruction
// set without intrinsics.
//
// Vec<BFloat16> is Vec<float>: loads widen and stores round to the nearest, halves to the even
// neighbour, so that one template serves both.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/bfloat16.h"

#if defined(__clang__)
#define NARAE_UNROLL _Pragma("unroll")
#else
#define NARAE_UNROLL _Pragma("GCC unroll 64")
#endif

// A call would pass its vectors through memory and forget every register: at 40 instructions a
// vector exp, left to the compiler's judgement, it halved the speed of softmax and gelu.
#define NARAE_INLINE inline __attribute__((always_inline))
// The other way round: everything that the function calls is inlined in it.
#define NARAE_FLATTEN inline __attribute__((flatten))

namespace narae::NARAE_ISA {

#if defined(__AVX512F__)
inline constexpr int kVecBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVecBytes = 32;
#else
inline constexpr int kVecBytes = 16;
#endif

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(kVecBytes)));
};
template <>
struct VecOf<BFloat16> : VecOf<float> {};
template <class T>
using Vec = typename VecOf<T>::type;

template <class T>
inline constexpr int kLanes = kVecBytes / static_cast<int>(sizeof(Real<T>));

// The integer of T's width: what comparisons of Vec<T> give, lane by lane 0 or -1.
template <class T>
struct IntOf;
template <>
struct IntOf<float> {
  using type = std::int32_t;
};
template <>
struct IntOf<BFloat16> : IntOf<float> {};
template <>
struct IntOf<double> {
  using type = std::int64_t;
};
template <>
struct IntOf<std::int32_t> {
  using type = std::int32_t;
};
template <>
struct IntOf<std::int64_t> {
  using type = std::int64_t;
};
template <class T>
using Int = typename IntOf<T>::type;

// The bits of a register of bfloat16.
typedef std::uint16_t Halves __attribute__((vector_size(kVecBytes / 2)));
typedef std::uint32_t Words __attribute__((vector_size(kVecBytes)));

// By name for GCC, which widens the two halves of h apart and puts them together again.
NARAE_INLINE Vec<float> widen(Halves h) {
#if defined(__AVX512F__) && !defined(__clang__)
  typedef int Ints __attribute__((vector_size(64)));
  typedef short Shorts __attribute__((vector_size(32)));
  const auto words = (Words)__builtin_ia32_pmovzxwd512_mask((Shorts)h, Ints{}, 0xffff);
#elif defined(__AVX2__) && !defined(__clang__)
  typedef short Shorts __attribute__((vector_size(16)));
  const auto words = (Words)__builtin_ia32_pmovzxwd256((Shorts)h);
#else
  const auto words = __builtin_convertvector(h, Words);
#endif
  return (Vec<float>)(words << 16);
}
// To the nearest, halves to the even neighbour; a NaN stays one, whatever its payload.
// vcvtneps2bf16 would make zeros of denormal numbers.
NARAE_INLINE Halves round_to_halves(Vec<float> v) {
  const Words bits = (Words)v;
  const Words rounded = bits + ((bits >> 16 & 1) + 0x7fff);
  const Words quiet = bits | 0x400000;
  return __builtin_convertvector((v == v ? rounded : quiet) >> 16, Halves);
}

NARAE_INLINE float widen(BFloat16 x) {
  const std::uint32_t bits = std::uint32_t{x.bits} << 16;
  float y;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}
NARAE_INLINE BFloat16 round_to_bfloat16(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = x == x ? bits + ((bits >> 16 & 1) + 0x7fff) : bits | 0x400000;
  return {static_cast<std::uint16_t>(bits >> 16)};
}

// One element, as the kernel computes with it.
template <class T>
NARAE_INLINE Real<T> read(const T* p) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return widen(*p);
  } else {
    return *p;
  }
}
template <class T>
NARAE_INLINE void write(T* p, Real<T> x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    *p = round_to_bfloat16(x);
  } else {
    *p = x;
  }
}

template <class T>
NARAE_INLINE Vec<T> load(const T* p) {  // no alignment needed
  if constexpr (std::is_same_v<T, BFloat16>) {
    Halves h;
    std::memcpy(&h, p, sizeof h);
    return widen(h);
  } else {
    Vec<T> v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
}

template <class T>
NARAE_INLINE void store(T* p, Vec<T> v) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const Halves h = round_to_halves(v);
    std::memcpy(p, &h, sizeof h);
  } else {
    std::memcpy(p, &v, sizeof v);
  }
}

template <class T>
NARAE_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};  // x - 0 keeps the sign of zero, 0 + x does not
}

// Minus one in the first n lanes.
template <class T>
NARAE_INLINE Vec<Int<T>> first_lanes(std::int64_t n) {
  Vec<Int<T>> lane;
  NARAE_UNROLL
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
  return lane < static_cast<Int<T>>(n);
}

// The types that the compilers' builtins want.
#if defined(__AVX512F__)
typedef short Shorts __attribute__((vector_size(32)));
#if defined(__clang__)
typedef Shorts* ShortsPointer;
#else
typedef short* ShortsPointer;
#endif
#elif defined(__AVX2__)
typedef long long Quads __attribute__((vector_size(32)));
#endif

// The first n lanes from memory, 0 < n < kLanes; the others are `fill`. Masked moves are asked for
// by name: of the loop GCC makes branches, or a merge with what the stack held, where it finds
// these cheaper, and a softmax over ten columns took three times as long.
template <class T>
NARAE_INLINE Vec<T> load_partial(const T* p, std::int64_t n, Real<T> fill = Real<T>(0)) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 2) {
    const auto v = widen((Halves)__builtin_ia32_loaddquhi256_mask(
        (ShortsPointer)p, Shorts{}, static_cast<std::uint16_t>((1u << n) - 1)));
    return first_lanes<float>(n) ? v : broadcast(fill);
  } else if constexpr (sizeof(T) == 4) {
    return (Vec<T>)__builtin_ia32_loadups512_mask((const float*)p, (Vec<float>)broadcast(fill),
                                                  static_cast<std::uint16_t>((1u << n) - 1));
  } else if constexpr (sizeof(T) == 8) {
    return (Vec<T>)__builtin_ia32_loadupd512_mask((const double*)p, (Vec<double>)broadcast(fill),
                                                  static_cast<std::uint8_t>((1u << n) - 1));
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    const auto mask = first_lanes<std::int32_t>(n);
    const auto v = (Vec<T>)__builtin_ia32_maskloadps256((const Vec<float>*)p, mask);
    return mask ? v : broadcast(fill);
  } else if constexpr (sizeof(T) == 8) {
    const auto mask = first_lanes<std::int64_t>(n);
    const auto v = (Vec<T>)__builtin_ia32_maskloadpd256((const Vec<double>*)p, (Quads)(mask));
    return mask ? v : broadcast(fill);
  }
#endif
  const int count = static_cast<int>(n);
  Real<T> lanes[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) lanes[i] = i < count ? read(p + i) : fill;
  return load(lanes);
}

template <class T>
NARAE_INLINE void store_partial(T* p, Vec<T> v, std::int64_t n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 2) {
    __builtin_ia32_storedquhi256_mask((ShortsPointer)p, (Shorts)round_to_halves(v),
                                      static_cast<std::uint16_t>((1u << n) - 1));
    return;
  } else if constexpr (sizeof(T) == 4) {
    __builtin_ia32_storeups512_mask((float*)p, (Vec<float>)v,
                                    static_cast<std::uint16_t>((1u << n) - 1));
    return;
  } else if constexpr (sizeof(T) == 8) {
    __builtin_ia32_storeupd512_mask((double*)p, (Vec<double>)v,
                                    static_cast<std::uint8_t>((1u << n) - 1));
    return;
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    __builtin_ia32_maskstoreps256((Vec<float>*)p, first_lanes<std::int32_t>(n), (Vec<float>)v);
    return;
  } else if constexpr (sizeof(T) == 8) {
    __builtin_ia32_maskstorepd256((Vec<double>*)p, (Quads)(first_lanes<std::int64_t>(n)),
                                  (Vec<double>)v);
    return;
  }
#endif
  const int count = static_cast<int>(n);
  T lanes[kLanes<T>];
  store(lanes, v);
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < count) p[i] = lanes[i];
  }
}

NARAE_INLINE void stream_halves(BFloat16* p, Halves h) {
#if defined(__clang__)
  __builtin_nontemporal_store(h, reinterpret_cast<Halves*>(p));
#elif defined(__AVX512F__)
  typedef float Floats __attribute__((vector_size(32)));
  __builtin_ia32_movntps256(reinterpret_cast<float*>(p), (Floats)h);
#elif defined(__AVX__)
  typedef float Floats __attribute__((vector_size(16)));
  __builtin_ia32_movntps(reinterpret_cast<float*>(p), (Floats)h);
#else
  std::memcpy(p, &h, sizeof h);
#endif
}

// Stores past the caches to a kVecBytes-aligned p, without reading the line first: for outputs too
// large to stay in the cache. finish_streaming() puts the stores before any later one.
template <class T>
NARAE_INLINE void stream(T* p, Vec<T> v) {
  if constexpr (std::is_same_v<T, BFloat16>) return stream_halves(p, round_to_halves(v));
#if defined(__clang__)
  __builtin_nontemporal_store(v, reinterpret_cast<Vec<T>*>(p));
#elif defined(__AVX512F__)
  __builtin_ia32_movntps512(reinterpret_cast<float*>(p), (Vec<float>)v);
#elif defined(__AVX__)
  __builtin_ia32_movntps256(reinterpret_cast<float*>(p), (Vec<float>)v);
#elif defined(__SSE__)
  __builtin_ia32_movntps(reinterpret_cast<float*>(p), (Vec<float>)v);
#else
  store(p, v);
#endif
}
NARAE_INLINE void finish_streaming() {
#if defined(__SSE__)
  __builtin_ia32_sfence();
#endif
}

// Where more is written it is streamed, if rows start on a register's boundary. 2048 x 2048 floats
// (16 MB) are transposed at 47 GB/s instead of 31, of 49 for a copy.
inline constexpr std::int64_t kStreamBytes = std::int64_t{1} << 24;
template <class T>
inline bool may_stream(const T* p, std::int64_t size, std::int64_t row) {
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(T));
  const auto address = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p));
  return size * kBytes >= kStreamBytes && (address | row * kBytes) % kVecBytes == 0;
}

// As std::max(a, b) and NumPy's maximum for numbers; a NaN in either comes out. In a running
// maximum a is the result so far: b != b does not wait for it.
template <class T>
NARAE_INLINE Vec<T> max(Vec<T> a, Vec<T> b) {
  return ((b > a) | (b != b)) ? b : a;
}
template <class T>
NARAE_INLINE Vec<T> min(Vec<T> a, Vec<T> b) {
  return ((b < a) | (b != b)) ? b : a;
}

// Lanes are combined by halves of registers, always in the same order. combine(a, b) takes vectors
// of any width.
template <class T, int kWidth, class V, class Combine>
NARAE_INLINE T fold_halves(V v, Combine combine) {
  if constexpr (kWidth == 2) {
    return combine(v, V{v[1]})[0];  // as vectors: no branch that random data mispredicts
  } else {
    typedef T Half __attribute__((vector_size(sizeof(V) / 2)));
    Half halves[2];
    std::memcpy(halves, &v, sizeof v);
    return fold_halves<T, kWidth / 2>(Half(combine(halves[0], halves[1])), combine);
  }
}
template <class T>
NARAE_INLINE Real<T> sum(Vec<T> v) {
  return fold_halves<Real<T>, kLanes<T>>(v, [](auto a, auto b) { return a + b; });
}
template <class T>
NARAE_INLINE Real<T> min_lane(Vec<T> v) {
  return fold_halves<Real<T>, kLanes<T>>(
      v, [](auto a, auto b) { return ((b < a) | (b != b)) ? b : a; });
}

// body(offset, lanes) over [0, n): whole registers, then one call with lanes < kLanes for the rest.
template <class T, class Body>
NARAE_INLINE void for_lanes(std::int64_t n, const Body& body) {
  std::int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) body(i, std::int64_t{kLanes<T>});
  if (i < n) body(i, n - i);
}

template <class T>
NARAE_INLINE Vec<T> load_lanes(const T* p, std::int64_t lanes, Real<T> fill = Real<T>(0)) {
  return lanes == kLanes<T> ? load(p) : load_partial(p, lanes, fill);
}
template <class T>
NARAE_INLINE void store_lanes(T* p, Vec<T> v, std::int64_t lanes) {
  if (lanes == kLanes<T>) {
    store(p, v);
  } else {
    store_partial(p, v, lanes);
  }
}

// y[i] = value(i, lanes) for n elements. Streamed: y + n is on a register's boundary too.
template <class T, class Value>
NARAE_INLINE void write_lanes(T* y, std::int64_t n, bool streamed, const Value& value) {
  if (streamed) {
    for (std::int64_t i = 0; i < n; i += kLanes<T>)
      stream(y + i, value(i, std::int64_t{kLanes<T>}));
  } else {
    for_lanes<T>(
        n, [&](std::int64_t i, std::int64_t lanes) { store_lanes(y + i, value(i, lanes), lanes); });
  }
}

}  // namespace narae::NARAE_ISA
