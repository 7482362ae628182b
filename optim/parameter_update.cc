#include "optim/parameter_update.h"

#include <unordered_map>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/pattern.h"

namespace trireme {

StatusOr<ParameterUpdate> ParameterUpdate::Create(const ParameterSet& parameters,
                                                  std::vector<UpdateGroup> groups) {
  std::vector<bool> used(groups.size());
  std::unordered_map<std::string, int> group_of;
  for (const std::string& path : parameters.Paths()) {
    size_t group = 0;
    while (group < groups.size() && !MatchesPattern(groups[group].pattern, path)) ++group;
    if (group == groups.size()) {
      return absl::InvalidArgumentError(absl::StrCat("no parameter group matches '", path, "'"));
    }
    used[group] = true;
    group_of[path] = static_cast<int>(group);
  }
  for (size_t group = 0; group < groups.size(); ++group) {
    if (used[group]) continue;
    return absl::InvalidArgumentError(absl::StrCat("parameter group '", groups[group].pattern,
                                                   "' has no parameter left to match"));
  }
  ParameterUpdate update;
  update.groups_ = std::move(groups);
  for (const auto& parameter : parameters.parameters()) {
    const int index = static_cast<int>(&parameter - parameters.parameters().data());
    if (parameter->spec.frozen) continue;
    update.slices_.push_back({parameter.get(), index, group_of[parameter->spec.path], {}});
  }
  RETURN_IF_ERROR(CatchFailure([&] {
    for (Slice& slice : update.slices_) {
      const Tensor& owned = slice.parameter->owned;
      for (const std::string& name : update.groups_[slice.group].optimizer->state_names()) {
        slice.states.push_back(Tensor::Zeros(owned.device(), owned.shape(), owned.dtype(),
                                             MemoryKind::kOptimizer,
                                             absl::StrCat(slice.parameter->spec.path, ".", name)));
      }
    }
  }));
  return update;
}

void ParameterUpdate::Step(const UnitTensors& gradients, double learning_rate, double grad_scale) {
  ++step_;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const UpdateGroup& group = groups_[g];
    std::vector<UpdateSlice> slices;
    for (const Slice& slice : slices_) {
      if (slice.group != static_cast<int>(g)) continue;
      const Parameter& parameter = *slice.parameter;
      // Nothing to round into when the two share memory, or when the working copy comes by a
      // gather.
      const bool rounds = parameter.working.storage() != parameter.owned.storage() &&
                          parameter.working.storage()->resident();
      const bool decays = group.decay && parameter.spec.decay;
      slices.push_back({parameter.owned, gradients.of(slice.index),
                        rounds ? parameter.OwnedRows() : Tensor(), slice.states,
                        learning_rate * group.lr_scale,
                        decays ? group.optimizer->weight_decay() : 0});
    }
    group.optimizer->Update(slices, grad_scale, step_);
  }
}

std::vector<ParameterUpdate::State> ParameterUpdate::States() const {
  std::vector<State> states;
  for (const Slice& slice : slices_) {
    const std::vector<std::string> names = groups_[slice.group].optimizer->state_names();
    for (size_t i = 0; i < names.size(); ++i) {
      states.push_back({slice.parameter, names[i], slice.states[i]});
    }
  }
  return states;
}

}  // namespace trireme
