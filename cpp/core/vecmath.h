// exp, tanh, sigmoid ... of a Vec<T>: range reduction and a polynomial, the same steps for every
// instruction set. Maximum errors are stated with each function and tested in
// tests/test_vecmath.py.
#pragma once

#include "core/vec.h"

namespace narae::NARAE_ISA {

template <class T>
struct FloatBits;
template <>
struct FloatBits<float> {
  static constexpr int kMantissa = 23, kBias = 127;
};
template <>
struct FloatBits<double> {
  static constexpr int kMantissa = 52, kBias = 1023;
};

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class T>
inline Vec<T> abs(Vec<T> x) {
  return bit_cast<Vec<T>>(bit_cast<Vec<Int<T>>>(x) & ~(Int<T>(1) << (8 * sizeof(T) - 1)));
}

// To the nearest integer, ties to even, for |x| < 2^mantissa: adding 1.5 * 2^mantissa leaves no
// fraction bits.
template <class T>
inline Vec<T> round_small(Vec<T> x) {
  constexpr T kMagic = T(3) * T(Int<T>(1) << (FloatBits<T>::kMantissa - 1));
  return (x + kMagic) - kMagic;
}

// 2^n for integers n with a normal result.
template <class T>
inline Vec<T> exp2_int(Vec<Int<T>> n) {
  return bit_cast<Vec<T>>((n + FloatBits<T>::kBias) << FloatBits<T>::kMantissa);
}

template <class T, class... C>
inline Vec<T> horner(Vec<T> x, T highest, C... rest) {
  Vec<T> y = broadcast(highest);
  ((y = y * x + T(rest)), ...);
  return y;
}

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2) / 2. Overflows to inf, underflows through
// the subnormals to 0. Error <= 1 ulp (float32: Taylor polynomial of degree 7; float64: of degree
// 13).
template <class T>
inline Vec<T> exp(Vec<T> x) {
  constexpr bool kFloat = sizeof(T) == 4;
  const T low = kFloat ? T(-104) : T(-746), high = kFloat ? T(89) : T(710);
  x = x < low ? broadcast(low) : x;
  x = x > high ? broadcast(high) : x;
  const Vec<T> n = round_small<T>(x * T(1.4426950408889634074));
  // ln 2 in two parts; the first has few enough bits for n * part to be exact
  const Vec<T> r = (x - n * (kFloat ? T(0.693359375) : T(0.693147180369123816490))) -
                   n * (kFloat ? T(-2.12194440054690583e-4) : T(1.90821492927058770002e-10));
  Vec<T> y;
  if constexpr (kFloat) {
    y = horner<T>(r, T(1) / 5040, T(1) / 720, T(1) / 120, T(1) / 24, T(1) / 6, T(0.5), T(1), T(1));
  } else {
    y = horner<T>(r, T(1) / 6227020800, T(1) / 479001600, T(1) / 39916800, T(1) / 3628800,
                  T(1) / 362880, T(1) / 40320, T(1) / 5040, T(1) / 720, T(1) / 120, T(1) / 24,
                  T(1) / 6, T(0.5), T(1), T(1));
  }
  // In two steps: 2^n alone may be subnormal or infinite where the product is not.
  const Vec<Int<T>> whole = __builtin_convertvector(n, Vec<Int<T>>), half = whole >> 1;
  return y * exp2_int<T>(half) * exp2_int<T>(whole - half);
}

}  // namespace narae::NARAE_ISA
