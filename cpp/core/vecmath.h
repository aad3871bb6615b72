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
NARAE_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class T>
NARAE_INLINE Vec<T> abs(Vec<T> x) {
  return bit_cast<Vec<T>>(bit_cast<Vec<Int<T>>>(x) & ~(Int<T>(1) << (8 * sizeof(T) - 1)));
}

// n, the nearest integer, ties to even, for |x| <= 2^mantissa / 2: adding 1.5 * 2^mantissa leaves
// no fraction bits, and the sum's low bits are n.
template <class T>
struct Nearest {
  Vec<Int<T>> whole;
  Vec<T> n;

  NARAE_INLINE explicit Nearest(Vec<T> x) {
    constexpr T kMagic = T(3) * T(Int<T>(1) << (FloatBits<T>::kMantissa - 1));
    const Vec<T> sum = x + kMagic;
    whole = bit_cast<Vec<Int<T>>>(sum) - bit_cast<Int<T>>(kMagic);
    n = sum - kMagic;
  }
};

// 2^n for integers n with a normal result.
template <class T>
NARAE_INLINE Vec<T> exp2_int(Vec<Int<T>> n) {
  return bit_cast<Vec<T>>((n + FloatBits<T>::kBias) << FloatBits<T>::kMantissa);
}

// Horner's scheme. Estrin's, of half the latency, was no faster: these functions are bound by the
// number of multiplications, at two a cycle.
template <class T, class... C>
NARAE_INLINE Vec<T> horner(Vec<T> x, T highest, C... rest) {
  Vec<T> y = broadcast(highest);
  ((y = y * x + T(rest)), ...);
  return y;
}

// x as n ln 2 + r with n whole and |r| <= ln(2) / 2, for |x| < 2^mantissa / 4.
template <class T>
struct TimesLn2 : Nearest<T> {
  Vec<T> r;

  NARAE_INLINE explicit TimesLn2(Vec<T> x) : Nearest<T>(x * T(1.4426950408889634074)) {
    constexpr bool kFloat = sizeof(T) == 4;
    // ln 2 in two parts; the first has few enough bits for n * part to be exact
    r = (x - this->n * (kFloat ? T(0.693359375) : T(0.693147180369123816490))) -
        this->n * (kFloat ? T(-2.12194440054690583e-4) : T(1.90821492927058770002e-10));
  }
};

// (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, interpolated at Chebyshev nodes; off by less than
// 0.2 ulp of exp(r).
template <class T>
NARAE_INLINE Vec<T> exp_tail(Vec<T> r) {
  if constexpr (sizeof(T) == 4) {
    return horner<T>(r, T(0.0013926184), T(0.00836317893), T(0.0416665561), T(0.166665763), T(0.5));
  } else {
    return horner<T>(r, T(2.09146869680868758e-9), T(2.51052170047207447e-8),
                     T(2.75572736431102974e-7), T(2.75572554002064223e-6),
                     T(0.0000248015873255477427), T(0.000198412698748206266),
                     T(0.00138888888888837481), T(0.00833333333332613585), T(0.0416666666666666713),
                     T(0.166666666666666713), T(0.5));
  }
}

// exp(r) for |r| <= ln(2) / 2.
template <class T>
NARAE_INLINE Vec<T> exp_reduced(Vec<T> r) {
  return (exp_tail<T>(r) * r + T(1)) * r + T(1);
}

// y 2^n in two steps: 2^n alone may be subnormal or infinite where the product is not.
template <class T>
NARAE_INLINE Vec<T> times_exp2(Vec<T> y, Vec<Int<T>> n) {
  const Vec<Int<T>> half = n >> 1;
  return y * exp2_int<T>(half) * exp2_int<T>(n - half);
}

// exp(x) = 2^n exp(r). Overflows to inf, underflows through the subnormals to 0. Error <= 1.5 ulp.
template <class T>
NARAE_INLINE Vec<T> exp(Vec<T> x) {
  constexpr T kZero = sizeof(T) == 4 ? T(-104) : T(-746), kInf = sizeof(T) == 4 ? T(89) : T(710);
  const TimesLn2<T> a(x);
  const Vec<T> y = times_exp2<T>(exp_reduced<T>(a.r), a.whole);
  return x < kZero ? Vec<T>{} : x > kInf ? broadcast(T(__builtin_inf())) : y;
}

// exp(x) for x <= 88 (709 in float64), with 0 below x = -87.33 (-708.39), about where results cease
// to be normal numbers, as of padding and of masked logits: subnormal arithmetic takes the CPU ten
// times as long. Two thirds of the instructions of exp. Error <= 1.5 ulp.
template <class T>
NARAE_INLINE Vec<T> exp_normal(Vec<T> x) {
  constexpr T kSmallest = sizeof(T) == 4 ? T(-87.33) : T(-708.39);
  const TimesLn2<T> a(x);
  const Vec<T> y = exp_reduced<T>(a.r) * exp2_int<T>(a.whole);
  return x < kSmallest ? Vec<T>{} : y;
}

// 2^r for |r| <= 1/2. float32: (2^r - 1) / r is interpolated at Chebyshev nodes, off by less than
// 0.1 ulp.
template <class T>
NARAE_INLINE Vec<T> exp2_reduced(Vec<T> r) {
  if constexpr (sizeof(T) == 4) {
    return horner<T>(r, T(0.00015453163), T(0.0013390863), T(0.009618083), T(0.05550357),
                     T(0.2402265), T(0.6931472), T(1));
  } else {
    return exp_reduced<T>(r * T(0.69314718055994530942));
  }
}

// 2^x, as exp. Error <= 1.5 ulp.
template <class T>
NARAE_INLINE Vec<T> exp2(Vec<T> x) {
  constexpr T kZero = sizeof(T) == 4 ? T(-151) : T(-1076), kInf = sizeof(T) == 4 ? T(128) : T(1024);
  const Nearest<T> a(x);
  const Vec<T> y = times_exp2<T>(exp2_reduced<T>(x - a.n), a.whole);
  return x < kZero ? Vec<T>{} : x >= kInf ? broadcast(T(__builtin_inf())) : y;
}

// 2^x for x < 127.5 (1023.5 in float64), with 0 for results that are no normal numbers. It
// takes 8.5 cycles a register, exp_normal 11.9 (AVX-512, Zen 4): a kernel that scales what it takes
// exponentials of puts log2(e) into the factor. Error <= 1.5 ulp.
template <class T>
NARAE_INLINE Vec<T> exp2_normal(Vec<T> x) {
  constexpr T kSmallest = sizeof(T) == 4 ? T(-126) : T(-1022);
  const Nearest<T> a(x);
  const Vec<T> y = exp2_reduced<T>(x - a.n) * exp2_int<T>(a.whole);
  return x < kSmallest ? Vec<T>{} : y;
}

template <class T>
NARAE_INLINE Vec<T> sqrt(Vec<T> x) {
  NARAE_UNROLL
  for (int i = 0; i < kLanes<T>; ++i) {
    if constexpr (sizeof(T) == 4) {
      x[i] = __builtin_sqrtf(x[i]);
    } else {
      x[i] = __builtin_sqrt(x[i]);
    }
  }
  return x;
}

// x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)), for 0 < x < infinity.
template <class T>
struct BinaryLog {
  Vec<Int<T>> exponent;
  Vec<T> f;

  NARAE_INLINE explicit BinaryLog(Vec<T> x) {
    constexpr bool kFloat = sizeof(T) == 4;
    constexpr int kMantissa = FloatBits<T>::kMantissa;
    constexpr T kSmallest = kFloat ? T(0x1p-126) : T(0x1p-1022);
    using I = Vec<Int<T>>;
    const I subnormal = x < kSmallest;
    const Vec<T> normal = subnormal ? x * (kFloat ? T(0x1p25) : T(0x1p54)) : x;
    // Biased so that the mantissa's range starts at sqrt(1/2).
    constexpr Int<T> kRoot = kFloat ? Int<T>(0x3f3504f3) : Int<T>(0x3fe6a09e667f3bcd);
    const I bits = bit_cast<I>(normal) - kRoot;
    exponent = (bits >> kMantissa) + (subnormal & (kFloat ? Int<T>(-25) : Int<T>(-54)));
    f = bit_cast<Vec<T>>((bits & ((Int<T>(1) << kMantissa) - 1)) + kRoot) - T(1);
  }
};

// log(x) = e ln 2 + log(1 + f). With s = f / (2 + f):
//   log(1 + f) = 2 atanh(s) = 2 s + s R = f - s (f - R),  R = 2 (s^2/3 + s^4/5 + ...)
// R / s^2 is interpolated at Chebyshev nodes. Error <= 2 ulp.
template <class T>
NARAE_INLINE Vec<T> log(Vec<T> x) {
  constexpr bool kFloat = sizeof(T) == 4;
  const BinaryLog<T> parts(x);
  const Vec<T> f = parts.f, e = __builtin_convertvector(parts.exponent, Vec<T>);
  const Vec<T> s = f / (T(2) + f), z = s * s;
  Vec<T> R;
  if constexpr (kFloat) {
    R = z * horner<T>(z, T(0.295799494), T(0.3998878), T(0.666666865));
  } else {
    R = z * horner<T>(z, T(0.146164496850434061), T(0.153317216005560419), T(0.181828891252617225),
                      T(0.222222111347950807), T(0.285714286259754868), T(0.399999999998995048),
                      T(0.666666666666666963));
  }
  const Vec<T> high = e * (kFloat ? T(0.693359375) : T(0.693147180369123816490));
  const Vec<T> low = e * (kFloat ? T(-2.12194440054690583e-4) : T(1.90821492927058770002e-10));
  Vec<T> y = high + (f - (s * (f - R) - low));
  constexpr T kInfinity = T(__builtin_inf());
  y = x == kInfinity ? x : y;
  y = x == 0 ? broadcast(-kInfinity) : y;
  return ((x < 0) | (x != x)) ? broadcast(T(__builtin_nan(""))) : y;
}

// log(1 + x): the rounding error c of u = 1 + x is made good by log(u + c) = log(u) + c / u.
// Error <= 3 ulp.
template <class T>
NARAE_INLINE Vec<T> log1p(Vec<T> x) {
  const Vec<T> u = T(1) + x;
  const Vec<T> y = log<T>(u) + (x - (u - T(1))) / u;
  const auto plain = (u == 0) | (u == T(__builtin_inf()));  // the quotient is no number there
  return u == T(1) ? x : plain ? log<T>(u) : y;
}

// log(1 + e) = 2 atanh(s) = 2 s + s^3 R(s^2), s = e / (2 + e), for 0 <= e <= 1. R interpolates at
// Chebyshev nodes. Error <= 2 ulp.
template <class T>
NARAE_INLINE Vec<T> log1p_unit(Vec<T> e) {
  const Vec<T> s = e / (T(2) + e), z = s * s;
  Vec<T> R;
  if constexpr (sizeof(T) == 4) {
    R = horner<T>(z, T(0.232243299), T(0.217065752), T(0.28592357), T(0.399997056), T(0.666666687));
  } else {
    R = horner<T>(z, T(0.156305778009228513), T(0.0749214379555076665), T(0.108451783948800146),
                  T(0.117342790613031975), T(0.133351786314492571), T(0.153845439648605503),
                  T(0.181818198979627144), T(0.222222221982367713), T(0.285714285716000993),
                  T(0.399999999999995248), T(0.66666666666666663));
  }
  return T(2) * s + s * z * R;
}

// exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), with r as in exp. Error <= 2 ulp.
template <class T>
NARAE_INLINE Vec<T> expm1(Vec<T> x) {
  constexpr bool kFloat = sizeof(T) == 4;
  const T low = kFloat ? T(-30) : T(-60), high = kFloat ? T(89) : T(710);
  const Vec<T> given = x;
  x = x < low ? broadcast(low) : x;
  x = x > high ? broadcast(high) : x;
  const TimesLn2<T> a(x);
  const Vec<T> p = exp_tail<T>(a.r) * (a.r * a.r) + a.r;
  // Half of 2^n, which is finite where 2^n overflows.
  const Vec<T> half = exp2_int<T>(a.whole - 1);
  const Vec<T> y = (half * p + (half - T(0.5))) * T(2);
  return given == 0 ? given : a.n == 0 ? p : y;
}

// tanh(x) = t / (t + 2), t = exp(2 |x|) - 1 as in expm1, with the sign of x. Error <= 4 ulp.
template <class T>
NARAE_INLINE Vec<T> tanh(Vec<T> x) {
  constexpr T kOne = sizeof(T) == 4 ? T(10) : T(20);  // tanh rounds to 1 from here on
  const Vec<T> a = abs<T>(x);
  const TimesLn2<T> b(T(2) * a);
  const Vec<T> p = exp_tail<T>(b.r) * (b.r * b.r) + b.r, s = exp2_int<T>(b.whole);
  const Vec<T> t = s * p + (s - T(1)), y = a > kOne ? broadcast(T(1)) : t / (t + T(2));
  const auto sign = bit_cast<Vec<Int<T>>>(x) ^ bit_cast<Vec<Int<T>>>(a);
  return bit_cast<Vec<T>>(bit_cast<Vec<Int<T>>>(y) | sign);
}

// 1 / (1 + exp(-x)); results below the smallest normal number may be 0. Error <= 3 ulp.
template <class T>
NARAE_INLINE Vec<T> sigmoid(Vec<T> x) {
  constexpr T kZero = sizeof(T) == 4 ? T(-88) : T(-709);  // exp(-x) overflows further on
  const Vec<T> y = T(1) / (T(1) + exp_normal<T>(-x));
  return x < kZero ? Vec<T>{} : y;
}

// log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)). Error <= 4 ulp.
template <class T>
NARAE_INLINE Vec<T> softplus(Vec<T> x) {
  return (x < 0 ? Vec<T>{} : x) + log1p_unit<T>(exp<T>(-abs<T>(x)));
}

// erf(x): x P(x^2) for |x| <= 1, else 1 - exp(-x^2 - Q(|x|)), Q(x) = -log(erfc(x)) - x^2 to the end
// of [1, 4] (float32) or [1, 6] (float64), where erf rounds to 1. P and Q interpolate at Chebyshev
// nodes. Error <= 3 ulp.
template <class T>
NARAE_INLINE Vec<T> erf(Vec<T> x) {
  constexpr bool kFloat = sizeof(T) == 4;
  const T one = kFloat ? T(4) : T(6);
  const Vec<T> a = abs<T>(x);
  const Vec<T> z = a < T(1) ? x * x : broadcast(T(1));
  const Vec<T> c = a < T(1) ? broadcast(T(1)) : a > one ? broadcast(one) : a;
  const Vec<T> t = (c * T(2) - (one + 1)) * (T(1) / (one - 1));  // [1, one] to [-1, 1]
  Vec<T> P, Q;
  if constexpr (kFloat) {
    P = horner<T>(z, T(7.8758750627e-5), T(-0.00080168642872), T(0.0051890874234),
                  T(-0.026854212011), T(0.11283594715), T(-0.37612626667), T(1.1283791658));
    Q = horner<T>(t, T(-4.19584001e-5), T(0.000227499504), T(-0.000880397082), T(0.00319030541),
                  T(-0.0109618492), T(0.036647578), T(-0.126239167), T(0.529021011), T(1.55681527));
  } else {
    P = horner<T>(
        z, T(-4.2309458242953378173e-12), T(8.7090451290531066896e-11),
        T(-1.2164560057283450081e-9), T(1.4792401209404813002e-8), T(-1.6364642158167615302e-7),
        T(1.6462045441468418937e-6), T(-0.000014925647567519332125), T(0.0001205533290288873541),
        T(-0.00085483270219348295955), T(0.0052239776254232983087), T(-0.026866170645129840806),
        T(0.11283791670955120236), T(-0.37612638903183752379), T(1.1283791670955125739));
    Q = horner<T>(t, T(-2.247276352107439e-09), T(7.240824974515327e-09), T(-4.521416204583651e-09),
                  T(-4.710840527099266e-09), T(2.1580142736303587e-09), T(-1.8848830089033838e-08),
                  T(1.2999681259733388e-07), T(-3.918923288527924e-07), T(9.165507592535276e-07),
                  T(-1.91269798607734e-06), T(3.4204246659666945e-06), T(-4.56839762190763e-06),
                  T(1.4780737118311842e-06), T(1.847528986000811e-05), T(-9.090101551597176e-05),
                  T(0.00030781940159072446), T(-0.0008935765716880319), T(0.0023739973006794987),
                  T(-0.005953704477141584), T(0.014384548328888422), T(-0.03412841107971968),
                  T(0.0816509097178572), T(-0.20779340786106157), T(0.6652489709129766),
                  T(1.8624374021481738));
  }
  const Vec<T> y = T(1) - exp_normal<T>(-(c * c + Q));
  const auto sign = bit_cast<Vec<Int<T>>>(x) ^ bit_cast<Vec<Int<T>>>(a);
  return a < T(1) ? x * P : x != x ? x : bit_cast<Vec<T>>(bit_cast<Vec<Int<T>>>(y) | sign);
}

// The normal distribution, Phi(x) = (1 + erf(x / sqrt 2)) / 2, and its slope phi(x). float32:
// Phi(-a) = exp(-a^2 / 2) P(a) / Q(a), a minimax quotient over [0, 14]: the tail is no difference
// of large numbers. Error of Phi <= 4 ulp for x >= -1, and 4 + x^2 / 2 ulp below (a rounded a^2 in
// exp).
template <class T>
struct Normal {
  Vec<T> Phi, phi;

  NARAE_INLINE explicit Normal(Vec<T> x) {
    constexpr T kScale = T(0.39894228040143267794);  // 1 / sqrt(2 pi)
    if constexpr (sizeof(T) == 4) {
      const Vec<T> a = abs<T>(x);
      const Vec<T> e = exp_normal<T>(T(-0.5) * a * a);
      const Vec<T> P = horner<T>(a, T(0.004077585083), T(0.04037241632), T(0.1824614715),
                                 T(0.4372505031), T(0.5));
      const Vec<T> Q = horner<T>(a, T(0.01022086131), T(0.1012054501), T(0.4674281393),
                                 T(1.199289363), T(1.672385962), T(1));
      const Vec<T> tail = a > T(14) ? Vec<T>{} : e * P / Q;
      Phi = x < 0 ? tail : T(1) - tail;
      phi = e * kScale;
    } else {
      Phi = T(0.5) + T(0.5) * erf<T>(x * T(0.70710678118654752440));
      phi = exp<T>(T(-0.5) * x * x) * kScale;
    }
  }
};

// f of each half of float registers, widened to float64. Halves are taken of the wide vector: those
// of a float register would be moved through memory.
template <class F, class... V>
NARAE_INLINE Vec<float> in_doubles(const F& f, V... x) {
  typedef double Wide __attribute__((vector_size(2 * kVecBytes)));
  const auto half = [](int h, Vec<float> v) {
    const Wide wide = __builtin_convertvector(v, Wide);
    Vec<double> halves[2];
    std::memcpy(halves, &wide, sizeof wide);
    return halves[h];
  };
  const Vec<double> y[2] = {f(half(0, x)...), f(half(1, x)...)};
  Wide wide;
  std::memcpy(&wide, y, sizeof wide);
  return __builtin_convertvector(wide, Vec<float>);
}

// x as n pi / 2 + r, |r| <= pi / 4, with pi / 2 in parts; the products with the first are exact for
// n < 2^20.
struct TimesHalfPi {
  Vec<double> n, r;

  NARAE_INLINE explicit TimesHalfPi(Vec<double> x)
      : n(Nearest<double>(x * 0.63661977236758134308).n) {
    r = ((x - n * 0x1.921fb54400000p+0) - n * 0x1.0b4611a600000p-34) - n * 0x1.3198a2e037073p-69;
  }
};

// r + r^3 S(r^2) and 1 - r^2 / 2 + r^4 C(r^2) for |r| <= pi / 4; S and C of float32 interpolate at
// Chebyshev nodes.
template <class T>
struct SineCosine {
  Vec<T> s, c;

  NARAE_INLINE explicit SineCosine(Vec<T> r) {
    const Vec<T> z = r * r;
    if constexpr (sizeof(T) == 4) {
      s = horner<T>(z, T(-0.0001958789954), T(0.008332748402), T(-0.1666666466));
      c = horner<T>(z, T(2.454794087e-05), T(-0.001388830311), T(0.04166666466), T(-0.5), T(1));
    } else {
      s = horner<T>(z, -1.0 / 121645100408832000, 1.0 / 355687428096000, -1.0 / 1307674368000,
                    1.0 / 6227020800, -1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120,
                    -1.0 / 6);
      c = horner<T>(z, -1.0 / 6402373705728000, 1.0 / 20922789888000, -1.0 / 87178291200,
                    1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24, -0.5, 1.0);
    }
    s = r + r * z * s;
  }
};

// sin(x + quarters * pi / 2): sin, and cos with quarters = 1. The reduction, always in float64,
// holds to |x| < 2^20; lanes beyond ask libm. Error <= 2 ulp.
template <class T>
NARAE_INLINE Vec<T> sine(Vec<T> x, Int<T> quarters) {
  Vec<T> n, r;
  if constexpr (sizeof(T) == 4) {
    n = in_doubles([](auto wide) { return TimesHalfPi(wide).n; }, x);
    r = in_doubles([](auto wide) { return TimesHalfPi(wide).r; }, x);
  } else {
    const TimesHalfPi a(x);
    n = a.n, r = a.r;
  }
  const SineCosine<T> of(r);
  const auto quadrant = __builtin_convertvector(n, Vec<Int<T>>) + quarters;
  Vec<T> y = (quadrant & 1) != 0 ? of.c : of.s;
  y = (quadrant & 2) != 0 ? -y : y;
  constexpr T kLimit = T(1 << 20);
  const auto far = ~(abs<T>(x) < kLimit);
  if (fold_halves<Int<T>, kLanes<T>>(far, [](auto a, auto b) { return a | b; })) {
    for (int i = 0; i < kLanes<T>; ++i) {
      if (far[i]) y[i] = T(quarters ? __builtin_cos(x[i]) : __builtin_sin(x[i]));
    }
  }
  return quarters ? y : x == 0 ? x : y;  // the sign of zero
}
template <class T>
NARAE_INLINE Vec<T> sin(Vec<T> x) {
  return sine<T>(x, 0);
}
template <class T>
NARAE_INLINE Vec<T> cos(Vec<T> x) {
  return sine<T>(x, 1);
}

// 2^(n + r) = (2^e (1 + f))^y, n whole, |r| <= 1/2, in float64: log2(1 + f) = s L(s^2), s = f / (2
// + f), where L interpolates at Chebyshev nodes, off by 2^-37. Beyond +-200 float32 is 0 or
// infinite.
struct TimesLog2 {
  Vec<double> n, r;

  NARAE_INLINE TimesLog2(Vec<double> e, Vec<double> f, Vec<double> y) {
    const Vec<double> s = f / (f + 2.0);
    Vec<double> t =
        y * (e + s * horner<double>(s * s, 0.3407252123222729, 0.411672991584654,
                                    0.5770835802383921, 0.9617966733679064, 2.8853900817900646));
    t = t < -200 ? broadcast(-200.0) : t > 200 ? broadcast(200.0) : t;  // NaN stays
    n = Nearest<double>(t).n;
    r = t - n;
  }
};

// x^y of float32 with the special values of C's pow. Error <= 1.5 ulp.
NARAE_INLINE Vec<float> power(Vec<float> x, Vec<float> y) {
  using I = Vec<std::int32_t>;
  constexpr float kInf = __builtin_inff(), kEven = 0x1p24f;  // from here on all floats are even
  const Vec<float> a = abs<float>(x);
  const BinaryLog<float> parts(a);
  Vec<float> e = __builtin_convertvector(parts.exponent, Vec<float>);
  e = a == 0 ? broadcast(-kInf) : a < kInf ? e : a;
  const auto n_of = [](auto... v) { return TimesLog2(v...).n; };
  const auto r_of = [](auto... v) { return TimesLog2(v...).r; };
  const Vec<float> fraction = in_doubles(r_of, e, parts.f, y);
  const I n = __builtin_convertvector(in_doubles(n_of, e, parts.f, y), I);
  Vec<float> p = times_exp2<float>(exp2_reduced<float>(fraction), n);
  // Powers of negative numbers: of the sign that y gives, or none.
  const Vec<float> b = abs<float>(y), capped = b < kEven ? b : broadcast(kEven);
  const I floor = __builtin_convertvector(capped, I);
  const I whole = (__builtin_convertvector(floor, Vec<float>) == capped) & (y == y);
  const I odd = whole & ((floor & 1) != 0);
  p = (bit_cast<I>(x) < 0) & odd ? -p : p;
  p = (x < 0) & (a < kInf) & ~whole ? broadcast(__builtin_nanf("")) : p;
  return (y == 0) | (x == 1) | ((a == 1) & (b == kInf)) ? broadcast(1.0f) : p;
}

}  // namespace narae::NARAE_ISA
