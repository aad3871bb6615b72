#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace narae {
namespace {

constexpr auto kSpin = std::chrono::microseconds(30);

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

struct Scratch {
  void* data = ::operator new(kScratchBytes, std::align_val_t(64));
  ~Scratch() { ::operator delete(data, std::align_val_t(64)); }
};

thread_local bool inside = false;  // this thread runs a chunk: nested calls go serial

// One job at a time. `claim` packs (generation << 32 | next chunk): a worker that wakes late cannot
// claim a chunk of a job that it has not read the description of.
class ThreadPool {
 public:
  explicit ThreadPool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }

  ~ThreadPool() {
    stop_.store(true);
    publish();
    for (auto& worker : workers_) worker.join();
  }

  bool try_run(std::int64_t chunks, void (*body)(const void*, std::int64_t), const void* context) {
    if (chunks > std::int64_t{0x7fffffff}) return false;
    std::unique_lock<std::mutex> lock(job_mutex_, std::try_to_lock);
    if (!lock) return false;  // another Python thread owns the workers: run serially
    const std::uint32_t generation = generation_.load() + 1;
    claim_.store(std::uint64_t{generation} << 32 |
                 kClosed);  // no claim succeeds while the job is described
    done_.store(0);
    body_.store(body);
    context_.store(context);
    total_.store(chunks);
    claim_.store(std::uint64_t{generation} << 32);
    publish();
    drain(generation);
    for (int spins = 0; done_.load(std::memory_order_acquire) < chunks;) {
      if (++spins < 2000) {
        relax();
      } else {
        std::this_thread::yield();
      }
    }
    return true;
  }

 private:
  static constexpr std::uint64_t kClosed = 0xffffffffu;

  void publish() {
    generation_.fetch_add(1);
    if (sleepers_.load() > 0) {
      std::lock_guard<std::mutex> lock(sleep_mutex_);
      wake_.notify_all();
    }
  }

  void drain(std::uint32_t generation) {
    inside = true;
    for (std::uint64_t claim = claim_.load();;) {
      if (static_cast<std::uint32_t>(claim >> 32) != generation) break;
      const auto chunk = static_cast<std::int64_t>(claim & kClosed);
      // The description is read before the claim succeeds, so it belongs to the claim's generation.
      const auto total = total_.load();
      const auto body = body_.load();
      const auto context = context_.load();
      if (chunk >= total) break;
      if (!claim_.compare_exchange_weak(claim, claim + 1)) continue;
      body(context, chunk);
      done_.fetch_add(1, std::memory_order_release);
      claim = claim_.load();
    }
    inside = false;
  }

  void work() {
    std::uint32_t seen = 0;
    while (!stop_.load()) {
      std::uint32_t generation = generation_.load();
      if (generation == seen) generation = wait(seen);
      seen = generation;
      drain(generation);
    }
  }

  std::uint32_t wait(std::uint32_t seen) {
    const auto start = std::chrono::steady_clock::now();
    std::uint32_t generation;
    while ((generation = generation_.load()) == seen) {
      relax();
      if (std::chrono::steady_clock::now() - start > kSpin) break;
    }
    if (generation != seen) return generation;
    sleepers_.fetch_add(1);
    {
      std::unique_lock<std::mutex> lock(sleep_mutex_);
      wake_.wait(lock, [&] { return generation_.load() != seen; });
    }
    sleepers_.fetch_sub(1);
    return generation_.load();
  }

  std::mutex job_mutex_, sleep_mutex_;
  std::condition_variable wake_;
  std::atomic<std::uint32_t> generation_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<std::uint64_t> claim_{0};
  std::atomic<std::int64_t> total_{0}, done_{0};
  std::atomic<void (*)(const void*, std::int64_t)> body_{nullptr};
  std::atomic<const void*> context_{nullptr};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

// CPUs granted by the control group (version 2, then 1), or `otherwise`.
int cgroup_cpus(int otherwise) {
  double quota = -1, period = -1;
  if (FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    if (std::fscanf(file, "%lf %lf", &quota, &period) != 2) quota = -1;
    std::fclose(file);
  } else if (FILE* old = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r")) {
    if (std::fscanf(old, "%lf", &quota) != 1) quota = -1;
    std::fclose(old);
    if (FILE* file_period = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r")) {
      if (std::fscanf(file_period, "%lf", &period) != 1) period = -1;
      std::fclose(file_period);
    }
  }
  if (quota <= 0 || period <= 0) return otherwise;
  return std::max(1, std::min(otherwise, static_cast<int>(quota / period + 0.5)));
}

int allowed_cpus() {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = CPU_COUNT(&set);
#endif
  return cgroup_cpus(std::max(1, cpus));
}

std::mutex pool_mutex;
ThreadPool* pool = nullptr;  // never destroyed at exit: workers may be asleep while statics go
std::atomic<int> threads{0};

#if defined(__unix__) || defined(__APPLE__)
// A forked child has none of the parent's workers: it forgets the pool and starts its own when it
// needs one.
void after_fork() {
  new (&pool_mutex) std::mutex;
  pool = nullptr;
}
const int fork_handler = pthread_atfork(nullptr, nullptr, after_fork);
#endif

ThreadPool* workers() {
  std::lock_guard<std::mutex> lock(pool_mutex);
  if (!pool) pool = new ThreadPool(num_threads());
  return pool;
}

}  // namespace

int default_num_threads() { return allowed_cpus(); }

int num_threads() {
  if (threads.load() == 0) threads.store(default_num_threads());
  return threads.load();
}

void set_num_threads(int wanted) {
  std::lock_guard<std::mutex> lock(pool_mutex);
  delete pool;
  pool = nullptr;
  threads.store(wanted);
}

void* scratch() {
  thread_local Scratch own;
  return own.data;
}

void parallel_run(std::int64_t chunks, void (*body)(const void*, std::int64_t),
                  const void* context) {
  if (!inside && num_threads() > 1 && workers()->try_run(chunks, body, context)) return;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
}

}  // namespace narae
