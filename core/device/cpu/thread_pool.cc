#include "core/device/cpu/thread_pool.h"

#include <algorithm>

namespace trireme {

void ThreadPool::ParallelFor(int64_t n, int64_t grain,
                             absl::FunctionRef<void(int64_t, int64_t)> fn) {
  for (int64_t begin = 0; begin < n; begin += grain) fn(begin, std::min(n, begin + grain));
}

}  // namespace trireme
