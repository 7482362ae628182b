#include "launch/checkpoint/saved_state.h"

#include "absl/strings/str_cat.h"

namespace trireme {
namespace {

template <typename T>
StatusOr<T> Get(const CheckpointInfo& info, absl::string_view name, absl::string_view type) {
  const auto it = info.scalars.find(std::string(name));
  if (it == info.scalars.end()) {
    return absl::DataLossError(
        absl::StrCat("the checkpoint of step ", info.step, " has no scalar '", name, "'"));
  }
  const T* value = std::get_if<T>(&it->second);
  if (value == nullptr) {
    return absl::DataLossError(
        absl::StrCat("scalar '", name, "' of the checkpoint of step ", info.step, " is no ", type));
  }
  return *value;
}

}  // namespace

const char* ReplicaPolicyName(ReplicaPolicy policy) {
  switch (policy) {
    case ReplicaPolicy::kShared:
      return "shared";
    case ReplicaPolicy::kSame:
      return "same";
    case ReplicaPolicy::kMean:
      return "mean";
    case ReplicaPolicy::kSumOverN:
      return "sum_over_n";
    case ReplicaPolicy::kDrop:
      return "drop";
    case ReplicaPolicy::kRefuse:
      return "refuse";
  }
  return "?";
}

StatusOr<int64_t> CheckpointInfo::Integer(absl::string_view name) const {
  return Get<int64_t>(*this, name, "integer");
}

StatusOr<double> CheckpointInfo::Number(absl::string_view name) const {
  return Get<double>(*this, name, "number");
}

StatusOr<std::string> CheckpointInfo::Text(absl::string_view name) const {
  return Get<std::string>(*this, name, "text");
}

}  // namespace trireme
