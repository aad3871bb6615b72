#include "kernels/unary.h"

#include <type_traits>

#include "core/isa.h"
#include "core/vecmath.h"
#include "kernels/elementwise_rows.h"

namespace narae {
namespace NARAE_ISA {
namespace {

template <class T>
constexpr bool kIsFloat = std::is_floating_point_v<Real<T>>;

// ---- vectorized -------------------------------------------------------------------------------
struct Exp {
  template <class T>
  static Vec<T> all(Vec<T> x) {
    return exp<T>(x);
  }
};
struct Exp2 {
  template <class T>
  static Vec<T> all(Vec<T> x) {
    return exp2<T>(x);
  }
};
struct Expm1 {
  template <class T>
  static Vec<T> all(Vec<T> x) {
    return expm1<T>(x);
  }
};
struct Log {
  template <class T>
  static Vec<T> all(Vec<T> x) {
    return log<T>(x);
  }
};
struct Log1p {
  template <class T>
  static Vec<T> all(Vec<T> x) {
    return log1p<T>(x);
  }
};
struct Log2 {
  template <class T>
  static Vec<T> all(Vec<T> x) {
    return log<T>(x) * T(1.4426950408889634074);
  }
};
struct Log10 {
  template <class T>
  static Vec<T> all(Vec<T> x) {
    return log<T>(x) * T(0.43429448190325182765);
  }
};
struct Sin {
  template <class T>
  static Vec<T> all(Vec<T> x) {
    return sin<T>(x);
  }
};
struct Cos {
  template <class T>
  static Vec<T> all(Vec<T> x) {
    return cos<T>(x);
  }
};
struct Erf {
  template <class T>
  static Vec<T> all(Vec<T> x) {
    return erf<T>(x);
  }
};

template <class F, class T>
void vector_row(const T* x, T* y, std::int64_t n) {
  for_lanes<T>(n, [&](std::int64_t i, std::int64_t lanes) {
    store_lanes<T>(y + i, F::template all<Real<T>>(load_lanes(x + i, lanes, Real<T>(1))), lanes);
  });
}

// ---- one element at a time; the compiler vectorizes those without a call ------------------------
struct Abs {
  template <class T>
  static T one(T x) {
    if constexpr (kIsFloat<T>) {
      return __builtin_copysign(x, T(1));
    } else if constexpr (std::is_unsigned_v<T>) {
      return x;
    } else {
      return x < 0 ? static_cast<T>(std::make_unsigned_t<T>(0) - std::make_unsigned_t<T>(x)) : x;
    }
  }
};
struct Negative {
  template <class T>
  static T one(T x) {
    if constexpr (kIsFloat<T>) return -x;
    if constexpr (!kIsFloat<T>) {
      return static_cast<T>(std::make_unsigned_t<T>(0) - std::make_unsigned_t<T>(x));
    }
  }
};
struct Sign {
  template <class T>
  static T one(T x) {
    return x > 0 ? T(1) : x < 0 ? T(-1) : x == 0 ? T(0) : x;
  }
};
struct Square {
  template <class T>
  static T one(T x) {
    if constexpr (kIsFloat<T>) return x * x;
    if constexpr (!kIsFloat<T>) {
      using U = std::make_unsigned_t<std::conditional_t<sizeof(T) < 4, std::int32_t, T>>;
      return static_cast<T>(U(x) * U(x));
    }
  }
};
struct BitNot {
  template <class T>
  static T one(T x) {
    return static_cast<T>(~x);
  }
};
struct Reciprocal {
  template <class T>
  static T one(T x) {
    return T(1) / x;
  }
};
struct Sqrt {
  static float one(float x) { return __builtin_sqrtf(x); }
  static double one(double x) { return __builtin_sqrt(x); }
};
struct Rsqrt {
  static float one(float x) { return 1 / __builtin_sqrtf(x); }
  static double one(double x) { return 1 / __builtin_sqrt(x); }
};
struct Floor {
  static float one(float x) { return __builtin_floorf(x); }
  static double one(double x) { return __builtin_floor(x); }
};
struct Ceil {
  static float one(float x) { return __builtin_ceilf(x); }
  static double one(double x) { return __builtin_ceil(x); }
};
struct Trunc {
  static float one(float x) { return __builtin_truncf(x); }
  static double one(double x) { return __builtin_trunc(x); }
};
struct Round {  // halves go to the even neighbour
  static float one(float x) { return __builtin_rintf(x); }
  static double one(double x) { return __builtin_rint(x); }
};
struct Tan {
  static float one(float x) { return __builtin_tanf(x); }
  static double one(double x) { return __builtin_tan(x); }
};
struct Sinh {
  static float one(float x) { return __builtin_sinhf(x); }
  static double one(double x) { return __builtin_sinh(x); }
};
struct Cosh {
  static float one(float x) { return __builtin_coshf(x); }
  static double one(double x) { return __builtin_cosh(x); }
};
struct Arcsin {
  static float one(float x) { return __builtin_asinf(x); }
  static double one(double x) { return __builtin_asin(x); }
};
struct Arccos {
  static float one(float x) { return __builtin_acosf(x); }
  static double one(double x) { return __builtin_acos(x); }
};
struct Arctan {
  static float one(float x) { return __builtin_atanf(x); }
  static double one(double x) { return __builtin_atan(x); }
};
struct Arcsinh {
  static float one(float x) { return __builtin_asinhf(x); }
  static double one(double x) { return __builtin_asinh(x); }
};
struct Arccosh {
  static float one(float x) { return __builtin_acoshf(x); }
  static double one(double x) { return __builtin_acosh(x); }
};
struct Arctanh {
  static float one(float x) { return __builtin_atanhf(x); }
  static double one(double x) { return __builtin_atanh(x); }
};
struct Cbrt {
  static float one(float x) { return __builtin_cbrtf(x); }
  static double one(double x) { return __builtin_cbrt(x); }
};
struct Erfc {
  static float one(float x) { return __builtin_erfcf(x); }
  static double one(double x) { return __builtin_erfc(x); }
};

// Winitzki's approximation (relative error 2e-3), then two steps of Halley's method in float64, on
// erfc so that nothing cancels near one.
struct Erfinv {
  static double one(double x) {
    const double a = __builtin_fabs(x), rest = 1 - a;
    if (!(a < 1)) return a == 1 ? x * __builtin_inf() : __builtin_nan("");
    if (a < 1e-8) return x * 0.88622692545275801365;  // sqrt(pi) / 2
    const double l = __builtin_log(rest * (1 + a)), h = 4.330746750799873 + l / 2;
    double y = __builtin_sqrt(__builtin_sqrt(h * h - l / 0.147) - h);
    for (int step = 0; step < 2; ++step) {
      const double error = a < 0.5 ? __builtin_erf(y) - a : rest - __builtin_erfc(y);
      const double newton = error * 0.88622692545275801365 * __builtin_exp(y * y);
      y -= newton / (1 + y * newton);
    }
    return __builtin_copysign(y, x);
  }
  static float one(float x) { return static_cast<float>(one(static_cast<double>(x))); }
};

struct IsNan {
  template <class T>
  static bool one(T x) {
    return x != x;
  }
};
struct IsInf {
  template <class T>
  static bool one(T x) {
    return x == T(__builtin_inf()) || x == -T(__builtin_inf());
  }
};
struct IsFinite {
  template <class T>
  static bool one(T x) {
    return x - x == 0;
  }
};
struct Not {
  template <class T>
  static bool one(T x) {
    return x == 0;
  }
};

template <class F, class T, class R>
void scalar_row(const T* x, R* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) write(y + i, F::one(read(x + i)));
}

template <class T, class R>
void run_rows(UnaryRow<T, R> row, const T* x, R* y, std::int64_t n) {
  parallel_ranges(n, kElementGrain, [=](std::int64_t begin, std::int64_t end) {
    row(x + begin, y + begin, end - begin);
  });
}

// ---- cast, copy, fill -------------------------------------------------------------------------
// A float that does not fit (NaN too) becomes the smallest integer, as on x86 and in NumPy there.
template <class R, class T>
R convert(T x) {
  if constexpr (std::is_same_v<R, bool>) {
    return x != 0;
  } else if constexpr (kIsFloat<T> && !kIsFloat<R>) {
    using Wide = std::conditional_t<sizeof(R) < 4, std::int32_t, R>;
    constexpr T kEnd = sizeof(Wide) == 4 ? T(0x1p31) : T(0x1p63);
    constexpr Wide kLowest = sizeof(Wide) == 4 ? Wide(INT32_MIN) : Wide(INT64_MIN);
    return static_cast<R>(x < kEnd && x >= -kEnd ? static_cast<Wide>(x) : kLowest);
  } else {
    return static_cast<R>(x);
  }
}

template <class T, class R>
void cast(const T* x, void* y, std::int64_t n) {
  R* out = static_cast<R*>(y);
  parallel_ranges(n, kElementGrain, [=](std::int64_t begin, std::int64_t end) {
    if constexpr (sizeof(Real<T>) == sizeof(Real<R>) && kIsFloat<T> && kIsFloat<R>) {
      for_lanes<R>(end - begin, [=](std::int64_t i, std::int64_t lanes) {
        store_lanes<R>(out + begin + i, load_lanes(x + begin + i, lanes), lanes);
      });
    } else {
      for (std::int64_t i = begin; i < end; ++i) write(out + i, convert<Real<R>>(read(x + i)));
    }
  });
}

template <class T>
void copy(const T* x, T* y, std::int64_t n) {
  if (x == y) return;
  parallel_ranges(n, 2 * kElementGrain, [=](std::int64_t begin, std::int64_t end) {
    std::memmove(y + begin, x + begin, static_cast<std::size_t>(end - begin) * sizeof(T));
  });
}

template <class T>
void fill(Real<T> value, T* y, std::int64_t n) {
  T element;
  write(&element, value);
  parallel_ranges(n, 2 * kElementGrain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = element;
  });
}

template <class T>
void add_into(const T* x, T* y, std::int64_t n) {
  parallel_ranges(n, kElementGrain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) write(y + i, read(y + i) + read(x + i));
  });
}

// ---- tables -----------------------------------------------------------------------------------
template <class T>
constexpr Named<UnaryRow<T, T>> kMap[] = {
    {"exp", vector_row<Exp, T>},
    {"exp2", vector_row<Exp2, T>},
    {"expm1", vector_row<Expm1, T>},
    {"log", vector_row<Log, T>},
    {"log1p", vector_row<Log1p, T>},
    {"log2", vector_row<Log2, T>},
    {"log10", vector_row<Log10, T>},
    {"sin", vector_row<Sin, T>},
    {"cos", vector_row<Cos, T>},
    {"erf", vector_row<Erf, T>},
    {"abs", scalar_row<Abs, T, T>},
    {"negative", scalar_row<Negative, T, T>},
    {"sign", scalar_row<Sign, T, T>},
    {"square", scalar_row<Square, T, T>},
    {"sqrt", scalar_row<Sqrt, T, T>},
    {"rsqrt", scalar_row<Rsqrt, T, T>},
    {"reciprocal", scalar_row<Reciprocal, T, T>},
    {"floor", scalar_row<Floor, T, T>},
    {"ceil", scalar_row<Ceil, T, T>},
    {"trunc", scalar_row<Trunc, T, T>},
    {"round", scalar_row<Round, T, T>},
    {"tan", scalar_row<Tan, T, T>},
    {"sinh", scalar_row<Sinh, T, T>},
    {"cosh", scalar_row<Cosh, T, T>},
    {"arcsin", scalar_row<Arcsin, T, T>},
    {"arccos", scalar_row<Arccos, T, T>},
    {"arctan", scalar_row<Arctan, T, T>},
    {"arcsinh", scalar_row<Arcsinh, T, T>},
    {"arccosh", scalar_row<Arccosh, T, T>},
    {"arctanh", scalar_row<Arctanh, T, T>},
    {"cbrt", scalar_row<Cbrt, T, T>},
    {"erfc", scalar_row<Erfc, T, T>},
    {"erfinv", scalar_row<Erfinv, T, T>},
};
template <class T>
constexpr Named<UnaryRow<T, T>> kIntegerMap[] = {
    {"abs", scalar_row<Abs, T, T>},
    {"negative", scalar_row<Negative, T, T>},
    {"sign", scalar_row<Sign, T, T>},
    {"square", scalar_row<Square, T, T>},
    {"bitwise_not", scalar_row<BitNot, T, T>},
};
template <class T>
constexpr Named<UnaryRow<T, bool>> kTest[] = {
    {"isnan", scalar_row<IsNan, T, bool>},
    {"isinf", scalar_row<IsInf, T, bool>},
    {"isfinite", scalar_row<IsFinite, T, bool>},
    {"logical_not", scalar_row<Not, T, bool>},
};
template <class T>
constexpr Named<UnaryRow<T, bool>> kIntegerTest[] = {{"logical_not", scalar_row<Not, T, bool>}};

template <class T>
constexpr Unary<T> table() {
  Unary<T> t = {};
  if constexpr (kIsFloat<T>) {
    t.map = list(kMap<T>);
    t.test = list(kTest<T>);
  } else {
    if constexpr (!std::is_same_v<T, bool>) t.map = list(kIntegerMap<T>);
    t.test = list(kIntegerTest<T>);
  }
  t.run_map = run_rows<T, T>;
  t.run_test = run_rows<T, bool>;
  t.cast[kBool] = cast<T, bool>;
  t.cast[kUint8] = cast<T, std::uint8_t>;
  t.cast[kInt32] = cast<T, std::int32_t>;
  t.cast[kInt64] = cast<T, std::int64_t>;
  t.cast[kBFloat16] = cast<T, BFloat16>;
  t.cast[kFloat32] = cast<T, float>;
  t.cast[kFloat64] = cast<T, double>;
  t.copy = copy<T>;
  t.fill = fill<T>;
  if constexpr (kIsFloat<T>) t.add_into = add_into<T>;
  return t;
}

template <class T>
constexpr Unary<T> kTable = table<T>();

}  // namespace
}  // namespace NARAE_ISA

template <>
const Unary<float>& implementation<Unary<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Unary<BFloat16>& implementation<Unary<BFloat16>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<BFloat16>;
}
template <>
const Unary<double>& implementation<Unary<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}
template <>
const Unary<std::int32_t>& implementation<Unary<std::int32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::int32_t>;
}
template <>
const Unary<std::int64_t>& implementation<Unary<std::int64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::int64_t>;
}
template <>
const Unary<std::uint8_t>& implementation<Unary<std::uint8_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::uint8_t>;
}
template <>
const Unary<bool>& implementation<Unary<bool>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<bool>;
}

}  // namespace narae
