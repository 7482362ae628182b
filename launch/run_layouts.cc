// The layouts that VerifyLayouts runs.
#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "core/module/axis.h"
#include "launch/verify_layouts.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/sequence/kv_exchange.h"
#include "parallel/sequence/scan_plan.h"

namespace trireme {
namespace {

using Value = std::pair<std::string, std::string>;
using Values = std::vector<Value>;

// Every way to write n as an ordered product of kNumAxes sizes.
void Factorizations(int n, std::vector<int> sizes, std::vector<std::vector<int>>* all) {
  if (static_cast<int>(sizes.size()) + 1 == kNumAxes) {
    sizes.push_back(n);
    all->push_back(std::move(sizes));
    return;
  }
  for (int k = 1; k <= n; ++k) {
    if (n % k != 0) continue;
    std::vector<int> longer = sizes;
    longer.push_back(k);
    Factorizations(n / k, std::move(longer), all);
  }
}

// The settings of one kind that an axis brings with it: each is a list of values.
std::vector<Values> Schedules(int pipeline) {
  if (pipeline == 1) return {{}};
  std::vector<Values> choices;
  for (const auto& entry : PipelineSchedules())
    choices.push_back({{"pipeline_schedule.name", entry.name}});
  return choices;
}

std::vector<Values> KvMethods(int sequence) {
  if (sequence == 1) return {{}};
  std::vector<Values> choices;
  for (const auto& entry : KvExchanges()) {
    Values values = {{"kv_exchange.name", entry.name}};
    if (absl::string_view(entry.name) == "ulysses_ring")
      values.push_back({"kv_exchange.ulysses_size", "2"});
    choices.push_back(std::move(values));
  }
  return choices;
}

std::vector<Values> ScanMethods(int sequence, bool scans) {
  if (sequence == 1 || !scans) return {{}};
  std::vector<Values> choices;
  for (const auto& entry : Scans()) choices.push_back({{"scan.name", entry.name}});
  return choices;
}

std::vector<Values> ZeroStages(int owners) {
  if (owners == 1) return {{}};
  return {{{"mesh.zero_stage", "1"}}, {{"mesh.zero_stage", "2"}}, {{"mesh.zero_stage", "3"}}};
}

std::vector<Values> Streams(int tensor) {
  if (tensor == 1) return {{}};
  return {{{"mesh.sharded_stream", "false"}}, {{"mesh.sharded_stream", "true"}}};
}

// All pairs of values of a layout.
std::set<std::pair<Value, Value>> PairsOf(const RunLayout& layout) {
  std::set<std::pair<Value, Value>> pairs;
  for (size_t i = 0; i < layout.values.size(); ++i) {
    for (size_t j = i + 1; j < layout.values.size(); ++j) {
      pairs.insert({layout.values[i], layout.values[j]});
    }
  }
  return pairs;
}

}  // namespace

std::string RunLayout::ToString() const {
  std::string text;
  for (const auto& [path, value] : values) {
    if (absl::StartsWith(path, "mesh.") && (value == "1" || value == "false")) continue;
    const std::string key = path.substr(path.find('.') + 1);
    absl::StrAppend(&text, text.empty() ? "" : " ");
    if (key == "name") {
      absl::StrAppend(&text, value);
    } else if (value == "true") {
      absl::StrAppend(&text, key);
    } else {
      absl::StrAppend(&text, key, "=", value);
    }
  }
  return text.empty() ? "one rank" : text;
}

std::vector<RunLayout> AllLayouts(int num_ranks, bool scans) {
  std::vector<std::vector<int>> meshes;
  Factorizations(num_ranks, {}, &meshes);
  std::vector<RunLayout> layouts;
  for (const std::vector<int>& sizes : meshes) {
    Values mesh;
    for (const Axis axis : kAllAxes) {
      mesh.push_back(
          {absl::StrCat("mesh.", AxisName(axis)), absl::StrCat(sizes[static_cast<int>(axis)])});
    }
    const auto size = [&](Axis axis) { return sizes[static_cast<int>(axis)]; };
    std::vector<Values> combinations = {mesh};
    for (const auto& choices :
         {Schedules(size(Axis::kPipeline)), KvMethods(size(Axis::kSequence)),
          ScanMethods(size(Axis::kSequence), scans),
          ZeroStages(size(Axis::kShard) * size(Axis::kSequence)), Streams(size(Axis::kTensor))}) {
      std::vector<Values> longer;
      for (const Values& combination : combinations) {
        for (const Values& choice : choices) {
          longer.push_back(combination);
          longer.back().insert(longer.back().end(), choice.begin(), choice.end());
        }
      }
      combinations = std::move(longer);
    }
    for (Values& values : combinations) layouts.push_back({std::move(values)});
  }
  return layouts;
}

bool HasLinearAttention(const RunConfig& config) {
  for (const auto& [name, part] : config.model().parts()) {
    if (part.name() != "softmax") return true;
  }
  return false;
}

std::vector<RunLayout> PairwiseCover(const std::vector<RunLayout>& layouts) {
  std::set<std::pair<Value, Value>> wanted;
  std::vector<std::set<std::pair<Value, Value>>> pairs;
  for (const RunLayout& layout : layouts) {
    pairs.push_back(PairsOf(layout));
    wanted.insert(pairs.back().begin(), pairs.back().end());
  }
  std::vector<RunLayout> cover;
  while (!wanted.empty()) {
    size_t best = 0, most = 0;
    for (size_t i = 0; i < layouts.size(); ++i) {
      const size_t count = std::count_if(pairs[i].begin(), pairs[i].end(),
                                         [&](const auto& pair) { return wanted.count(pair) > 0; });
      if (count > most) {
        most = count;
        best = i;
      }
    }
    for (const auto& pair : pairs[best]) wanted.erase(pair);
    cover.push_back(layouts[best]);
  }
  return cover;
}

}  // namespace trireme
