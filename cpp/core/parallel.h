// Threads: parallel_for(chunks, body) calls body(chunk) for every chunk in [0, chunks), in any
// order.
//
// The caller works too and chunks are claimed from one atomic counter, so a thread that loses its
// core delays nobody by more than one chunk. Workers spin for some tens of microseconds, then
// sleep. Callers choose the chunks from the shape of the work, never from the number of threads,
// and combine partial results in chunk order: the same bits come out for any number of threads. A
// parallel_for inside another runs serially; so does one with a single chunk.
#pragma once

#include <cstddef>
#include <cstdint>

namespace narae {

int num_threads();
void set_num_threads(int threads);  // >= 1
int default_num_threads();          // CPUs allowed by affinity mask and cgroup quota
                                    // quota

// Workspace of the calling thread, kScratchBytes long, 64-byte aligned; its content is lost at the
// next kernel.
inline constexpr std::size_t kScratchBytes = std::size_t{1} << 20;
void* scratch();

void parallel_run(std::int64_t chunks, void (*body)(const void* context, std::int64_t chunk),
                  const void* context);

template <class Body>
inline void parallel_for(std::int64_t chunks, const Body& body) {
  if (chunks == 1) {
    body(std::int64_t{0});
  } else if (chunks > 1) {
    parallel_run(
        chunks,
        [](const void* context, std::int64_t chunk) {
          (*static_cast<const Body*>(context))(chunk);
        },
        &body);
  }
}

// Splits [0, n) in ranges of `grain` (the last may be shorter): body(begin, end). A grain is worth
// about 10 us of work.
template <class Body>
inline void parallel_ranges(std::int64_t n, std::int64_t grain, const Body& body) {
  parallel_for((n + grain - 1) / grain, [&](std::int64_t chunk) {
    const std::int64_t begin = chunk * grain, end = begin + grain < n ? begin + grain : n;
    body(begin, end);
  });
}

}  // namespace narae
