#include "kernels/sort.h"

#include <cstddef>
#include <cstring>

#include "core/isa.h"
#include "core/parallel.h"

namespace narae {
namespace NARAE_ISA {
namespace {

// ---- keys --------------------------------------------------------------------------------------

template <std::size_t kBytes>
struct Unsigned;
template <>
struct Unsigned<4> {
  using key = std::uint32_t;
  using item = std::uint64_t;
};
template <>
struct Unsigned<8> {
  using key = std::uint64_t;
  using item = unsigned __int128;
};
template <class T>
using Key = typename Unsigned<sizeof(T)>::key;
// A key and, below it, the index: items differ from each other, and their order is a stable one.
template <class T>
using Item = typename Unsigned<sizeof(T)>::item;

template <class T>
inline constexpr int kKeyBits = 8 * static_cast<int>(sizeof(T));

// An unsigned integer in the order of x. Of floats, the bits of the negative ones run backwards.
template <class T>
inline Key<T> key_of(T x) {
  constexpr Key<T> kSign = Key<T>(1) << (kKeyBits<T> - 1);
  Key<T> bits;
  if constexpr (T(0.5) == T(0)) {  // integers
    std::memcpy(&bits, &x, sizeof x);
    return bits ^ kSign;
  } else {
    if (x != x) return ~Key<T>(0);
    x += T(0);  // -0 to 0
    std::memcpy(&bits, &x, sizeof x);
    const Key<T> negative = Key<T>(0) - (bits >> (kKeyBits<T> - 1));  // without a jump
    return bits ^ (negative | kSign);
  }
}

template <class T>
inline Item<T> item_of(T x, std::int64_t index, bool descending) {
  const Key<T> key = descending ? static_cast<Key<T>>(~key_of(x)) : key_of(x);
  return static_cast<Item<T>>(key) << kKeyBits<T> | static_cast<Item<T>>(index);
}

// ---- sorting -----------------------------------------------------------------------------------

template <class I>
void insertion_sort(I* items, std::int64_t n) {
  for (std::int64_t i = 1; i < n; ++i) {
    const I item = items[i];
    std::int64_t j = i;
    for (; j > 0 && items[j - 1] > item; --j) items[j] = items[j - 1];
    items[j] = item;
  }
}

// By the digits of the key, 8 bits each, the lowest first; `other` has room for n items as well.
// The items were in the order of their indices, and each pass keeps the order of equal digits.
// Returns where the result is.
template <class T>
Item<T>* radix_sort(Item<T>* items, Item<T>* other, std::int64_t n) {
  constexpr int kDigits = static_cast<int>(sizeof(T));
  std::uint32_t counts[kDigits][256] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    const auto key = static_cast<Key<T>>(items[i] >> kKeyBits<T>);
    for (int d = 0; d < kDigits; ++d) ++counts[d][key >> (8 * d) & 255];
  }
  for (int d = 0; d < kDigits; ++d) {
    const int shift = kKeyBits<T> + 8 * d;
    std::uint32_t* starts = counts[d];
    if (starts[static_cast<std::size_t>(items[0] >> shift & 255)] == n) continue;  // all the same
    std::uint32_t start = 0;
    for (int digit = 0; digit < 256; ++digit) {
      const std::uint32_t count = starts[digit];
      starts[digit] = start;
      start += count;
    }
    for (std::int64_t i = 0; i < n; ++i)
      other[starts[static_cast<std::size_t>(items[i] >> shift & 255)]++] = items[i];
    Item<T>* sorted = other;
    other = items;
    items = sorted;
  }
  return items;
}

// Sorts one row; `room` is for 2 C items. Returns where the items are.
template <class T>
const Item<T>* sort_row(const T* x, std::int64_t C, bool descending, void* room) {
  auto* items = static_cast<Item<T>*>(room);
  for (std::int64_t c = 0; c < C; ++c) items[c] = item_of(x[c], c, descending);
  if (C > 48) return radix_sort<T>(items, items + C, C);
  insertion_sort(items, C);
  return items;
}

template <class I>
inline std::int32_t index_of(I item) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(item));
}

template <class T>
std::int64_t workspace_bytes(std::int64_t C) {
  const std::int64_t bytes = 2 * C * static_cast<std::int64_t>(sizeof(Item<T>));
  return bytes <= static_cast<std::int64_t>(kScratchBytes) ? 0 : bytes;
}

// body(n, room) for every row: in parallel, or one after another when a row needs the workspace.
template <class T, class Body>
void for_rows(std::int64_t N, std::int64_t C, std::int64_t cost, void* workspace,
              const Body& body) {
  if (workspace_bytes<T>(C) > 0) {
    for (std::int64_t n = 0; n < N; ++n) body(n, workspace);
  } else {
    parallel_ranges(N, 1 + 4096 / (cost + 1), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) body(n, scratch());
    });
  }
}

template <class T>
void argsort(const T* x, std::int32_t* index, std::int64_t N, std::int64_t C, bool descending,
             void* workspace) {
  for_rows<T>(N, C, 4 * C, workspace, [=](std::int64_t n, void* room) {
    const Item<T>* items = sort_row(x + n * C, C, descending, room);
    for (std::int64_t c = 0; c < C; ++c) index[n * C + c] = index_of(items[c]);
  });
}

template <class T>
void top_k(const T* x, std::int32_t* index, std::int64_t N, std::int64_t C, std::int64_t k,
           void* workspace) {
  constexpr std::int64_t kFew = 32;  // kept in order while the row goes by
  for_rows<T>(N, k <= kFew ? 0 : C, C, workspace, [=](std::int64_t n, void* room) {
    const T* x_n = x + n * C;
    Item<T> best[kFew];
    const Item<T>* items = best;
    if (k > kFew) {
      items = sort_row(x_n, C, true, room);
    } else {
      for (std::int64_t c = 0; c < C; ++c) {
        const Item<T> item = item_of(x_n[c], c, true);
        std::int64_t j = c < k ? c : k;
        if (j == k) {
          if (k == 0 || item > best[k - 1]) continue;
          --j;
        }
        for (; j > 0 && best[j - 1] > item; --j) best[j] = best[j - 1];
        best[j] = item;
      }
    }
    for (std::int64_t c = 0; c < k; ++c) index[n * k + c] = index_of(items[c]);
  });
}

// ---- ranks -------------------------------------------------------------------------------------

template <class T>
void in_top_k(const T* x, const std::int64_t* target, bool* y, std::int64_t N, std::int64_t C,
              std::int64_t k) {
  parallel_ranges(N, 1 + 16384 / (C + 1), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const T* x_n = x + n * C;
      const T own = x_n[target[n]];
      std::int64_t larger = 0;
      for (std::int64_t c = 0; c < C; ++c) larger += x_n[c] > own;
      y[n] = own == own && larger < k;
    }
  });
}

template <class T>
void searchsorted(const T* x, std::int64_t C, const T* v, std::int32_t* y, std::int64_t n,
                  bool right) {
  parallel_ranges(n, 1024, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Key<T> key = key_of(v[i]);
      std::int64_t begin = 0, end = C;
      while (begin < end) {
        const std::int64_t middle = begin + (end - begin) / 2;
        const Key<T> at = key_of(x[middle]);
        if (right ? at <= key : at < key) {
          begin = middle + 1;
        } else {
          end = middle;
        }
      }
      y[i] = static_cast<std::int32_t>(begin);
    }
  });
}

template <class T>
constexpr Sort<T> kTable = {workspace_bytes<T>, argsort<T>, top_k<T>, in_top_k<T>, searchsorted<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Sort<float>& implementation<Sort<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Sort<double>& implementation<Sort<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}
template <>
const Sort<std::int32_t>& implementation<Sort<std::int32_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::int32_t>;
}
template <>
const Sort<std::int64_t>& implementation<Sort<std::int64_t>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<std::int64_t>;
}

}  // namespace narae
