#include "kernels/elementwise.h"

#include <type_traits>

#include "core/isa.h"
#include "core/vecmath.h"
#include "kernels/elementwise_rows.h"

namespace narae {
namespace NARAE_ISA {
namespace {

template <class T>
constexpr bool kIsFloat = std::is_floating_point_v<Real<T>>;

// Integers wrap around: computed in unsigned arithmetic, at least 32 bits wide.
template <class T>
using Wrap = std::make_unsigned_t<std::conditional_t<sizeof(T) < 4, std::int32_t, T>>;

// ---- functions of Vec<T> for floats, of T for integers ----------------------------------------
struct Add {
  template <class T>
  static T one(T a, T b) {
    return static_cast<T>(Wrap<T>(a) + Wrap<T>(b));
  }
  template <class T>
  static Vec<T> all(Vec<T> a, Vec<T> b) {
    return a + b;
  }
};
struct Subtract {
  template <class T>
  static T one(T a, T b) {
    return static_cast<T>(Wrap<T>(a) - Wrap<T>(b));
  }
  template <class T>
  static Vec<T> all(Vec<T> a, Vec<T> b) {
    return a - b;
  }
};
struct Multiply {
  template <class T>
  static T one(T a, T b) {
    return static_cast<T>(Wrap<T>(a) * Wrap<T>(b));
  }
  template <class T>
  static Vec<T> all(Vec<T> a, Vec<T> b) {
    return a * b;
  }
};
struct Divide {
  template <class T>
  static Vec<T> all(Vec<T> a, Vec<T> b) {
    return a / b;
  }
};
struct DivideNoNan {
  template <class T>
  static Vec<T> all(Vec<T> a, Vec<T> b) {
    return b == 0 ? Vec<T>{} : a / b;
  }
};
struct Maximum {
  template <class T>
  static T one(T a, T b) {
    return a > b ? a : b;
  }
  template <class T>
  static Vec<T> all(Vec<T> a, Vec<T> b) {
    return max<T>(a, b);
  }
};
struct Minimum {
  template <class T>
  static T one(T a, T b) {
    return a < b ? a : b;
  }
  template <class T>
  static Vec<T> all(Vec<T> a, Vec<T> b) {
    return min<T>(a, b);
  }
};

// ---- functions of one element: libm's, or integers with cases ---------------------------------
template <class T>
T fmod(T a, T b) {
  if constexpr (sizeof(T) == 4) return __builtin_fmodf(a, b);
  return __builtin_fmod(a, b);
}

// The remainder has the divisor's sign, as Python's.
struct Mod {
  template <class T>
  static T one(T a, T b) {
    if constexpr (kIsFloat<T>) {
      const T m = fmod(a, b);
      if (m == 0) return __builtin_copysign(T(0), b);
      return (m < 0) != (b < 0) ? m + b : m;
    } else {
      if (b == 0 || b == static_cast<T>(-1)) return std::is_unsigned_v<T> && b != 0 ? a % b : T(0);
      const T m = a % b;
      return m != 0 && (m < 0) != (b < 0) ? m + b : m;
    }
  }
};
struct FloorDivide {
  template <class T>
  static T one(T a, T b) {
    if constexpr (kIsFloat<T>) {
      if (b == 0) return a / b;
      const T m = fmod(a, b), below = m != 0 && (m < 0) != (b < 0) ? T(1) : T(0);
      const T quotient = __builtin_rint((a - m) / b - below);  // whole but for rounding
      return quotient == 0 ? __builtin_copysign(T(0), a / b) : quotient;
    } else {
      if (b == 0) return T(0);
      if constexpr (std::is_signed_v<T>) {
        if (b == T(-1)) return static_cast<T>(Wrap<T>(0) - Wrap<T>(a));
      }
      const T quotient = a / b;
      return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
    }
  }
};
struct Power {
  template <class T>
  static T one(T a, T b) {
    if constexpr (kIsFloat<T>) {
      return __builtin_pow(a, b);
    } else {  // by squaring; a negative power of an integer is truncated
      if (b < 0) return a == 1 ? T(1) : a == static_cast<T>(-1) ? (b % 2 != 0 ? a : T(1)) : T(0);
      Wrap<T> y = 1;
      for (Wrap<T> square = static_cast<Wrap<T>>(a); b > 0; b /= 2, square *= square) {
        if (b % 2 != 0) y *= square;
      }
      return static_cast<T>(y);
    }
  }
  template <class T>
  static Vec<T> all(Vec<T> a, Vec<T> b) {
    return power(a, b);
  }
};
struct Arctan2 {
  template <class T>
  static T one(T a, T b) {
    return sizeof(T) == 4 ? T(__builtin_atan2f(a, b)) : T(__builtin_atan2(a, b));
  }
};
struct Hypot {
  template <class T>
  static T one(T a, T b) {
    return sizeof(T) == 4 ? T(__builtin_hypotf(a, b)) : T(__builtin_hypot(a, b));
  }
};
struct BitAnd {
  template <class T>
  static T one(T a, T b) {
    return a & b;
  }
};
struct BitOr {
  template <class T>
  static T one(T a, T b) {
    return a | b;
  }
};
struct BitXor {
  template <class T>
  static T one(T a, T b) {
    return a ^ b;
  }
};
// Shifts by the width and more move all bits out.
struct LeftShift {
  template <class T>
  static T one(T a, T b) {
    return b < 0 || b >= T(8 * sizeof(T)) ? T(0) : static_cast<T>(Wrap<T>(a) << b);
  }
};
struct RightShift {
  template <class T>
  static T one(T a, T b) {
    return b < 0 || b >= T(8 * sizeof(T)) ? T(a < 0 ? -1 : 0) : static_cast<T>(a >> b);
  }
};

struct Equal {
  template <class T>
  static bool one(T a, T b) {
    return a == b;
  }
};
struct NotEqual {
  template <class T>
  static bool one(T a, T b) {
    return a != b;
  }
};
struct Less {
  template <class T>
  static bool one(T a, T b) {
    return a < b;
  }
};
struct LessEqual {
  template <class T>
  static bool one(T a, T b) {
    return a <= b;
  }
};
struct And {
  template <class T>
  static bool one(T a, T b) {
    return (a != 0) & (b != 0);
  }
};
struct Or {
  template <class T>
  static bool one(T a, T b) {
    return (a != 0) | (b != 0);
  }
};
struct Xor {
  template <class T>
  static bool one(T a, T b) {
    return (a != 0) != (b != 0);
  }
};

// ---- rows -------------------------------------------------------------------------------------
template <class F, class T, bool kMoveA, bool kMoveB>
inline void vector_row(const T* a, const T* b, T* y, std::int64_t n) {
  for_lanes<T>(n, [&](std::int64_t i, std::int64_t lanes) {
    const Vec<T> va = kMoveA ? load_lanes(a + i, lanes) : broadcast(read(a));
    const Vec<T> vb = kMoveB ? load_lanes(b + i, lanes) : broadcast(read(b));
    store_lanes<T>(y + i, F::template all<Real<T>>(va, vb), lanes);
  });
}

template <class F, class T>
void vector_row(const T* a, std::int64_t a_step, const T* b, std::int64_t b_step, T* y,
                std::int64_t n) {
  if (!b_step) return vector_row<F, T, true, false>(a, b, y, n);
  if (!a_step) return vector_row<F, T, false, true>(a, b, y, n);
  vector_row<F, T, true, true>(a, b, y, n);
}

template <class F, class T, class R>
void scalar_row(const T* a, std::int64_t a_step, const T* b, std::int64_t b_step, R* y,
                std::int64_t n) {
  const auto one = [](Real<T> a_i, Real<T> b_i) { return F::template one<Real<T>>(a_i, b_i); };
  if (!b_step) {
    const Real<T> b0 = read(b);
    for (std::int64_t i = 0; i < n; ++i) write(y + i, one(read(a + i), b0));
  } else if (!a_step) {
    const Real<T> a0 = read(a);
    for (std::int64_t i = 0; i < n; ++i) write(y + i, one(a0, read(b + i)));
  } else {
    for (std::int64_t i = 0; i < n; ++i) write(y + i, one(read(a + i), read(b + i)));
  }
}

template <class T, class R>
void run_rows(BinaryRow<T, R> row, Broadcast<2> shape, const T* a, const T* b, R* y) {
  const int last = shape.dims - 1;
  const std::int64_t a_step = shape.stride[0][last], b_step = shape.stride[1][last];
  for_rows(shape, [=](const std::int64_t* offset, std::int64_t begin, std::int64_t n) {
    row(a + offset[0], a_step, b + offset[1], b_step, y + begin, n);
  });
}

// Bits of a or of b by a mask: no branch, so that it is vectorized.
template <class T>
inline T pick(bool condition, T a, T b) {
  const T mask = static_cast<T>(T(0) - T(condition));
  return static_cast<T>((a & mask) | (b & static_cast<T>(~mask)));
}

template <class T>
void where(Broadcast<3> shape, const bool* condition, const T* a, const T* b, T* y) {
  const int last = shape.dims - 1;
  const std::int64_t c_step = shape.stride[0][last], a_step = shape.stride[1][last],
                     b_step = shape.stride[2][last];
  for_rows(shape, [=](const std::int64_t* offset, std::int64_t begin, std::int64_t n) {
    const bool* c = condition + offset[0];
    const T *a_n = a + offset[1], *b_n = b + offset[2];
    T* y_n = y + begin;
    if (c_step & a_step & b_step) {
      for (std::int64_t i = 0; i < n; ++i) y_n[i] = pick(c[i], a_n[i], b_n[i]);
    } else if (c_step & a_step) {
      for (std::int64_t i = 0; i < n; ++i) y_n[i] = pick(c[i], a_n[i], *b_n);
    } else if (c_step & b_step) {
      for (std::int64_t i = 0; i < n; ++i) y_n[i] = pick(c[i], *a_n, b_n[i]);
    } else {
      for (std::int64_t i = 0; i < n; ++i)
        y_n[i] = pick(c[i * c_step], a_n[i * a_step], b_n[i * b_step]);
    }
  });
}

// ---- the sum over broadcast axes --------------------------------------------------------------
constexpr std::int64_t kSumGrain = std::int64_t{1} << 15;  // elements of x in one piece ...
constexpr std::int64_t kSumCols = 4096;                    // ... and its columns at most

// Rows of R that one piece sums, by shape alone; at least 2 unless R is less.
std::int64_t sum_rows(std::int64_t R, std::int64_t I) {
  const std::int64_t rows = kSumGrain / ((I < kSumCols ? I : kSumCols) + 1) + 2;
  return rows < R ? rows : R;
}

std::int64_t sum_pieces(std::int64_t R, std::int64_t I) {
  return R ? (R - 1) / sum_rows(R, I) + 1 : 1;
}

std::int64_t sum_to_workspace(std::int64_t O, std::int64_t R, std::int64_t I) {
  const std::int64_t pieces = sum_pieces(R, I);
  return pieces > 1 ? O * pieces * I + sum_to_workspace(O, pieces, I) : 0;
}

// y = the sum of n contiguous elements, in four registers.
template <class T>
Real<T> sum_row(const T* x, std::int64_t n) {
  Vec<T> total[4] = {};
  std::int64_t i = 0;
  for (; i + 4 * kLanes<T> <= n; i += 4 * kLanes<T>) {
    for (int k = 0; k < 4; ++k) total[k] += load(x + i + k * kLanes<T>);
  }
  for_lanes<T>(
      n - i, [&](std::int64_t j, std::int64_t lanes) { total[0] += load_lanes(x + i + j, lanes); });
  return sum<T>((total[0] + total[1]) + (total[2] + total[3]));
}

// y[i] = sum_r x[r,i] for i < cols; the rows of x are I apart.
template <class T, class Y>
void sum_piece(const T* x, Y* y, std::int64_t rows, std::int64_t cols, std::int64_t I) {
  if (I == 1) {
    write(y, sum_row(x, rows));
    return;
  }
  std::int64_t i = 0;
  for (; i + 4 * kLanes<T> <= cols; i += 4 * kLanes<T>) {
    Vec<T> total[4] = {};
    for (std::int64_t r = 0; r < rows; ++r) {
      for (int k = 0; k < 4; ++k) total[k] += load(x + r * I + i + k * kLanes<T>);
    }
    for (int k = 0; k < 4; ++k) store<Y>(y + i + k * kLanes<T>, total[k]);
  }
  for_lanes<T>(cols - i, [&](std::int64_t j, std::int64_t lanes) {
    Vec<T> total = {};
    for (std::int64_t r = 0; r < rows; ++r) total += load_lanes(x + r * I + i + j, lanes);
    store_lanes<Y>(y + i + j, total, lanes);
  });
}

// Sums pieces of rows, then the sums of the pieces.
template <class T, class Y>
void sum_to(const T* x, Y* y, std::int64_t O, std::int64_t R, std::int64_t I, Real<T>* workspace) {
  const std::int64_t rows = sum_rows(R, I), pieces = sum_pieces(R, I);
  const std::int64_t strips = (I + kSumCols - 1) / kSumCols;
  const std::int64_t grain = kSumGrain / (rows * (I < kSumCols ? I : kSumCols) + 1) + 1;
  const auto sum_pieces_to = [&](auto* to) {
    parallel_ranges(O * pieces * strips, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) {
        const std::int64_t piece = n / strips, i = n % strips * kSumCols;
        const std::int64_t o = piece / pieces, r = piece % pieces * rows;
        sum_piece(x + (o * R + r) * I + i, to + piece * I + i, rows < R - r ? rows : R - r,
                  kSumCols < I - i ? kSumCols : I - i, I);
      }
    });
  };
  if (pieces == 1) return sum_pieces_to(y);
  sum_pieces_to(workspace);
  sum_to(workspace, y, O, pieces, I, workspace + O * pieces * I);
}

// float32 by a vector function; float64 would need a logarithm of more bits than it has: libm's.
template <class T>
constexpr BinaryRow<T, T> power_row() {
  if constexpr (sizeof(T) == 4) {
    return vector_row<Power, T>;
  } else {
    return scalar_row<Power, T, T>;
  }
}

// ---- tables -----------------------------------------------------------------------------------
template <class T>
using Binary = Named<BinaryRow<T, T>>;

template <class T>
constexpr Binary<T> kBinary[] = {
    {"add", vector_row<Add, T>},
    {"subtract", vector_row<Subtract, T>},
    {"multiply", vector_row<Multiply, T>},
    {"divide", vector_row<Divide, T>},
    {"divide_no_nan", vector_row<DivideNoNan, T>},
    {"maximum", vector_row<Maximum, T>},
    {"minimum", vector_row<Minimum, T>},
    {"mod", scalar_row<Mod, T, T>},
    {"floor_divide", scalar_row<FloorDivide, T, T>},
    {"power", power_row<T>()},
    {"arctan2", scalar_row<Arctan2, T, T>},
    {"hypot", scalar_row<Hypot, T, T>},
};

template <class T>
constexpr Binary<T> kIntegerBinary[] = {
    {"add", scalar_row<Add, T, T>},
    {"subtract", scalar_row<Subtract, T, T>},
    {"multiply", scalar_row<Multiply, T, T>},
    {"maximum", scalar_row<Maximum, T, T>},
    {"minimum", scalar_row<Minimum, T, T>},
    {"mod", scalar_row<Mod, T, T>},
    {"floor_divide", scalar_row<FloorDivide, T, T>},
    {"power", scalar_row<Power, T, T>},
    {"bitwise_and", scalar_row<BitAnd, T, T>},
    {"bitwise_or", scalar_row<BitOr, T, T>},
    {"bitwise_xor", scalar_row<BitXor, T, T>},
    {"left_shift", scalar_row<LeftShift, T, T>},
    {"right_shift", scalar_row<RightShift, T, T>},
};

template <class T>
constexpr Named<BinaryRow<T, bool>> kCompare[] = {
    {"equal", scalar_row<Equal, T, bool>},     {"not_equal", scalar_row<NotEqual, T, bool>},
    {"less", scalar_row<Less, T, bool>},       {"less_equal", scalar_row<LessEqual, T, bool>},
    {"logical_and", scalar_row<And, T, bool>}, {"logical_or", scalar_row<Or, T, bool>},
    {"logical_xor", scalar_row<Xor, T, bool>},
};

template <class T>
constexpr Elementwise<T> table() {
  Elementwise<T> t = {};
  if constexpr (kIsFloat<T>) {
    t.binary = list(kBinary<T>);
  } else if constexpr (!std::is_same_v<T, bool>) {
    t.binary = list(kIntegerBinary<T>);
  }
  if constexpr (!std::is_same_v<T, bool>) {
    t.run_binary = run_rows<T, T>;
    t.sum_to_workspace = sum_to_workspace;
  }
  if constexpr (kIsFloat<T>) t.sum_to = sum_to<T, T>;
  t.compare = list(kCompare<T>);
  t.run_compare = run_rows<T, bool>;
  return t;
}

template <class T>
constexpr Elementwise<T> kTable = table<T>();
template <class T>
constexpr Select<T> kSelect = {where<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Elementwise<float>& implementation<Elementwise<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Elementwise<BFloat16>& implementation<Elementwise<BFloat16>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<BFloat16>;
}
template <>
const Elementwise<double>& implementation<Elementwise<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}
template <>
const Elementwise<std::int32_t>& implementation<Elementwise<std::int32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::int32_t>;
}
template <>
const Elementwise<std::int64_t>& implementation<Elementwise<std::int64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::int64_t>;
}
template <>
const Elementwise<std::uint8_t>& implementation<Elementwise<std::uint8_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::uint8_t>;
}
template <>
const Elementwise<bool>& implementation<Elementwise<bool>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<bool>;
}

template <>
const Select<std::uint8_t>& implementation<Select<std::uint8_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kSelect<std::uint8_t>;
}
template <>
const Select<std::uint16_t>& implementation<Select<std::uint16_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kSelect<std::uint16_t>;
}
template <>
const Select<std::uint32_t>& implementation<Select<std::uint32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kSelect<std::uint32_t>;
}
template <>
const Select<std::uint64_t>& implementation<Select<std::uint64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kSelect<std::uint64_t>;
}

}  // namespace narae
