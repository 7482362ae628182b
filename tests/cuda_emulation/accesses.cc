// Every access of a kernel to memory: the compiler, told -fsanitize=thread, calls the functions
// below before each, and -fsanitize=alignment those at the end for misaligned ones. The sanitizers'
// own runtimes are not linked.
#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "tests/cuda_emulation/builtins.h"
#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/execution.h"

namespace trireme::emulation {
namespace {

enum class Kind { kRead, kWrite, kAtomic };

const char* KindName(Kind kind) {
  return kind == Kind::kRead ? "reads" : kind == Kind::kWrite ? "writes" : "atomically updates";
}

// Whether the running thread is not ordered after what the stamp stands for.
inline bool Unordered(const Execution& execution, Stamp stamp, Stamp since) {
  if (stamp < since) return false;
  const Breadth breadth = BreadthOf(stamp);
  if (stamp < execution.since_block || breadth == Breadth::kGrid) return true;
  if (stamp < execution.since_barrier) return false;
  if (breadth == Breadth::kBlock) return true;
  if (ThreadOf(stamp) / kWarpSize != ThreadOf(execution.me) / kWarpSize) return true;
  if (WarpIntervalOf(stamp) != WarpIntervalOf(execution.me)) return false;
  return breadth == Breadth::kWarp || ThreadOf(stamp) != ThreadOf(execution.me);
}

// The stamp of all accesses so far and ours, none of which excludes the others.
inline Stamp Merge(const Execution& execution, Stamp stamp, Stamp since) {
  if (stamp < since) return execution.me;
  const Breadth breadth = BreadthOf(stamp);
  if (stamp < execution.since_block || breadth == Breadth::kGrid) {
    return WithBreadth(execution.me, Breadth::kGrid);
  }
  if (stamp < execution.since_barrier) return execution.me;
  if (breadth == Breadth::kBlock ||
      ThreadOf(stamp) / kWarpSize != ThreadOf(execution.me) / kWarpSize) {
    return WithBreadth(execution.me, Breadth::kBlock);
  }
  if (WarpIntervalOf(stamp) != WarpIntervalOf(execution.me)) return execution.me;
  const bool alone = breadth == Breadth::kThread && ThreadOf(stamp) == ThreadOf(execution.me);
  return WithBreadth(execution.me, alone ? Breadth::kThread : Breadth::kWarp);
}

// Whether a stamp of this launch excludes as much as it would with our access.
inline bool SpeaksForMe(const Execution& execution, Stamp stamp) {
  const Breadth breadth = BreadthOf(stamp);
  return breadth == Breadth::kGrid ||
         (breadth == Breadth::kBlock && stamp >= execution.since_barrier);
}

[[noreturn, gnu::cold]] void StopRace(Execution& execution, Kind kind, const void* address,
                                      Stamp stamp, const char* other, const void* caller) {
  const char* breadths[] = {"", " and others of its warp", " and others of its block",
                            " and others of other blocks"};
  execution.Stop(cudaErrorLaunchFailure,
                 Format("race: %s ", KindName(kind)) + execution.memory.Describe(address) +
                     SourceLine(caller) + Format(", %s without a barrier between by ", other) +
                     execution.DescribeStamp(stamp) + breadths[static_cast<int>(BreadthOf(stamp))]);
}

[[noreturn, gnu::cold]] void StopInvalid(Execution& execution, Kind kind, const void* address,
                                         size_t bytes, const char* what, const void* caller) {
  execution.Stop(cudaErrorIllegalAddress, Format("%s %zu bytes%s: ", KindName(kind), bytes, what) +
                                              execution.memory.Describe(address) +
                                              SourceLine(caller));
}

[[gnu::noinline]] void CheckOther(Execution& execution, Kind kind, const void* address,
                                  size_t bytes, const void* caller) {
  // Large arguments are copied to the stack by a call, on behalf of the kernel.
  const std::vector<unsigned char>& params = execution.launch->params;
  const auto offset =
      reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(params.data());
  if (kind == Kind::kRead && offset < params.size() && bytes <= params.size() - offset) return;
  if (execution.pinned.Contains(address, bytes)) return;
  if (kind == Kind::kRead && IsReadOnlyProgramData(address, bytes)) return;
  StopInvalid(execution, kind, address, bytes, " of host memory", caller);
}

template <Kind kKind>
inline void CheckCell(Execution& execution, Cell& cell, size_t offset, size_t bytes, bool is_shared,
                      Stamp since, const void* caller) {
  const void* address = reinterpret_cast<const void*>(execution.memory.begin() + offset);
  const Stamp write = cell.write;
  ByteState state = StateOf(write);
  if (is_shared) {
    state = write >= execution.since_block ? ByteState::kWritten : ByteState::kUninitialized;
  }
  if (state != ByteState::kWritten &&
      (kKind != Kind::kWrite || state != ByteState::kUninitialized)) {
    const char* what = state == ByteState::kUninitialized ? " that nobody wrote"
                       : state == ByteState::kFreed       ? " that are freed or never handed out"
                                                          : " out of bounds";
    StopInvalid(execution, kKind, address, bytes, what, caller);
  }
  if (kKind != Kind::kAtomic || (write & kAtomicBit) == 0) {
    if (Unordered(execution, write, since)) {
      StopRace(execution, kKind, address, write,
               (write & kAtomicBit) != 0 ? "atomically updated" : "written", caller);
    }
  }
  if constexpr (kKind == Kind::kRead) {
    if (cell.read != execution.me) cell.read = Merge(execution, cell.read, since);
    return;
  }
  if (Unordered(execution, cell.read, since)) {
    StopRace(execution, kKind, address, cell.read, "read", caller);
  }
  const Stamp stamp =
      kKind == Kind::kAtomic ? Merge(execution, write, since) | kAtomicBit : execution.me;
  cell.write = WithState(stamp, ByteState::kWritten);
}

// The usual case, of which there are very many: the last accesses to the cells are certainly
// ordered before this one. False where CheckFully has to look.
template <Kind kKind>
[[gnu::always_inline]] inline bool CheckQuickly(const Execution& execution, size_t offset,
                                                size_t bytes) {
  const DeviceMemory& memory = execution.memory;
  if (kKind == Kind::kAtomic || offset >= memory.range_bytes()) return false;
  int shift;
  Cell* cell = memory.shadow().CellsThere(offset, bytes, shift);
  if (cell == nullptr) return false;
  const bool is_shared = offset >= memory.shared_offset();
  if (is_shared && offset + bytes > memory.shared_offset() + execution.launch->shared_bytes) {
    return false;
  }
  // Shared memory is the block's alone: there whatever was before the last barrier is in order.
  const Stamp limit = is_shared ? execution.since_barrier : execution.since_launch;
  for (const Cell* end = cell + (bytes >> shift); cell < end; ++cell) {
    const Stamp write = cell->write;
    if (write >= limit) return false;
    if constexpr (kKind == Kind::kRead) {
      if (is_shared ? write < execution.since_block : StateOf(write) != ByteState::kWritten)
        return false;
      const Stamp read = cell->read;
      if (read < limit) {
        cell->read = execution.me;
      } else if (read != execution.me && !SpeaksForMe(execution, read)) {
        return false;
      }
    } else {
      const ByteState state = StateOf(write);
      const bool writable = state == ByteState::kWritten || state == ByteState::kUninitialized;
      if ((!is_shared && !writable) || cell->read >= limit) return false;
      cell->write = WithState(execution.me, ByteState::kWritten);
    }
  }
  return true;
}

template <Kind kKind>
[[gnu::noinline]] void CheckFully(Execution* execution, const void* pointer, size_t bytes,
                                  const void* caller) {
  size_t offset = execution->memory.Offset(pointer);
  DeviceMemory& memory = execution->memory;
  if (offset >= memory.range_bytes()) [[unlikely]] {
    CheckOther(*execution, kKind, pointer, bytes, caller);
    return;
  }
  Shadow& shadow = memory.shadow();
  const bool is_shared = offset >= memory.shared_offset();
  const Stamp since = is_shared ? execution->since_block : execution->since_launch;
  if (is_shared && offset + bytes > memory.shared_offset() + execution->launch->shared_bytes)
      [[unlikely]] {
    StopInvalid(*execution, kKind, pointer, bytes,
                Format(" outside of the %zu bytes", execution->launch->shared_bytes).c_str(),
                caller);
  }
  for (;;) {
    // Pages have cells of their own size; only ranges and unaligned accesses meet two of them.
    const size_t here = std::min(bytes, kPageBytes - (offset & (kPageBytes - 1)));
    int shift;
    Cell* cell = shadow.Cells(offset, here, shift);
    for (size_t i = 0; i < here; i += size_t{1} << shift) {
      CheckCell<kKind>(*execution, *cell++, offset + i, bytes, is_shared, since, caller);
    }
    if (here == bytes) [[likely]]
      return;
    offset += here;
    bytes -= here;
  }
}

template <Kind kKind>
[[gnu::always_inline]] inline void Check(const void* pointer, size_t bytes) {
  Execution* execution = Execution::Current();
  if (execution == nullptr) return;
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (address - execution->stack_begin < kFiberStackBytes) return;
  if (CheckQuickly<kKind>(*execution, address - execution->memory.begin(), bytes)) return;
  CheckFully<kKind>(execution, pointer, bytes, __builtin_return_address(0));
}

[[gnu::cold]] void CheckMisaligned(const void* pointer, size_t alignment, const void* caller) {
  Execution* execution = Execution::Current();
  if (execution == nullptr) return;
  execution->Stop(cudaErrorMisalignedAddress,
                  Format("%p is not aligned to %zu bytes: ", pointer, alignment) +
                      execution->memory.Describe(pointer) + SourceLine(caller));
}

}  // namespace

void CheckAtomic(const void* address, size_t bytes) {
  if ((reinterpret_cast<uintptr_t>(address) & (bytes - 1)) != 0) {
    CheckMisaligned(address, bytes, __builtin_return_address(0));
  }
  Check<Kind::kAtomic>(address, bytes);
}

}  // namespace trireme::emulation

using trireme::emulation::Check;
using trireme::emulation::Kind;

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

#define ACCESSES_OF(bytes)                                                       \
  void __tsan_read##bytes(void* p) { Check<Kind::kRead>(p, bytes); }             \
  void __tsan_write##bytes(void* p) { Check<Kind::kWrite>(p, bytes); }           \
  void __tsan_unaligned_read##bytes(void* p) { Check<Kind::kRead>(p, bytes); }   \
  void __tsan_unaligned_write##bytes(void* p) { Check<Kind::kWrite>(p, bytes); } \
  void __tsan_volatile_read##bytes(void* p) { Check<Kind::kRead>(p, bytes); }    \
  void __tsan_volatile_write##bytes(void* p) { Check<Kind::kWrite>(p, bytes); }
ACCESSES_OF(1)
ACCESSES_OF(2)
ACCESSES_OF(4)
ACCESSES_OF(8)
ACCESSES_OF(16)
#undef ACCESSES_OF

void __tsan_read_range(void* p, size_t bytes) {
  if (bytes > 0) Check<Kind::kRead>(p, bytes);
}
void __tsan_write_range(void* p, size_t bytes) {
  if (bytes > 0) Check<Kind::kWrite>(p, bytes);
}
void __tsan_vptr_read(void*) {}
void __tsan_vptr_update(void*, void*) {}

// What calls of these names in kernels become (language/memory_functions.h).
void* trireme_emulated_memcpy(void* to, const void* from, size_t bytes) {
  __tsan_read_range(const_cast<void*>(from), bytes);
  __tsan_write_range(to, bytes);
  return memcpy(to, from, bytes);
}
void* trireme_emulated_memmove(void* to, const void* from, size_t bytes) {
  __tsan_read_range(const_cast<void*>(from), bytes);
  __tsan_write_range(to, bytes);
  return memmove(to, from, bytes);
}
void* trireme_emulated_memset(void* to, int value, size_t bytes) {
  __tsan_write_range(to, bytes);
  return memset(to, value, bytes);
}

// The compiler's data of a -fsanitize=alignment check.
struct TypeMismatchData {
  const char* file;
  uint32_t line;
  uint32_t column;
  const void* type;
  unsigned char log_alignment;
  unsigned char kind;
};
void __ubsan_handle_type_mismatch_v1(TypeMismatchData* data, void* pointer) {
  trireme::emulation::CheckMisaligned(pointer, size_t{1} << data->log_alignment,
                                      __builtin_return_address(0));
}

// Host code beside the kernels may use atomics of its own.
#define ATOMICS_OF(bits, Word)                                                                     \
  Word __tsan_atomic##bits##_load(const volatile Word* p, int) {                                   \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile Word* p, Word v, int) {                                \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  Word __tsan_atomic##bits##_exchange(volatile Word* p, Word v, int) {                             \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  Word __tsan_atomic##bits##_fetch_add(volatile Word* p, Word v, int) {                            \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  Word __tsan_atomic##bits##_fetch_sub(volatile Word* p, Word v, int) {                            \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  Word __tsan_atomic##bits##_fetch_and(volatile Word* p, Word v, int) {                            \
    return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  Word __tsan_atomic##bits##_fetch_or(volatile Word* p, Word v, int) {                             \
    return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                              \
  }                                                                                                \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile Word* p, Word* expected, Word v,     \
                                                     int, int) {                                   \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                \
  bool __tsan_atomic##bits##_compare_exchange_weak(volatile Word* p, Word* expected, Word v, int,  \
                                                   int) {                                          \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
ATOMICS_OF(8, uint8_t)
ATOMICS_OF(16, uint16_t)
ATOMICS_OF(32, uint32_t)
ATOMICS_OF(64, uint64_t)
#undef ATOMICS_OF
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

}  // extern "C"
