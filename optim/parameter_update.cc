#include "optim/parameter_update.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "core/base/log.h"

namespace trireme {

bool MatchesPattern(absl::string_view pattern, absl::string_view text) {
  const std::vector<absl::string_view> pieces = absl::StrSplit(pattern, '*');
  if (pieces.size() == 1) return pattern == text;
  if (!absl::ConsumePrefix(&text, pieces.front())) return false;
  for (size_t i = 1; i + 1 < pieces.size(); ++i) {
    const size_t found = text.find(pieces[i]);
    if (found == absl::string_view::npos) return false;
    text.remove_prefix(found + pieces[i].size());
  }
  return absl::EndsWith(text, pieces.back());
}

StatusOr<ParameterUpdate> ParameterUpdate::Create(const ParameterSet& parameters,
                                                  std::vector<UpdateGroup> groups) {
  ParameterUpdate update;
  std::vector<bool> used(groups.size());
  const auto& all = parameters.parameters();
  for (size_t i = 0; i < all.size(); ++i) {
    size_t group = 0;
    while (group < groups.size() && !MatchesPattern(groups[group].pattern, all[i]->spec.path)) ++group;
    if (group == groups.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("no parameter group matches '", all[i]->spec.path, "'"));
    }
    used[group] = true;
    update.slices_.push_back({all[i].get(), static_cast<int>(i), static_cast<int>(group), {}});
  }
  for (size_t group = 0; group < groups.size(); ++group) {
    if (used[group]) continue;
    return absl::InvalidArgumentError(absl::StrCat("parameter group '", groups[group].pattern,
                                                   "' has no parameter left to match"));
  }
  update.groups_ = std::move(groups);
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

void ParameterUpdate::Step(const GradientBuffers& gradients, double learning_rate,
                           double grad_scale) {
  ++step_;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const UpdateGroup& group = groups_[g];
    std::vector<UpdateSlice> slices;
    for (const Slice& slice : slices_) {
      if (slice.group != static_cast<int>(g)) continue;
      const Parameter& parameter = *slice.parameter;
      const bool shared = parameter.working.storage() == parameter.owned.storage();
      const bool decays = group.decay && parameter.spec.decay;
      slices.push_back({parameter.owned, gradients.gradient(slice.index),
                        shared ? Tensor() : parameter.working, slice.states,
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
