#include "parallel/sequence/scan_plan.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"

namespace trireme {
namespace {

constexpr absl::Span<const ParamInfo> kNoScanParams;
constexpr ParamInfo kPipelinedParams[] = {
    {"blocks", ParamType::kInt, "8", "that a state is cut into; at most its value columns", 1},
};
constexpr ParamInfo kAutoScanParams[] = {
    {"latency_us", ParamType::kFloat, "20", "of a message between ranks", 0},
    {"gigabytes_per_second", ParamType::kFloat, "5", "that a rank can send", 1e-6},
};

ScanPlan PlanRing(const Params&) { return {ScanMethod::kChain}; }
ScanPlan PlanAllGatherScan(const Params&) { return {ScanMethod::kAllGather}; }
ScanPlan PlanPipelined(const Params& params) { return {ScanMethod::kChain, params.Int("blocks")}; }
ScanPlan PlanTree(const Params&) { return {ScanMethod::kTree}; }
ScanPlan PlanAuto(const Params& params) {
  return {ScanMethod::kAuto, 1, params.Float("latency_us"), params.Float("gigabytes_per_second")};
}

int NumRanks(absl::Span<const int> owners) {
  return *std::max_element(owners.begin(), owners.end()) + 1;
}

// Messages from one rank to another along the chain.
int64_t Hops(absl::Span<const int> owners) {
  int64_t hops = 0;
  for (size_t place = 1; place < owners.size(); ++place) {
    hops += owners[place] != owners[place - 1];
  }
  return hops;
}

int64_t Rounds(int ranks) {
  int64_t rounds = 0;
  while ((1 << rounds) < ranks) ++rounds;
  return rounds;
}

}  // namespace

absl::Span<const Entry<ScanPlanner>> Scans() {
  static constexpr Entry<ScanPlanner> kEntries[] = {
#define SCAN(name, doc, params, planner) {#name, doc, params, planner},
#include "parallel/sequence/scans.def"
#undef SCAN
  };
  return kEntries;
}

StatusOr<ScanPlan> PlanScan(absl::string_view name, const ParamMap& params) {
  ASSIGN_OR_RETURN(const Entry<ScanPlanner>* entry, FindEntry("scan", Scans(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(name, entry->params, params));
  return entry->factory(checked);
}

double ScanSeconds(const ScanPlan& plan, absl::Span<const int> owners, const ScanSizes& sizes,
                   double latency_us, double gigabytes_per_second) {
  const int ranks = NumRanks(owners);
  const auto message = [&](int64_t bytes) {
    return 1e-6 * latency_us + 1e-9 * static_cast<double>(bytes) / gigabytes_per_second;
  };
  const int64_t slots = static_cast<int64_t>(owners.size()) / ranks;
  const int64_t map_bytes = sizes.state_bytes + sizes.transition_bytes;
  if (ranks == 1) return 0;
  switch (plan.method) {
    case ScanMethod::kChain: {
      const int64_t blocks = std::min(plan.num_blocks, std::max<int64_t>(1, sizes.value_columns));
      return static_cast<double>(Hops(owners) + blocks - 1) * message(sizes.state_bytes / blocks);
    }
    case ScanMethod::kAllGather:
      return message((ranks - 1) * slots * map_bytes);
    case ScanMethod::kTree:
      return static_cast<double>(slots * Rounds(ranks)) * message(map_bytes);
    case ScanMethod::kAuto:
      break;
  }
  LOG(FATAL) << "the time of no method";
  return 0;
}

ScanPlan ResolveScan(const ScanPlan& plan, absl::Span<const int> owners, const ScanSizes& sizes) {
  if (plan.method != ScanMethod::kAuto) return plan;
  const auto seconds = [&](const ScanPlan& candidate) {
    return ScanSeconds(candidate, owners, sizes, plan.latency_us, plan.gigabytes_per_second);
  };
  // (hops + b - 1) (latency + bytes / (b rate)) is least at sqrt((hops - 1) bytes / (latency
  // rate)).
  const double latency_bytes = 1e3 * plan.latency_us * plan.gigabytes_per_second;
  const double best_blocks =
      std::sqrt(static_cast<double>(std::max<int64_t>(0, Hops(owners) - 1) * sizes.state_bytes) /
                std::max(1.0, latency_bytes));
  const int64_t blocks = std::clamp<int64_t>(static_cast<int64_t>(std::lround(best_blocks)), 1,
                                             std::max<int64_t>(1, sizes.value_columns));
  ScanPlan best = {ScanMethod::kChain};
  for (const ScanPlan& candidate :
       {ScanPlan{ScanMethod::kAllGather}, ScanPlan{ScanMethod::kChain, blocks},
        ScanPlan{ScanMethod::kTree}}) {
    if (seconds(candidate) < seconds(best)) best = candidate;
  }
  return best;
}

std::string ToString(const ScanPlan& plan) {
  switch (plan.method) {
    case ScanMethod::kChain:
      return plan.num_blocks == 1 ? "ring"
                                  : absl::StrCat("pipelined in ", plan.num_blocks, " blocks");
    case ScanMethod::kAllGather:
      return "all_gather";
    case ScanMethod::kTree:
      return "tree";
    case ScanMethod::kAuto:
      break;
  }
  return "auto";
}

ScanTraffic SentByScan(const ScanPlan& plan, absl::Span<const int> owners, int rank,
                       const ScanSizes& sizes) {
  const int ranks = NumRanks(owners), places = static_cast<int>(owners.size());
  const int64_t map_bytes = sizes.state_bytes + sizes.transition_bytes;
  ScanTraffic sent;
  for (int place = 0; place < places; ++place) {
    if (owners[place] != rank) continue;
    switch (plan.method) {
      case ScanMethod::kChain:
        if (place + 1 < places && owners[place + 1] != rank) {
          sent.calls += std::min(plan.num_blocks, std::max<int64_t>(1, sizes.value_columns));
          sent.bytes += sizes.state_bytes;
        }
        break;
      case ScanMethod::kAllGather:
        sent.calls = 1;  // Of all its maps.
        sent.bytes += (ranks - 1) * map_bytes;
        break;
      case ScanMethod::kTree:
        for (int distance = 1; place % ranks + distance < ranks; distance *= 2) {
          ++sent.calls;
          sent.bytes += map_bytes;
        }
        break;
      case ScanMethod::kAuto:
        LOG(FATAL) << "the bytes of no method";
    }
  }
  return sent;
}

}  // namespace trireme
