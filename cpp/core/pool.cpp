#include "core/pool.h"

#include <atomic>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace narae {

namespace {

constexpr std::size_t kAlign = 64, kGuard = 64, kHugePage = std::size_t{2} << 20;
constexpr std::size_t kLarge = std::size_t{1} << 20;  // blocks from here on are split and merged
constexpr unsigned char kPoisonByte = 0xff, kGuardByte = 0xa5;

std::atomic<bool> poison{false};
std::atomic<std::int64_t> violations{0}, allocated{0}, peak{0}, cached{0};

// In front of every block; as long as the alignment.
struct alignas(kAlign) Header {
  Pool* pool;
  std::size_t capacity;   // bytes after the header
  std::size_t requested;  // bytes that the caller asked for
  bool guarded, free;
  Header *before, *after;  // neighbours in the same piece of the system's memory
};
static_assert(sizeof(Header) == kAlign);

// Sizes 2^k * {1, 1.25, 1.5, 1.75}: at most a fifth of a block is wasted. Large ones are split, so
// they need no classes.
std::size_t size_class(std::size_t bytes) {
  constexpr std::size_t kStep = std::size_t{16} << 10;
  if (bytes >= kLarge) return (bytes + kStep - 1) / kStep * kStep;
  std::size_t power = 256;
  while (power * 2 <= bytes) power *= 2;
  if (bytes <= power) return power;
  const std::size_t step = power / 4;
  return (bytes + step - 1) / step * step;
}

Header* system_allocate(std::size_t capacity) {
  const std::size_t total = sizeof(Header) + capacity;
  const bool large = total >= kHugePage;
  void* memory = ::operator new(total, std::align_val_t(large ? kHugePage : kAlign));
#if defined(__linux__)
  if (large) madvise(memory, total, MADV_HUGEPAGE);
#endif
  return new (memory) Header{nullptr, capacity, 0, false, false, nullptr, nullptr};
}

void system_free(Header* header) {
  const bool large = sizeof(Header) + header->capacity >= kHugePage;
  ::operator delete(header, std::align_val_t(large ? kHugePage : kAlign));
}

void raise_peak(std::int64_t now) {
  std::int64_t seen = peak.load();
  while (now > seen && !peak.compare_exchange_weak(seen, now)) {
  }
}

}  // namespace

class Pool {
 public:
  Header* take(std::size_t capacity) {
    std::lock_guard<std::mutex> lock(mutex_);
    ++references_;
    return capacity < kLarge ? take_small(capacity) : take_large(capacity);
  }

  void give(Header* header) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      cached += static_cast<std::int64_t>(header->capacity);
      if (header->capacity < kLarge) {
        small_[header->capacity].push_back(header);
      } else {
        give_large(header);
      }
    }
    drop_reference();
  }

  void drop_reference() {
    bool last;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      last = --references_ == 0;
    }
    if (last) delete this;
  }

  void trim() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& [capacity, headers] : small_) {
      for (Header* header : headers) drop(header);
      headers.clear();
    }
    for (auto at = large_.begin(); at != large_.end();) {
      Header* header = at->second;
      const bool whole = !header->before && !header->after;
      at = whole ? large_.erase(at) : std::next(at);
      if (whole) drop(header);
    }
  }

 private:
  ~Pool() { trim(); }

  static void drop(Header* header) {
    cached -= static_cast<std::int64_t>(header->capacity);
    system_free(header);
  }

  Header* take_small(std::size_t capacity) {
    auto found = small_.find(capacity);
    if (found == small_.end() || found->second.empty()) return nullptr;
    Header* header = found->second.back();
    found->second.pop_back();
    cached -= static_cast<std::int64_t>(capacity);
    return header;
  }

  // The smallest free block that will do. What it has too much becomes a free block of its own.
  Header* take_large(std::size_t capacity) {
    auto found = large_.lower_bound({capacity, nullptr});
    if (found == large_.end()) return nullptr;
    Header* header = found->second;
    large_.erase(found);
    if (header->capacity >= capacity + sizeof(Header) + kLarge) {
      void* rest = reinterpret_cast<char*>(header + 1) + capacity;
      auto* tail = new (rest)
          Header{nullptr,      header->capacity - capacity - sizeof(Header), 0, false, true, header,
                 header->after};
      if (tail->after) tail->after->before = tail;
      header->after = tail;
      header->capacity = capacity;
      large_.insert({tail->capacity, tail});
      cached -= static_cast<std::int64_t>(sizeof(Header));
    }
    header->free = false;
    cached -= static_cast<std::int64_t>(header->capacity);
    return header;
  }

  // Free neighbours become one block.
  void give_large(Header* header) {
    header->free = true;
    if (header->after && header->after->free) swallow_next(header);
    if (header->before && header->before->free) {
      header = header->before;
      swallow_next(header);
    }
    large_.insert({header->capacity, header});
  }

  void swallow_next(Header* header) {
    Header* next = header->after;
    large_.erase({header->capacity, header});
    large_.erase({next->capacity, next});
    header->capacity += sizeof(Header) + next->capacity;
    header->after = next->after;
    if (header->after) header->after->before = header;
    cached += static_cast<std::int64_t>(sizeof(Header));
  }

  std::mutex mutex_;
  std::map<std::size_t, std::vector<Header*>> small_;
  std::set<std::pair<std::size_t, Header*>> large_;
  std::int64_t references_ = 1;  // the handle and the live blocks
};

namespace {
Pool* common_pool() {
  static Pool* common = new Pool;
  return common;
}
}  // namespace

Pool* new_pool() { return new Pool; }
void release_pool(Pool* pool) { pool->drop_reference(); }

void* allocate(std::size_t bytes, Pool* pool) {
  if (bytes > SIZE_MAX / 4) throw std::bad_alloc();
  // A recording's blocks change hands within a step, and replays write them in that order again: a
  // guard laid down once would be overwritten by rights.
  const bool poisoned = poison.load(std::memory_order_relaxed), guarded = poisoned && !pool;
  if (!pool) pool = common_pool();
  const std::size_t capacity = size_class(bytes + (guarded ? kGuard : 0));
  Header* header = pool->take(capacity);
  if (!header) {
    try {
      header = system_allocate(capacity);
    } catch (...) {
      pool->drop_reference();
      throw;
    }
  }
  header->pool = pool;
  header->requested = bytes;
  header->guarded = guarded;
  auto* memory = reinterpret_cast<unsigned char*>(header + 1);
  if (poisoned) std::memset(memory, kPoisonByte, bytes);
  if (guarded) std::memset(memory + bytes, kGuardByte, kGuard);
  raise_peak(allocated += static_cast<std::int64_t>(header->capacity));
  return memory;
}

void deallocate(void* memory) {
  Header* header = static_cast<Header*>(memory) - 1;
  if (header->guarded) {
    const auto* guard = static_cast<unsigned char*>(memory) + header->requested;
    for (std::size_t i = 0; i < kGuard; ++i) {
      if (guard[i] != kGuardByte) {
        ++violations;
        break;
      }
    }
  }
  allocated -= static_cast<std::int64_t>(header->capacity);
  header->pool->give(header);
}

Pool* pool_of(const void* memory) { return (static_cast<const Header*>(memory) - 1)->pool; }

MemoryStats memory_stats() { return {allocated.load(), peak.load(), cached.load()}; }
void reset_peak_memory() { peak.store(allocated.load()); }
void empty_cache() { common_pool()->trim(); }
void set_poison(bool on) { poison.store(on); }
std::int64_t guard_violations() { return violations.load(); }

}  // namespace narae
