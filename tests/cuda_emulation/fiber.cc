#include "tests/cuda_emulation/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#if !defined(__x86_64__)
#error "the emulated device switches stacks in x86-64 assembly"
#endif

// System V ABI: rbx, rbp and r12 to r15 survive a call. The control words of the floating-point
// units do too, and nobody changes them.
asm(R"(
    .text
    .p2align 4
    .globl trireme_switch_stack
    .hidden trireme_switch_stack
    .type trireme_switch_stack, @function
trireme_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size trireme_switch_stack, .-trireme_switch_stack
)");
extern "C" void trireme_switch_stack(void** save, void* load);

namespace trireme::emulation {

void SwitchFiber(Fiber& from, const Fiber& to) {
  trireme_switch_stack(&from.stack_pointer, to.stack_pointer);
}

FiberPool::~FiberPool() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (const auto& fiber : all_) {
    munmap(reinterpret_cast<void*>(fiber->stack_begin - page), kFiberStackBytes + page);
  }
}

Fiber* FiberPool::Take() {
  if (idle_.empty()) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* pages = mmap(nullptr, kFiberStackBytes + page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages, page, PROT_NONE) != 0) {
      perror("emulated device: stack of a fiber");
      abort();
    }
    all_.push_back(std::make_unique<Fiber>());
    all_.back()->stack_begin = reinterpret_cast<uintptr_t>(pages) + page;
    Prepare(*all_.back());
    idle_.push_back(all_.back().get());
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return fiber;
}

void FiberPool::Restart() {
  idle_.clear();
  for (const auto& fiber : all_) {
    Prepare(*fiber);
    idle_.push_back(fiber.get());
  }
}

void FiberPool::Prepare(Fiber& fiber) {
  // As if `entry` had been called from nowhere, with the return address where the ABI wants it.
  auto* top = reinterpret_cast<void**>(fiber.stack_begin + kFiberStackBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry_);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
}

}  // namespace trireme::emulation
