#include "core/recorder.h"

#include <chrono>

namespace narae {
namespace {
thread_local Recording* active = nullptr;
}

Recording* recording() { return active; }
void set_recording(Recording* recording) { active = recording; }

std::vector<double> Recording::time(int repeats) const {
  using Clock = std::chrono::steady_clock;
  std::vector<double> best(calls_.size(), 1e300);
  for (int r = 0; r < repeats; ++r) {
    auto start = Clock::now();
    for (std::size_t i = 0; i < calls_.size(); ++i) {
      calls_[i]->run();
      const auto end = Clock::now();
      const double seconds = std::chrono::duration<double>(end - start).count();
      if (seconds < best[i]) best[i] = seconds;
      start = end;
    }
  }
  return best;
}

}  // namespace narae
