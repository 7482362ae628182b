#include "tests/cuda_emulation/execution.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/cuda_emulation/errors.h"

namespace trireme::emulation {
namespace {

const char* OperationName(WarpOperation operation) {
  switch (operation) {
    case WarpOperation::kSync:
      return "__syncwarp";
    case WarpOperation::kShuffle:
      return "__shfl_sync";
    case WarpOperation::kShuffleUp:
      return "__shfl_up_sync";
    case WarpOperation::kShuffleDown:
      return "__shfl_down_sync";
    case WarpOperation::kShuffleXor:
      return "__shfl_xor_sync";
    case WarpOperation::kBallot:
      return "a vote";
    case WarpOperation::kMatrixMultiply:
      return "MmaBf16";
  }
  return "?";
}

std::string SiteText(const std::source_location& site) {
  const char* slash = strrchr(site.file_name(), '/');
  return Format("%s:%u", slash != nullptr ? slash + 1 : site.file_name(), site.line());
}

// By line: the compiler may have copied the call.
bool SameSite(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || strcmp(a.file_name(), b.file_name()) == 0);
}

std::string IndexText(const uint3& index) {
  return Format("(%u,%u,%u)", index.x, index.y, index.z);
}

uint3 BlockIndexOf(uint64_t number, const dim3& grid) {
  return {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
          static_cast<unsigned>(number / grid.x / grid.y)};
}

}  // namespace

constinit thread_local Execution* Execution::current_ = nullptr;

Execution::Execution(DeviceMemory& memory_in, const PinnedMemory& pinned_in)
    : memory(memory_in), pinned(pinned_in), fibers_(&FiberMain) {}

cudaError_t Execution::Run(const KernelLaunch& to_run) {
  launch = &to_run;
  failure_ = cudaSuccess;
  block_intervals_.clear();
  since_launch = MakeStamp(interval_ + 1, 0, 0);
  const dim3& block = to_run.block;
  num_threads_ = block.x * block.y * block.z;
  for (unsigned i = 0; i < num_threads(); ++i) {
    thread_indices[i] = {i % block.x, i / block.x % block.y, i / block.x / block.y};
  }
  current_ = this;
  const uint64_t num_blocks = uint64_t{to_run.grid.x} * to_run.grid.y * to_run.grid.z;
  for (uint64_t i = 0; i < num_blocks && failure_ == cudaSuccess; ++i) {
    block_index = BlockIndexOf(i, to_run.grid);
    RunBlock();
  }
  current_ = nullptr;
  launch = nullptr;
  return failure_;
}

uint32_t Execution::LanesOf(unsigned warp) const {
  const unsigned lanes = std::min(kWarpSize, num_threads() - warp * kWarpSize);
  return lanes == kWarpSize ? ~0u : (1u << lanes) - 1;
}

void Execution::NewInterval() { since_barrier = MakeStamp(++interval_, 0, 0); }

void Execution::RunBlock() {
  NewInterval();
  since_block = since_barrier;
  block_intervals_.push_back(interval_);
  const unsigned n = num_threads();
  const unsigned num_warps = (n + kWarpSize - 1) / kWarpSize;
  for (unsigned i = 0; i < n; ++i) threads_[i].state = State::kFresh;
  for (unsigned warp = 0; warp < num_warps; ++warp) {
    warps_[warp].runnable = LanesOf(warp);
    warps_[warp].present = 0;
    warps_[warp].interval = 0;
  }
  for (;;) {
    for (unsigned warp = 0; warp < num_warps; ++warp) {
      RunWarp(warp);
      if (failure_ != cudaSuccess) {
        fibers_.Restart();
        return;
      }
    }
    if (std::all_of(threads_.begin(), threads_.begin() + n,
                    [](const Thread& t) { return t.state == State::kExited; })) {
      return;
    }
    ReleaseBarrier();
    if (failure_ != cudaSuccess) {
      fibers_.Restart();
      return;
    }
  }
}

void Execution::RunWarp(unsigned warp) {
  const uint32_t& runnable = warps_[warp].runnable;
  while (runnable != 0) {
    // Lane after lane, so that all lanes stop at the next meeting before any goes on.
    for (uint32_t round = runnable; round != 0; round &= round - 1) {
      const unsigned lane = static_cast<unsigned>(std::countr_zero(round));
      if ((runnable >> lane & 1) == 0) continue;  // A fiber took over its neighbour's thread.
      Resume(warp * kWarpSize + lane);
      if (failure_ != cudaSuccess) return;
    }
  }
  const unsigned end = std::min((warp + 1) * kWarpSize, num_threads());
  for (unsigned i = warp * kWarpSize; i < end; ++i) {
    if (threads_[i].state == State::kInWarp) {
      StopWarp(warp);
      return;
    }
  }
}

void Execution::EnterThread(unsigned index) {
  const unsigned warp = index / kWarpSize;
  thread = index;
  stack_begin = running_->stack_begin;
  me = since_barrier | Stamp{index} << kThreadShift |
       Stamp{warps_[warp].interval} << kWarpIntervalShift;
  warps_[warp].runnable &= ~(1u << index % kWarpSize);
}

void Execution::Resume(unsigned index) {
  Thread& resumed = threads_[index];
  if (resumed.state == State::kFresh) resumed.fiber = fibers_.Take();
  running_ = resumed.fiber;
  EnterThread(index);
  SwitchFiber(scheduler_, *running_);
}

void Execution::Suspend() { SwitchFiber(*running_, scheduler_); }

void Execution::FiberMain() {
  for (;;) {
    Execution& execution = *current_;
    Thread& mine = execution.threads_[execution.thread];
    mine.state = State::kRunnable;
    mine.fiber = execution.running_;
    execution.launch->signature->invoke(execution.launch->kernel, execution.launch->params.data());
    execution.threads_[execution.thread].state = State::kExited;
    // The next thread of the warp begins on this stack: kernels without barriers never switch.
    const unsigned next = execution.thread + 1;
    if (next % kWarpSize != 0 && next < execution.num_threads() &&
        execution.threads_[next].state == State::kFresh) {
      execution.EnterThread(next);
      continue;
    }
    Fiber* fiber = execution.running_;
    execution.fibers_.Return(fiber);
    SwitchFiber(*fiber, execution.scheduler_);
  }
}

bool Execution::BlockBarrier(bool predicate, int* count, const std::source_location& site) {
  Thread& mine = threads_[thread];
  mine.state = State::kAtBarrier;
  mine.site = site;
  barrier_count_ += predicate ? 1 : 0;
  Suspend();
  if (count != nullptr) *count = last_barrier_count_;
  return last_barrier_count_ > 0;
}

void Execution::ReleaseBarrier() {
  const unsigned n = num_threads();
  const auto first = std::find_if(threads_.begin(), threads_.begin() + n,
                                  [](const Thread& t) { return t.state == State::kAtBarrier; });
  for (unsigned i = 0; i < n; ++i) {
    const Thread& other = threads_[i];
    if (other.state == State::kAtBarrier && SameSite(other.site, first->site)) continue;
    const unsigned waiting = static_cast<unsigned>(first - threads_.begin());
    thread = waiting;
    const std::string who =
        "thread " + IndexText(thread_indices[i]) +
        (other.state == State::kExited ? " has exited"
                                       : " waits at the one at " + SiteText(other.site));
    failure_ = cudaErrorLaunchFailure;
    ReportError(DescribeStamp(since_barrier | Stamp{waiting} << kThreadShift) +
                ": divergent barrier: it waits at " + SiteText(first->site) + ", " + who);
    return;
  }
  for (unsigned i = 0; i < n; ++i) threads_[i].state = State::kRunnable;
  for (unsigned warp = 0; warp * kWarpSize < n; ++warp) {
    warps_[warp].runnable = LanesOf(warp);
  }
  last_barrier_count_ = barrier_count_;
  barrier_count_ = 0;
  NewInterval();
}

void Execution::WarpMeeting(WarpOperation operation, uint32_t mask, void* record,
                            void (*combine)(void* const* records, uint32_t mask),
                            const std::source_location& site) {
  const unsigned index = thread / kWarpSize;
  const unsigned lane = thread % kWarpSize;
  const uint32_t existing = LanesOf(index);
  // The full mask is what kernels write for "all of us", also in a last warp of fewer threads.
  const uint32_t meeting = mask == ~0u ? existing : mask;
  if ((mask >> lane & 1) == 0 || (meeting & ~existing) != 0) {
    Stop(cudaErrorLaunchFailure,
         Format("%s with mask 0x%08x, which %s, at ", OperationName(operation), mask,
                (mask >> lane & 1) == 0 ? Format("leaves out its own lane %u", lane).c_str()
                                        : "names lanes that do not exist") +
             SiteText(site));
  }
  Warp& warp = warps_[index];
  Thread* first = &threads_[index * kWarpSize];
  first[lane] = {State::kInWarp, operation, mask, first[lane].fiber, site};
  warp.records[lane] = record;
  warp.present |= 1u << lane;
  // Only when everybody is there do they have to be in the same call.
  bool complete = (warp.present & meeting) == meeting;
  for (uint32_t rest = complete ? meeting : 0; rest != 0; rest &= rest - 1) {
    const Thread& other = first[std::countr_zero(rest)];
    complete &= other.mask == mask && other.operation == operation && SameSite(other.site, site);
  }
  if (!complete) {
    Suspend();  // The last to come does the rest.
    return;
  }
  warp.present &= ~meeting;
  if (combine != nullptr) combine(warp.records, meeting);
  if (operation == WarpOperation::kSync && meeting == existing) {
    if (++warp.interval == 1024) {
      // The count begins again; a new interval keeps stamps of the old round apart.
      warp.interval = 0;
      NewInterval();
    }
  }
  for (uint32_t rest = meeting; rest != 0; rest &= rest - 1) {
    first[std::countr_zero(rest)].state = State::kRunnable;
  }
  warp.runnable |= meeting & ~(1u << lane);
  EnterThread(thread);
}

void Execution::StopWarp(unsigned warp) {
  const unsigned begin = warp * kWarpSize;
  const unsigned end = std::min(begin + kWarpSize, num_threads());
  for (unsigned i = begin; i < end; ++i) {
    const Thread& waiting = threads_[i];
    if (waiting.state != State::kInWarp) continue;
    for (unsigned j = begin; j < end; ++j) {
      const Thread& other = threads_[j];
      if ((waiting.mask >> (j - begin) & 1) == 0) continue;
      std::string why;
      if (other.state == State::kExited) {
        why = " has exited";
      } else if (other.state == State::kAtBarrier) {
        why = " waits at the barrier at " + SiteText(other.site);
      } else if (other.operation != waiting.operation || !SameSite(other.site, waiting.site)) {
        why = Format(" waits in %s at ", OperationName(other.operation)) + SiteText(other.site);
      } else if (other.mask != waiting.mask) {
        why = Format(" came with mask 0x%08x", other.mask);
      } else {
        continue;
      }
      failure_ = cudaErrorLaunchFailure;
      ReportError(DescribeStamp(since_barrier | Stamp{i} << kThreadShift) +
                  Format(": warp divergence: %s with mask 0x%08x at ",
                         OperationName(waiting.operation), waiting.mask) +
                  SiteText(waiting.site) + Format(", but lane %u", j - begin) + why);
      return;
    }
  }
}

void Execution::Stop(cudaError_t code, const std::string& what) {
  failure_ = code;
  ReportError(DescribeStamp(me) + ": " + what);
  SwitchFiber(*running_, scheduler_);
  __builtin_unreachable();
}

std::string Execution::DescribeStamp(Stamp stamp) const {
  const auto after =
      std::upper_bound(block_intervals_.begin(), block_intervals_.end(), IntervalOf(stamp));
  const uint64_t number = static_cast<uint64_t>(after - block_intervals_.begin()) - 1;
  return "kernel " + FunctionName(launch->kernel) + ", block " +
         IndexText(BlockIndexOf(number, launch->grid)) + ", thread " +
         IndexText(thread_indices[ThreadOf(stamp)]);
}

}  // namespace trireme::emulation
