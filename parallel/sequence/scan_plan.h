// How the maps of a scan travel: the registry of methods, what each sends, in closed form, and the
// choice between them by a model of the link (latency, rate).
//
// Of c ranks, P the bytes of a map (its state and what of its transition is sent), S those of its
// state alone; the most that a rank sends, or with all_gather receives, when each has one slot:
//   ring, pipelined  S        all_gather  (c - 1) P        tree  ceil(log2 c) P
// The zigzag cut has two slots a rank, which ring and tree go through in two passes, there and
// back: all ranks together send twice as much. None depends on the number of tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/registry.h"
#include "core/base/status.h"

namespace trireme {

enum class ScanMethod : uint8_t {
  kChain,  // Ring with one block.
  kAllGather,
  kTree,
  kAuto,
};

struct ScanPlan {
  ScanMethod method = ScanMethod::kAuto;
  int64_t num_blocks = 1;  // Of kChain, at most.
  double latency_us = 20;  // Of kAuto.
  double gigabytes_per_second = 5;
};
using ScanPlanner = ScanPlan (*)(const Params& params);

// The registry, made from scans.def.
absl::Span<const Entry<ScanPlanner>> Scans();
// INVALID_ARGUMENT for an unknown method, and for parameters that do not fit it.
StatusOr<ScanPlan> PlanScan(absl::string_view name, const ParamMap& params);

struct ScanSizes {
  int64_t state_bytes;       // Of all lines and heads.
  int64_t transition_bytes;  // That are sent with it.
  int64_t value_columns;     // What a state can be cut into.
};

// Of the slowest rank, from the first message to the last, without the arithmetic. `owners`: of
// each place in the order of the scan. `plan` is not kAuto.
double ScanSeconds(const ScanPlan& plan, absl::Span<const int> owners, const ScanSizes& sizes,
                   double latency_us, double gigabytes_per_second);
// `plan` itself, or what kAuto stands for: the fastest, of equal ones the first of scans.def.
ScanPlan ResolveScan(const ScanPlan& plan, absl::Span<const int> owners, const ScanSizes& sizes);
// "pipelined in 8 blocks"
std::string ToString(const ScanPlan& plan);

// What a rank sends. `plan` is not kAuto.
struct ScanTraffic {
  int64_t calls = 0, bytes = 0;
};
ScanTraffic SentByScan(const ScanPlan& plan, absl::Span<const int> owners, int rank,
                       const ScanSizes& sizes);

}  // namespace trireme
