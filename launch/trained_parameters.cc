#include "launch/trained_parameters.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/base/pattern.h"
#include "core/module/lora.h"

namespace trireme {
namespace {

Status AddAdapters(const RunConfig::Lora& lora, ParameterSet& parameters) {
  bool matched = false;
  for (const std::string& path : parameters.Paths()) {
    Parameter& weight = *parameters.Find(path);
    if (!MatchesPattern(lora.pattern(), path)) continue;
    if (weight.lora.a != nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("lora: '", path, "' matches two patterns"));
    }
    RETURN_IF_ERROR(AddLora(parameters, weight, lora.rank(), lora.alpha()));
    matched = true;
  }
  if (matched) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("lora: no parameter matches '", lora.pattern(), "'"));
}

bool IsFrozen(const RunConfig& config, absl::string_view path) {
  for (const RunConfig::ParameterGroup& group : config.groups()) {
    if (MatchesPattern(group.pattern(), path)) return group.frozen();
  }
  return false;
}

}  // namespace

Status ChooseTrained(const RunConfig& config, ParameterSet& parameters) {
  for (const RunConfig::Lora& lora : config.lora()) RETURN_IF_ERROR(AddAdapters(lora, parameters));
  const std::vector<std::string> paths = parameters.Paths();
  for (const std::string& path : paths) {
    parameters.Find(path)->spec.frozen = IsFrozen(config, path);
  }
  if (std::any_of(paths.begin(), paths.end(),
                  [&](const std::string& path) { return !parameters.Find(path)->spec.frozen; })) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("groups: every parameter is frozen");
}

}  // namespace trireme
