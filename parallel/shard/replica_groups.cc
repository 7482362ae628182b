#include "parallel/shard/replica_groups.h"

#include <algorithm>

namespace trireme {

Status SumOver(Communicator* group, Device& device, const char* purpose,
               absl::Span<double> values) {
  if (group == nullptr) return absl::OkStatus();
  return CatchFailure([&] {
    const int64_t n = static_cast<int64_t>(values.size());
    const Tensor sums = Tensor::FromHost<double>(device, {n}, values);
    group->AllReduce(sums, {.purpose = purpose})->Join(device.compute());
    const std::vector<double> result = sums.ToVector();
    std::copy(result.begin(), result.end(), values.begin());
  });
}

}  // namespace trireme
