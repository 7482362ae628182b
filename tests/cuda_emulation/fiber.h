// Fibers: stacks of their own and a switch between them that saves what the ABI says a call keeps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace trireme::emulation {

struct Fiber {
  void* stack_pointer = nullptr;  // While it does not run.
  uintptr_t stack_begin = 0;      // Below lies a page that nobody may touch.
};

inline constexpr size_t kFiberStackBytes = 64 << 10;

// Goes on where `to` stopped; returns when somebody switches back to `from`.
void SwitchFiber(Fiber& from, const Fiber& to);

// Fibers whose stacks are used again and again. `entry` never returns.
class FiberPool {
 public:
  explicit FiberPool(void (*entry)()) : entry_(entry) {}
  ~FiberPool();
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;

  Fiber* Take();
  void Return(Fiber* fiber) { idle_.push_back(fiber); }
  // All fibers begin anew: what they were in the middle of is dropped, no destructor runs.
  void Restart();

 private:
  void Prepare(Fiber& fiber);

  void (*entry_)();
  std::vector<std::unique_ptr<Fiber>> all_;
  std::vector<Fiber*> idle_;
};

}  // namespace trireme::emulation
