// The threads of one CPU device. Never OpenMP: its runtime defeats ThreadSanitizer.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace trireme {

class ThreadPool {
 public:
  // The calling thread works too, so num_threads - 1 are started.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls fn(begin, end) over [0, n) cut into tiles of `grain`, the last may be shorter. Tiles
  // depend on n and grain only; which thread runs a tile does not matter to its result. Returns
  // when all are done. A call from inside a tile, or while another thread's loop is running, works
  // inline. When tiles throw, the exception of the first of them (by position) is rethrown; tiles
  // behind it may not have run.
  void ParallelFor(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> fn);

 private:
  struct Loop;
  void WorkerMain();

  std::atomic<bool> busy_ = false;       // A loop is running.
  std::atomic<uint64_t> num_loops_ = 0;  // Loops ever started; idle workers watch it.

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Loop* loop_ = nullptr;  // What workers may join.
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace trireme
