// trireme mesh: who sits where, what each has, and what travels, before anything runs.
#include <algorithm>
#include <cstdio>
#include <limits>
#include <map>
#include <optional>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "launch/bootstrap.h"
#include "launch/catalogue.h"
#include "launch/commands.h"
#include "launch/config.h"
#include "launch/rank_plan.h"

namespace trireme {
namespace {

constexpr Flag kFlags[] = {
    {"config", "FILE", "the run"},
    {"set", "PATH=VALUE", "changes one value of the config: mesh.tensor=2", true},
    {"ranks", "N", "ranks of the world; under a launcher, those that it started"},
};

// More ranks than this are not listed one by one.
constexpr int kListedRanks = 64;

struct Range {
  int64_t min = std::numeric_limits<int64_t>::max(), max = 0;

  void Add(int64_t value) {
    min = std::min(min, value);
    max = std::max(max, value);
  }
  std::string ToString() const {
    return min == max ? absl::StrCat(min) : absl::StrCat(min, " to ", max);
  }
};

std::vector<Axis> LongAxes(const Mesh& mesh) {
  std::vector<Axis> axes;
  for (const Axis axis : kAllAxes) {
    if (mesh.size(axis) > 1) axes.push_back(axis);
  }
  return axes;
}

std::string Places(const Mesh& mesh) {
  const std::vector<Axis> axes = LongAxes(mesh);
  std::string text = absl::StrCat(mesh.ToString(), ": ", mesh.world_size(),
                                  mesh.world_size() == 1 ? " rank\n" : " ranks\n");
  if (axes.empty()) return text;
  std::vector<std::string> terms;
  int stride = mesh.world_size();
  for (const Axis axis : axes) {
    stride /= mesh.size(axis);
    terms.push_back(absl::StrCat(stride == 1 ? "" : absl::StrCat(stride, " "), AxisName(axis)));
  }
  absl::StrAppend(&text, "rank = ", absl::StrJoin(terms, " + "), "\n");
  if (mesh.world_size() > kListedRanks) return text;
  absl::StrAppend(&text, "\nrank");
  for (const Axis axis : axes) absl::StrAppendFormat(&text, " %8s", AxisName(axis));
  for (int rank = 0; rank < mesh.world_size(); ++rank) {
    absl::StrAppendFormat(&text, "\n%4d", rank);
    for (const Axis axis : axes) absl::StrAppendFormat(&text, " %8d", mesh.Coordinate(rank, axis));
  }
  return text + "\n";
}

std::string UnitsText(const RankPlan& rank) {
  std::vector<std::string> stages;
  for (const auto& [begin, end] : rank.stages) {
    stages.push_back(end == begin + 1 ? absl::StrCat(begin) : absl::StrCat(begin, "-", end - 1));
  }
  return absl::StrJoin(stages, ", ");
}

std::string Parameters(const Mesh& mesh, const std::vector<RankPlan>& ranks) {
  struct Row {
    std::string units;
    Range working, owned;
  };
  std::vector<Row> rows(mesh.size(Axis::kPipeline));
  for (int rank = 0; rank < mesh.world_size(); ++rank) {
    Row& row = rows[mesh.Coordinate(rank, Axis::kPipeline)];
    row.units = UnitsText(ranks[rank]);
    row.working.Add(ranks[rank].working_elements);
    row.owned.Add(ranks[rank].owned_elements);
  }
  std::string text = absl::StrFormat("%-8s  %-20s  %-24s  %s\n", "pipeline", "units of its stages",
                                     "parameters of a rank", "of them owned");
  for (size_t i = 0; i < rows.size(); ++i) {
    absl::StrAppendFormat(&text, "%8d  %-20s  %-24s  %s\n", i, rows[i].units,
                          rows[i].working.ToString(), rows[i].owned.ToString());
  }
  return text;
}

std::string Travels(const std::vector<RankPlan>& ranks) {
  struct Row {
    const Traffic::Entry* first = nullptr;
    int64_t num_ranks = 0, total = 0;
    Range calls, bytes;
  };
  std::map<std::pair<std::string, std::string>, Row> rows;
  int64_t total = 0;
  for (const RankPlan& rank : ranks) {
    for (const auto& [key, entry] : rank.step.entries) {
      Row& row = rows[key];
      if (row.first == nullptr) row.first = &entry;
      ++row.num_ranks;
      row.calls.Add(entry.calls);
      row.bytes.Add(entry.sent_bytes);
      row.total += entry.sent_bytes;
      total += entry.sent_bytes;
    }
  }
  if (rows.empty()) return "nothing travels\n";
  std::string text =
      absl::StrFormat("%-30s %5s  %-28s %-14s %12s %24s %8s %14s\n", "axis", "group", "purpose",
                      "verb", "calls a step", "bytes sent a rank", "by ranks", "by all");
  for (const auto& [key, row] : rows) {
    absl::StrAppendFormat(&text, "%-30s %5d  %-28s %-14s %12s %24s %8d %14d\n", key.first,
                          row.first->group_size, key.second, VerbName(row.first->verb),
                          row.calls.ToString(), row.bytes.ToString(), row.num_ranks, row.total);
  }
  absl::StrAppendFormat(&text, "%d bytes a step in all\n", total);
  return text;
}

// Exchanges between replicas that are not data parallelism: not the same in every step.
std::string TravelsInExchanges(const std::vector<RankPlan>& ranks, int64_t num_steps) {
  struct Row {
    Traffic::Entry first;
    Range bytes;
    int64_t num_ranks = 0, total = 0;
  };
  std::map<int, std::optional<int64_t>> counts;  // By row of the config.
  std::map<std::tuple<int, std::string, std::string>, Row> rows;
  for (const RankPlan& rank : ranks) {
    for (const ExchangeTraffic& exchange : rank.exchanges) {
      counts[exchange.row] = exchange.num_exchanges;
      for (const auto& [key, entry] : exchange.sent.entries) {
        Row& row = rows[{exchange.row, key.first, key.second}];
        row.first = entry;
        row.bytes.Add(entry.sent_bytes);
        row.total += entry.sent_bytes;
        ++row.num_ranks;
      }
    }
  }
  if (counts.empty()) return "";
  std::string text;
  int64_t total = 0;
  bool known = true;
  for (const auto& [row, count] : counts) {
    if (count.has_value()) {
      absl::StrAppendFormat(&text, "\nexchanges.%d: %d exchanges in the %d steps of the run\n", row,
                            *count, num_steps);
    } else {
      absl::StrAppendFormat(
          &text, "\nexchanges.%d: as often as the loss makes it; here of one exchange\n", row);
      known = false;
    }
    absl::StrAppendFormat(&text, "%-30s %5s  %-28s %-14s %24s %8s %14s\n", "axis", "group",
                          "purpose", "verb", "bytes sent a rank", "by ranks", "by all");
    for (const auto& [key, sent] : rows) {
      const auto& [of_row, axis, purpose] = key;
      if (of_row != row) continue;
      absl::StrAppendFormat(&text, "%-30s %5d  %-28s %-14s %24s %8d %14d\n", axis,
                            sent.first.group_size, purpose, VerbName(sent.first.verb),
                            sent.bytes.ToString(), sent.num_ranks, sent.total);
      total += sent.total;
    }
  }
  if (known) {
    absl::StrAppendFormat(&text, "%d bytes in all exchanges, %.0f a step\n", total,
                          static_cast<double>(total) / static_cast<double>(num_steps));
  }
  return text;
}

StatusOr<LaunchPlan> WorldOf(const CommandLine& line) {
  if (!line.Has("config")) return absl::InvalidArgumentError("mesh needs --config FILE");
  ASSIGN_OR_RETURN(const int64_t ranks, line.Int("ranks", 0, 1));
  return PlanLaunch({ranks, false}, ReadLaunchedWorld());
}

StatusOr<std::string> Describe(const CommandLine& line, int64_t num_ranks) {
  ASSIGN_OR_RETURN(LoadedConfig loaded, LoadConfig(line.String("config"), line.All("set")));
  RETURN_IF_ERROR(ResolveConfig(num_ranks, Catalogue(), &loaded));
  const RunConfig& config = loaded.config;
  const ComponentConfig data = ToComponentConfig(config.data().dataset());
  ASSIGN_OR_RETURN(const auto dataset,
                   MakeDataset(data.name, data.params, {config.data().sequence_length()}));
  ASSIGN_OR_RETURN(const Mesh mesh, MeshOf(config, static_cast<int>(num_ranks)));
  ASSIGN_OR_RETURN(const std::vector<RankPlan> ranks, PlanRanks(config, DataShapeOf(*dataset)));
  const std::string& scan = ranks[0].scan_choice;
  return absl::StrCat(Places(mesh), "\n", Parameters(mesh, ranks), "\n", Travels(ranks),
                      TravelsInExchanges(ranks, config.num_steps()), scan,
                      scan.empty() ? "" : "\n");
}

int RunMesh(const CommandLine& line) {
  const StatusOr<LaunchPlan> world = WorldOf(line);
  if (!world.ok()) return UsageError(world.status());
  if (world->rank != 0) return kExitDone;  // One process says it.
  const StatusOr<std::string> text = Describe(line, world->num_ranks);
  if (text.ok()) {
    std::fputs(text->c_str(), stdout);
    return kExitDone;
  }
  PrintError(text.status());
  return kExitError;
}

}  // namespace

Command MeshCommand() {
  return {{"mesh", "Prints which rank sits where, what it has, and what it sends in a step.", "", 0,
           0, kFlags,
           "trireme mesh --config examples/configs/demo.textproto --set mesh.tensor=2 --ranks 8"},
          &RunMesh};
}

}  // namespace trireme
