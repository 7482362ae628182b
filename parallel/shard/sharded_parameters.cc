#include "parallel/shard/sharded_parameters.h"

#include <algorithm>

#include "core/base/share.h"

namespace trireme {

ShardedParameters::ShardedParameters(const ParameterSet& parameters, Communicator* owners,
                                     bool release)
    : parameters_(parameters),
      owners_(owners),
      release_(release && owners != nullptr),
      residences_(parameters.parameters().size()) {
  const auto& all = parameters.parameters();
  for (size_t i = 0; i < all.size(); ++i) {
    for (const int unit : all[i]->units) {
      by_unit_.resize(std::max<size_t>(by_unit_.size(), unit + 1));
      by_unit_[unit].push_back(i);
    }
    if (release_) all[i]->working.storage()->Release();
  }
  prefetched_.resize(by_unit_.size());
}

ShardedParameters::~ShardedParameters() = default;

void ShardedParameters::StartGather(int i) {
  const Parameter& parameter = *parameters_.parameters()[i];
  parameter.working.storage()->Refill();
  parameter.RefreshWorking();
  const Shape& local = parameter.spec.local.size;
  std::vector<int64_t> counts;
  for (int rank = 0; rank < owners_->size(); ++rank) {
    counts.push_back(ShareOf(local[0], rank, owners_->size()).size() * local.numel() /
                     std::max<int64_t>(1, local[0]));
  }
  residences_[i].gathering = owners_->AllGather(parameter.OwnedRows(), parameter.working.Detach(),
                                                {.purpose = "parameters", .counts = counts});
}

void ShardedParameters::FinishGather(int i) {
  const std::unique_ptr<Work> gathering = std::move(residences_[i].gathering);
  if (gathering == nullptr) return;
  gathering->Join(parameters_.parameters()[i]->working.device().compute());
}

Status ShardedParameters::Refresh() {
  return CatchFailure([&] {
    if (owners_ == nullptr || release_) return;  // The next Acquire gathers.
    for (size_t i = 0; i < residences_.size(); ++i) StartGather(i);
    for (size_t i = 0; i < residences_.size(); ++i) FinishGather(static_cast<int>(i));
  });
}

void ShardedParameters::Prefetch(int unit) {
  if (!release_ || unit < 0 || unit >= static_cast<int>(by_unit_.size()) || prefetched_[unit])
    return;
  prefetched_[unit] = true;
  for (const int i : by_unit_[unit]) {
    if (residences_[i].holders++ == 0) StartGather(i);
  }
}

void ShardedParameters::Acquire(int unit) {
  if (!release_ || unit >= static_cast<int>(by_unit_.size())) return;
  Prefetch(unit);
  prefetched_[unit] = false;
  for (const int i : by_unit_[unit]) FinishGather(i);
}

void ShardedParameters::Release(int unit) {
  if (!release_ || unit >= static_cast<int>(by_unit_.size())) return;
  for (const int i : by_unit_[unit]) {
    if (--residences_[i].holders == 0) parameters_.parameters()[i]->working.storage()->Release();
  }
}

}  // namespace trireme
