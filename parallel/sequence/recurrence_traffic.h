// What linear attention and short convolutions send along the sequence axis, in closed form, for
// any cut: SentByScan (scan_plan.h), and the rows of halos (token_halo.h).
#pragma once

#include <vector>

#include "absl/types/span.h"

#include "core/module/unit_traffic.h"
#include "parallel/comm/traffic.h"
#include "parallel/sequence/kv_traffic.h"
#include "parallel/sequence/scan_plan.h"
#include "parallel/sequence/sequence_cut.h"

namespace trireme {

// What `plan` stands for in a recurrence, forward; for people when it is kAuto: ToString.
ScanPlan ResolveScan(const ScanPlan& plan, SequenceCut cut, const RecurrenceHeads& heads,
                     absl::Span<const std::vector<Segment>> segments, DType dtype);

// Of one recurrence on rank `rank`; segments: of each rank. `dtype` is that of queries and values.
void AddScanTraffic(const ScanPlan& plan, SequenceCut cut, const RecurrenceHeads& heads,
                    absl::Span<const std::vector<Segment>> segments, int rank, DType dtype,
                    Pass pass, Traffic* traffic);

// Of one halo of rows of `dtype`.
void AddHaloTraffic(const HaloRows& halo, absl::Span<const std::vector<Segment>> segments, int rank,
                    DType dtype, Pass pass, Traffic* traffic);

}  // namespace trireme
