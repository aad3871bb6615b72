#include "kernels/random.h"

#include "core/isa.h"
#include "core/parallel.h"
#include "core/philox.h"
#include "core/vecmath.h"

namespace narae {
namespace NARAE_ISA {
namespace {

constexpr std::int64_t kGrain = std::int64_t{1} << 14;  // elements: some 5 to 20 us

// make(lanes, to) writes the kStep elements that one vector of blocks gives, kPerBlock a block.
template <class T, int kPerBlock, class Make>
void fill(const std::int64_t* key, T* y, std::int64_t n, const Make& make) {
  constexpr std::int64_t kStep = Philox::kBlocks * kPerBlock;
  const Philox philox(key);
  parallel_ranges(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t i = begin;
    for (; i + kStep <= end; i += kStep) make(philox(std::uint64_t(i) / kPerBlock), y + i);
    if (i < end) {
      T rest[kStep];
      make(philox(std::uint64_t(i) / kPerBlock), rest);
      std::memcpy(y + i, rest, static_cast<std::size_t>(end - i) * sizeof(T));
    }
  });
}

// ---- floating point ----------------------------------------------------------------------------

// Numbers in [0, 1) from words that fill a register of T.
inline Vec<float> unit(Vec<std::uint32_t> words) {
  const auto integers = bit_cast<Vec<std::int32_t>>(words >> 8);
  return __builtin_convertvector(integers, Vec<float>) * 0x1p-24f;
}
inline Vec<double> unit(Vec<std::uint64_t> words) {
  const auto integers = bit_cast<Vec<std::int64_t>>(words >> 11);
  return __builtin_convertvector(integers, Vec<double>) * 0x1p-53;
}

template <class T>
struct UnitsOfBlock;  // how many numbers a block gives
template <>
struct UnitsOfBlock<float> {
  static constexpr int value = 4;
};
template <>
struct UnitsOfBlock<double> {
  static constexpr int value = 2;
};

// The numbers of one vector of blocks as two registers: the even ones and the odd ones.
template <class T>
struct Units {
  Vec<T> even, odd;
};
template <class T>
inline Units<T> units(const Philox::Lanes& lanes) {
  if constexpr (sizeof(T) == 4) {
    using Words = Vec<std::uint32_t>;
    return {unit(bit_cast<Words>((lanes.c0 & 0xffffffffu) | lanes.c2 << 32)),
            unit(bit_cast<Words>((lanes.c1 & 0xffffffffu) | lanes.c3 << 32))};
  } else {
    return {unit(lanes.pairs01()), unit(lanes.pairs23())};
  }
}

template <class T>
void uniform(const std::int64_t* key, T* y, std::int64_t n, T low, T span, T last) {
  const auto scaled = [=](Vec<T> u) { return min<T>(u * span + low, broadcast(last)); };
  fill<T, UnitsOfBlock<T>::value>(key, y, n, [&](const Philox::Lanes& lanes, T* to) {
    const Units<T> u = units<T>(lanes);
    store_interleaved<T>(to, scaled(u.even), scaled(u.odd));
  });
}

// cos and sin of 2 pi v, 0 <= v < 1: a quarter turn q and the rest |r| <= pi / 4 (Taylor; within
// 2 ulp of one).
template <class T>
inline void turn(Vec<T> v, Vec<T>* cosine, Vec<T>* sine) {
  const Vec<T> q = Nearest<T>(v * T(4)).n;
  const Vec<T> r = (v * T(4) - q) * T(1.57079632679489661923), z = r * r;
  Vec<T> s, c;
  if constexpr (sizeof(T) == 4) {
    s = horner<T>(z, T(1) / 362880, T(-1) / 5040, T(1) / 120, T(-1) / 6);
    c = horner<T>(z, T(-1) / 3628800, T(1) / 40320, T(-1) / 720, T(1) / 24, T(-0.5), T(1));
  } else {
    s = horner<T>(z, T(1) / 355687428096000, T(-1) / 1307674368000, T(1) / 6227020800,
                  T(-1) / 39916800, T(1) / 362880, T(-1) / 5040, T(1) / 120, T(-1) / 6);
    c = horner<T>(z, T(1) / 20922789888000, T(-1) / 87178291200, T(1) / 479001600, T(-1) / 3628800,
                  T(1) / 40320, T(-1) / 720, T(1) / 24, T(-0.5), T(1));
  }
  s = r + r * z * s;
  const Vec<Int<T>> quarter = __builtin_convertvector(q, Vec<Int<T>>);
  const auto swapped = (quarter & 1) != 0;
  const Vec<T> first = swapped ? s : c, second = swapped ? c : s;
  *cosine = ((quarter + 1) & 2) != 0 ? -first : first;
  *sine = (quarter & 2) != 0 ? -second : second;
}

template <class T>
void normal(const std::int64_t* key, T* y, std::int64_t n, T mean, T stddev) {
  fill<T, UnitsOfBlock<T>::value>(key, y, n, [=](const Philox::Lanes& lanes, T* to) {
    const Units<T> u = units<T>(lanes);
    const Vec<T> r = sqrt<T>(T(-2) * log<T>(T(1) - u.even)) * stddev;
    Vec<T> cosine, sine;
    turn<T>(u.odd, &cosine, &sine);
    store_interleaved<T>(to, r * cosine + mean, r * sine + mean);
  });
}

// z with P(|normal| <= |z|) = |x|, for |z| <= 2: sqrt(2) erfinv(x) = x P(w), w = -log(1 - x^2) up
// to 2.42; P interpolates at Chebyshev nodes (relative error 6e-8 and 6e-15).
template <class T>
inline Vec<T> normal_quantile(Vec<T> x) {
  const Vec<T> w = -log<T>((T(1) - x) * (T(1) + x));
  if constexpr (sizeof(T) == 4) {
    return x * horner<T>(w, T(-6.5578683e-06), T(9.2088172e-05), T(-0.00021934955),
                         T(-0.0032724224), T(0.016321771), T(0.32811856), T(1.2533141));
  } else {
    return x *
           horner<T>(w, T(-8.202320588498231e-12), T(1.9832322538787066e-10),
                     T(-1.7063572073394226e-09), T(3.750953346097107e-09), T(2.710297906776811e-08),
                     T(-4.579979805149257e-08), T(-1.438663973745229e-06), T(2.86126019642558e-06),
                     T(6.59163808932472e-05), T(-0.0001810798911933124), T(-0.0033023325414237603),
                     T(0.016333236160992547), T(0.328116873868555), T(1.253314137315507));
  }
}

template <class T>
void truncated_normal(const std::int64_t* key, T* y, std::int64_t n, T mean, T stddev) {
  constexpr T kWithin = T(0.95449973610364158560);  // P(|normal| <= 2)
  const auto scaled = [=](Vec<T> u) {
    const Vec<T> z = normal_quantile<T>((T(2) * u - T(1)) * kWithin);
    return max<T>(min<T>(z, broadcast(T(2))), broadcast(T(-2))) * stddev + mean;
  };
  fill<T, UnitsOfBlock<T>::value>(key, y, n, [&](const Philox::Lanes& lanes, T* to) {
    const Units<T> u = units<T>(lanes);
    store_interleaved<T>(to, scaled(u.even), scaled(u.odd));
  });
}

// ---- masks -------------------------------------------------------------------------------------

// Which of the elements that fill a register of T are kept.
template <class T>
inline Vec<Int<T>> kept(const std::uint32_t* words, std::uint32_t threshold) {
  if constexpr (sizeof(Real<T>) == 4) {
    return bit_cast<Vec<Int<T>>>(load(words) >> 1 >= threshold);
  } else {
    typedef std::uint32_t Half __attribute__((vector_size(kVecBytes / 2)));
    Half half;
    std::memcpy(&half, words, sizeof half);
    return bit_cast<Vec<Int<T>>>(__builtin_convertvector(half >> 1, Words64) >= threshold);
  }
}

template <class T>
void dropout(const std::int64_t* key, const T* x, T* y, std::int64_t n, std::uint32_t threshold,
             Real<T> scale) {
  const Philox philox(key);
  parallel_ranges(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::uint32_t words[Philox::kWords];
    for (std::int64_t i = begin; i < end; i += Philox::kWords) {
      philox(std::uint64_t(i) / 4).store_words(words);
      const std::int64_t count = end - i < Philox::kWords ? end - i : Philox::kWords;
      for_lanes<T>(count, [&](std::int64_t j, std::int64_t lanes) {
        const Vec<T> scaled = load_lanes(x + i + j, lanes) * scale;
        store_lanes<T>(y + i + j, kept<T>(words + j, threshold) ? scaled : Vec<T>{}, lanes);
      });
    }
  });
}

template <class T>
void bernoulli(const std::int64_t* key, T* y, std::int64_t n, std::uint32_t threshold) {
  fill<T, 4>(key, y, n, [=](const Philox::Lanes& lanes, T* to) {
    std::uint32_t words[Philox::kWords];
    lanes.store_words(words);
    for (int j = 0; j < Philox::kWords; ++j) to[j] = words[j] >> 1 >= threshold;
  });
}

// ---- integers ----------------------------------------------------------------------------------

inline std::uint64_t scale_down(std::uint64_t v, std::uint64_t range) {  // floor(v range / 2^64)
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(v) * range) >> 64);
}

template <class T>
void randint(const std::int64_t* key, T* y, std::int64_t n, std::int64_t low, std::uint64_t range) {
  fill<T, 2>(key, y, n, [=](const Philox::Lanes& lanes, T* to) {
    std::uint64_t v[2 * Philox::kBlocks];
    store_interleaved<std::uint64_t>(v, lanes.pairs01(), lanes.pairs23());
    for (int j = 0; j < 2 * Philox::kBlocks; ++j)
      to[j] = static_cast<T>(static_cast<std::uint64_t>(low) + scale_down(v[j], range));
  });
}

// Each place in turn takes over a random one of those up to it (Fisher, Yates; inside out).
template <class T>
void permutation(const std::int64_t* key, T* y, std::int64_t n) {
  constexpr std::int64_t kStep = 2 * Philox::kBlocks;
  const Philox philox(key);
  std::uint64_t v[kStep];
  for (std::int64_t i = 0; i < n; ++i) {
    if (i % kStep == 0) {
      const Philox::Lanes lanes = philox(std::uint64_t(i) / 2);
      store_interleaved<std::uint64_t>(v, lanes.pairs01(), lanes.pairs23());
    }
    const auto j = static_cast<std::int64_t>(scale_down(v[i % kStep], std::uint64_t(i) + 1));
    y[i] = y[j];
    y[j] = static_cast<T>(i);
  }
}

void words(const std::int64_t* key, std::uint64_t first, std::uint32_t* y, std::int64_t n) {
  const Philox philox(key);
  std::uint32_t some[Philox::kWords];
  for (std::int64_t i = 0; i < n; i += Philox::kWords) {
    philox(first + std::uint64_t(i) / 4).store_words(some);
    for (std::int64_t j = i; j < n && j < i + Philox::kWords; ++j) y[j] = some[j - i];
  }
}

// ---- categorical -------------------------------------------------------------------------------

// sums[c] = sum of exp(x[j] - max x) over j <= c
template <class T>
void exponential_sums(const T* x, double* sums, std::int64_t C) {
  T largest = x[0];
  for (std::int64_t c = 1; c < C; ++c) largest = x[c] > largest ? x[c] : largest;
  for (std::int64_t c = 0; c < C; ++c) sums[c] = double(x[c]) - double(largest);
  double total = 0;
  for_lanes<double>(C, [&](std::int64_t c, std::int64_t lanes) {
    store_lanes<double>(sums + c, exp<double>(load_lanes(sums + c, lanes)), lanes);
    for (std::int64_t j = c; j < c + lanes; ++j) sums[j] = total += sums[j];
  });
}

// The first class whose sum exceeds t: one of probability 0 is never it.
inline std::int64_t find_class(const double* sums, std::int64_t C, double t) {
  std::int64_t begin = 0, end = C - 1;  // the last is taken when no other is
  while (begin < end) {
    const std::int64_t middle = begin + (end - begin) / 2;
    if (sums[middle] > t) {
      end = middle;
    } else {
      begin = middle + 1;
    }
  }
  return begin;
}

template <class T>
void categorical(const std::int64_t* key, const T* logits, std::int64_t* y, std::int64_t N,
                 std::int64_t C, std::int64_t S, double* workspace) {
  const Philox philox(key);
  parallel_ranges(N, 1 + kGrain / (C + 8 * S), [&](std::int64_t begin, std::int64_t end) {
    double u[2 * Philox::kBlocks];
    for (std::int64_t n = begin; n < end; ++n) {
      double* sums = workspace + n * C;
      exponential_sums(logits + n * C, sums, C);
      // u < 1, but u * total may round up to total
      const double total = sums[C - 1], last = total * (1 - 0x1p-53);
      std::int64_t made = -1;  // the first draw that u holds
      for (std::int64_t draw = n * S; draw < (n + 1) * S; ++draw) {
        const std::int64_t first = draw - draw % (2 * Philox::kBlocks);
        if (first != made) {
          const Units<double> pair = units<double>(philox(std::uint64_t(first) / 2));
          store_interleaved<double>(u, pair.even, pair.odd);
          made = first;
        }
        const double t = u[draw - first] * total;
        y[draw] = find_class(sums, C, t < last ? t : last);
      }
    }
  });
}

template <class T>
constexpr Random<T> kTable = {uniform<T>, normal<T>, truncated_normal<T>, dropout<T>,
                              categorical<T>};
template <class T>
constexpr RandomIntegers<T> kIntegers = {bernoulli<T>, randint<T>, permutation<T>};
constexpr RandomWords kWordsTable = {words};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Random<float>& implementation<Random<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Random<BFloat16>& implementation<Random<BFloat16>, Isa::NARAE_ISA>() {
  static constexpr Random<BFloat16> kDropout = {nullptr, nullptr, nullptr,
                                                NARAE_ISA::dropout<BFloat16>, nullptr};
  return kDropout;
}
template <>
const Random<double>& implementation<Random<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}
template <>
const RandomIntegers<std::uint8_t>& implementation<RandomIntegers<std::uint8_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kIntegers<std::uint8_t>;
}
template <>
const RandomIntegers<std::int32_t>& implementation<RandomIntegers<std::int32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kIntegers<std::int32_t>;
}
template <>
const RandomIntegers<std::int64_t>& implementation<RandomIntegers<std::int64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kIntegers<std::int64_t>;
}
template <>
const RandomWords& implementation<RandomWords, Isa::NARAE_ISA>() {
  return NARAE_ISA::kWordsTable;
}

}  // namespace narae
