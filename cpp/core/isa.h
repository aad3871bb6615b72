// Instruction sets: which were built, which this CPU has, which one is in use.
//
// Every kernel source is compiled once per instruction set, in a namespace of its name. A family's
// header declares a table of function pointers (`template <class T> struct Softmax { ... }`); its
// source defines `implementation<Softmax<T>, Isa::NARAE_ISA>()`; callers write
// `kernels<Softmax<T>>().forward`.
#pragma once

#include <cstdint>

namespace narae {

enum class Isa { base, avx2, avx512, avx512_bf16, neon };
inline constexpr Isa kAllIsas[] = {Isa::base, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::neon};

const char* isa_name(Isa isa);
bool isa_built(Isa isa);
bool isa_supported(Isa isa);  // built, and this CPU and operating system run it

Isa isa();          // the one in use: the widest supported, unless set
void set_isa(Isa);  // must be supported

// Bytes ahead of its reads that a kernel asks for when it streams through memory; 0 where the
// hardware sees to it. With 16 KiB Zen 5 finds the maximum of 16 million numbers in 1.1 instead of
// 1.55 ms; Zen 4 sums them in 1.7 instead of 1.5 ms.
std::int64_t fetch_distance();

template <class Table, Isa I>
const Table& implementation();

// Tables that gain from products of bfloat16 pairs are compiled for avx512_bf16 too; of the others
// it uses those of avx512, with which it is built.
template <class Table>
inline constexpr bool kGainsFromBf16 = false;

template <class Table>
const Table& kernels() {
  switch (isa()) {
#ifdef NARAE_HAVE_avx512_bf16
    case Isa::avx512_bf16:
      return implementation<Table, kGainsFromBf16<Table> ? Isa::avx512_bf16 : Isa::avx512>();
#endif
#ifdef NARAE_HAVE_avx512
    case Isa::avx512:
      return implementation<Table, Isa::avx512>();
#endif
#ifdef NARAE_HAVE_avx2
    case Isa::avx2:
      return implementation<Table, Isa::avx2>();
#endif
#ifdef NARAE_HAVE_neon
    case Isa::neon:
      return implementation<Table, Isa::neon>();
#endif
    default:
#ifdef NARAE_HAVE_base
      return implementation<Table, Isa::base>();
#else
      __builtin_unreachable();
#endif
  }
}

}  // namespace narae
