// Record and replay: a training step with fixed shapes makes the same native calls every time.
//
// `launch(kernel, arguments...)` is the only way in which bindings call kernels. It runs the kernel
// and, when the calling thread is recording, appends the call to the recording. `replay()` makes
// the calls again: same functions, same pointers, same parameters. What changes from step to step
// is therefore memory, never an argument.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/pool.h"

namespace narae {

class Recording {
 public:
  struct Call {
    virtual ~Call() = default;
    virtual void run() const = 0;
  };
  // What a call has to do at least: operations on floats, bytes of the arrays it reads and writes.
  struct Work {
    double flops = 0, bytes = 0;
  };

  Recording() : pool_(new_pool()) {}
  ~Recording() {
    calls_.clear();
    kept_.clear();
    release_pool(pool_);
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  void append(std::unique_ptr<Call> call) {
    calls_.push_back(std::move(call));
    work_.push_back(std::exchange(expected_, {}));
  }
  void expect(Work work) {  // of the next call
    expected_.flops += work.flops;
    expected_.bytes += work.bytes;
  }
  void keep(std::shared_ptr<void> owner) { kept_.push_back(std::move(owner)); }
  void abandon(std::string reason) {
    if (reason_.empty()) reason_ = std::move(reason);
  }
  void replay() const {
    for (const auto& call : calls_) call->run();
  }
  std::vector<double> time(int repeats) const;  // seconds of each call, the least of all replays
  const std::vector<Work>& work() const { return work_; }

  Pool* pool() const { return pool_; }
  bool owns(const void* memory) const { return pool_of(memory) == pool_; }
  std::size_t size() const { return calls_.size(); }
  const std::string& reason() const {
    return reason_;
  }  // why it cannot be replayed; empty if it can

 private:
  Pool* pool_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<Work> work_;  // of each call
  Work expected_;
  std::vector<std::shared_ptr<void>>
      kept_;  // owners of memory that the calls touch and that is not of pool_
  std::string reason_;
};

// The recording of this thread, or nullptr.
Recording* recording();
void set_recording(Recording* recording);

// Notes for a recording under way what the next call has to do.
inline void expect_flops(double flops) {
  if (Recording* active = recording()) active->expect({flops, 0});
}
inline void expect_bytes(double bytes) {
  if (Recording* active = recording()) active->expect({0, bytes});
}

template <class... P, class... A>
void launch(void (*kernel)(P...), A&&... arguments) {
  struct Bound final : Recording::Call {
    Bound(void (*k)(P...), std::decay_t<P>... p) : kernel(k), parameters(p...) {}
    void run() const override { std::apply(kernel, parameters); }
    void (*kernel)(P...);
    std::tuple<std::decay_t<P>...> parameters;
  };
  if (Recording* active = recording()) {
    auto call = std::make_unique<Bound>(kernel, arguments...);
    call->run();
    active->append(std::move(call));
  } else {
    kernel(std::forward<A>(arguments)...);
  }
}

// A test of values that must hold before the calls after it may run (indices in range): `check` may
// throw.
inline void launch_check(std::function<void()> check) {
  struct Bound final : Recording::Call {
    explicit Bound(std::function<void()> f) : check(std::move(f)) {}
    void run() const override { check(); }
    std::function<void()> check;
  };
  check();
  if (Recording* active = recording()) active->append(std::make_unique<Bound>(std::move(check)));
}

}  // namespace narae
