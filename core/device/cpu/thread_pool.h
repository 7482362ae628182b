// The threads of one CPU device. Never OpenMP: its runtime defeats ThreadSanitizer.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace trireme {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads) : num_threads_(num_threads) {}
  int num_threads() const { return num_threads_; }
  void ParallelFor(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> fn);

 private:
  const int num_threads_;
};

}  // namespace trireme
