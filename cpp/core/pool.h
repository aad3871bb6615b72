// Memory: a caching allocator for arrays, 64-byte aligned. Small blocks come in size classes a
// quarter of a power of two apart; large ones are split and merged as needed.
//
// Freed blocks stay in their pool and are handed out again. A recording owns a private pool: the
// addresses that it has recorded stay valid as long as it lives, and intermediates freed while
// recording are reused within it. A pool goes when its last handle and its last block are gone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace narae {

struct MemoryStats {
  std::int64_t allocated_bytes;  // in live arrays
  std::int64_t peak_bytes;       // highest allocated_bytes since the start or reset_peak_memory()
  std::int64_t cached_bytes;     // freed and kept for reuse
};

class Pool;
Pool* new_pool();
void release_pool(Pool* pool);  // the handle; live blocks keep the pool's memory

// 64-byte aligned memory of at least `bytes` bytes, from `pool` (nullptr: the common one). Throws
// std::bad_alloc.
void* allocate(std::size_t bytes, Pool* pool = nullptr);
void deallocate(void* memory);
Pool* pool_of(const void* memory);  // of memory from allocate()

MemoryStats memory_stats();
void reset_peak_memory();
void empty_cache();  // gives the common pool's cached blocks back to the system

// For tests: fresh memory is filled with NaNs (0xff bytes) and followed by a guard band that is
// checked when it is freed.
void set_poison(bool on);
std::int64_t guard_violations();

}  // namespace narae
