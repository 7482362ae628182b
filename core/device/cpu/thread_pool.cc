#include "core/device/cpu/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <exception>

#include "core/base/log.h"

namespace trireme {
namespace {

// Kernels of a step follow each other within microseconds, so a short spin saves most sleeps; ranks
// share cores, so it stays short.
constexpr std::chrono::microseconds kSpin(20);

template <typename Condition>
void SpinUntil(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  while (!condition() && std::chrono::steady_clock::now() < deadline) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
}

}  // namespace

struct ThreadPool::Loop {
  Loop(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> fn)
      : n(n), grain(grain), fn(fn) {}

  const int64_t n, grain;
  const absl::FunctionRef<void(int64_t, int64_t)> fn;
  std::atomic<int64_t> next = 0;    // The first element not handed out yet.
  std::atomic<int> num_joined = 0;  // Workers inside. Rises under ThreadPool::mutex_ only.

  std::mutex mutex;
  std::exception_ptr error;
  int64_t error_at = 0;

  void Run() {
    for (;;) {
      const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= n) return;
      try {
        fn(begin, std::min(n, begin + grain));
      } catch (...) {
        // Tiles are handed out in order, so all before a failed one run: the first error is always
        // met.
        next.store(n, std::memory_order_relaxed);
        const std::lock_guard<std::mutex> lock(mutex);
        if (error == nullptr || begin < error_at) {
          error = std::current_exception();
          error_at = begin;
        }
      }
    }
  }
};

ThreadPool::ThreadPool(int num_threads) {
  CHECK(num_threads >= 1) << num_threads << " threads";
  for (int i = 1; i < num_threads; ++i) {
    workers_.emplace_back([this, rank = LogRank()] {
      SetLogRank(rank);
      WorkerMain();
    });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  num_loops_.fetch_add(1);
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ParallelFor(int64_t n, int64_t grain,
                             absl::FunctionRef<void(int64_t, int64_t)> fn) {
  CHECK(grain >= 1) << "tiles of " << grain;
  if (n <= 0) return;
  if (n <= grain || workers_.empty() || busy_.exchange(true, std::memory_order_acquire)) {
    for (int64_t begin = 0; begin < n; begin += grain) fn(begin, std::min(n, begin + grain));
    return;
  }
  Loop loop(n, grain, fn);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    loop_ = &loop;
    num_loops_.fetch_add(1, std::memory_order_release);
  }
  const int64_t num_tiles = (n + grain - 1) / grain;
  if (num_tiles - 1 < static_cast<int64_t>(workers_.size())) {
    for (int64_t i = 1; i < num_tiles; ++i) wake_.notify_one();
  } else {
    wake_.notify_all();
  }
  loop.Run();
  {
    std::unique_lock<std::mutex> lock(mutex_);
    loop_ = nullptr;
    lock.unlock();
    SpinUntil([&] { return loop.num_joined.load(std::memory_order_acquire) == 0; });
    lock.lock();
    done_.wait(lock, [&] { return loop.num_joined.load(std::memory_order_acquire) == 0; });
  }
  busy_.store(false, std::memory_order_release);
  if (loop.error != nullptr) std::rethrow_exception(loop.error);
}

void ThreadPool::WorkerMain() {
  uint64_t seen = 0;
  for (;;) {
    SpinUntil([&] { return num_loops_.load(std::memory_order_acquire) != seen; });
    Loop* loop = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || num_loops_.load() != seen; });
      if (stopping_) return;
      seen = num_loops_.load();
      loop = loop_;
      if (loop == nullptr) continue;  // Over before this thread woke up.
      loop->num_joined.fetch_add(1, std::memory_order_relaxed);
    }
    loop->Run();
    // The lock is what keeps the caller from destroying `loop` between the decrement and the
    // notice.
    const std::lock_guard<std::mutex> lock(mutex_);
    if (loop->num_joined.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.notify_one();
  }
}

}  // namespace trireme
