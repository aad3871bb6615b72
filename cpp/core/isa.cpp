#include "core/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace narae {
namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

template <class... Rest>
constexpr bool has(unsigned word, Rest... positions) {
  return ((word >> positions & 1u) && ...);
}

// Register state that the operating system saves, read with xgetbv (needs OSXSAVE).
unsigned saved_state() {
  if (!has(cpuid(1).c, 27)) return 0;
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

// Family 1Ah of AMD's processors, as the manual of CPUID puts it together.
bool is_zen5() {
  const Registers vendor = cpuid(0), one = cpuid(1);
  const bool amd = vendor.b == 0x68747541 && vendor.d == 0x69746e65 && vendor.c == 0x444d4163;
  const unsigned base = one.a >> 8 & 0xf, extended = one.a >> 20 & 0xff;
  return amd && base == 0xf && base + extended == 0x1a;
}

bool cpu_has(Isa isa) {
  const Registers one = cpuid(1), seven = cpuid(7), extended = cpuid(0x80000001u);
  // x86-64-v2: SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT
  const bool v2 = has(one.c, 0, 9, 13, 19, 20, 23);
  // x86-64-v3: FMA, MOVBE, AVX, F16C, BMI1, AVX2, BMI2, LZCNT; XMM and YMM saved
  const bool v3 = v2 && has(one.c, 12, 22, 28, 29) && has(seven.b, 3, 5, 8) && has(extended.c, 5) &&
                  (saved_state() & 0x6) == 0x6;
  // x86-64-v4: AVX512 F, DQ, CD, BW, VL; opmask and ZMM saved
  const bool v4 = v3 && has(seven.b, 16, 17, 28, 30, 31) && (saved_state() & 0xe6) == 0xe6;
  switch (isa) {
    case Isa::base:
      return v2;
    case Isa::avx2:
      return v3;
    case Isa::avx512:
      return v4;
    case Isa::avx512_bf16:
      return v4 && has(cpuid(7, 1).a, 5);
    default:
      return false;
  }
}
#elif defined(__aarch64__) || defined(_M_ARM64)

bool is_zen5() { return false; }
bool cpu_has(Isa isa) { return isa == Isa::neon; }
#else

bool is_zen5() { return false; }
bool cpu_has(Isa isa) { return isa == Isa::base; }
#endif

Isa widest() {
  Isa best = Isa::base;
  for (Isa isa : kAllIsas) {
    if (isa_supported(isa)) best = isa;  // kAllIsas goes from narrow to wide
  }
  return best;
}

Isa& current() {
  static Isa chosen = widest();
  return chosen;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::neon:
      return "neon";
    default:
      return "base";
  }
}

bool isa_built(Isa isa) {
  switch (isa) {
#ifdef NARAE_HAVE_base
    case Isa::base:
      return true;
#endif
#ifdef NARAE_HAVE_avx2
    case Isa::avx2:
      return true;
#endif
#ifdef NARAE_HAVE_avx512
    case Isa::avx512:
      return true;
#endif
#ifdef NARAE_HAVE_avx512_bf16
    case Isa::avx512_bf16:
      return true;
#endif
#ifdef NARAE_HAVE_neon
    case Isa::neon:
      return true;
#endif
    default:
      return false;
  }
}

bool isa_supported(Isa isa) { return isa_built(isa) && cpu_has(isa); }
std::int64_t fetch_distance() {
  static const std::int64_t distance = is_zen5() ? 16384 : 0;
  return distance;
}

Isa isa() { return current(); }
void set_isa(Isa isa) { current() = isa; }

}  // namespace narae
