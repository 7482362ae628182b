#include "parallel/sequence/recurrence_traffic.h"

#include <algorithm>
#include <map>

#include "parallel/sequence/token_halo.h"

namespace trireme {
namespace {

ScanSizes SizesOf(const RecurrenceHeads& heads, absl::Span<const std::vector<Segment>> segments,
                  DType dtype) {
  const int64_t lines = static_cast<int64_t>(PiecesBySample(segments).size()) * heads.memories;
  const int64_t of_a_head = lines * heads.heads * DTypeSize(AccumulationType(dtype));
  return {of_a_head * heads.key_width * heads.value_width, of_a_head * heads.transition,
          heads.value_width};
}

}  // namespace

ScanPlan ResolveScan(const ScanPlan& plan, SequenceCut cut, const RecurrenceHeads& heads,
                     absl::Span<const std::vector<Segment>> segments, DType dtype) {
  return ResolveScan(plan, SlotOwners(cut, static_cast<int>(segments.size())),
                     SizesOf(heads, segments, dtype));
}

void AddScanTraffic(const ScanPlan& plan, SequenceCut cut, const RecurrenceHeads& heads,
                    absl::Span<const std::vector<Segment>> segments, int rank, DType dtype,
                    Pass pass, Traffic* traffic) {
  const int size = static_cast<int>(segments.size());
  const ScanSizes sizes = SizesOf(heads, segments, dtype);
  std::vector<int> owners = SlotOwners(cut, size);
  if (pass == Pass::kBackward) std::reverse(owners.begin(), owners.end());
  const ScanPlan resolved = ResolveScan(plan, owners, sizes);
  const ScanTraffic sent = SentByScan(resolved, owners, rank, sizes);
  if (sent.calls == 0) return;
  traffic->Add("sequence", pass == Pass::kForward ? "scan states" : "scan state gradients",
               resolved.method == ScanMethod::kAllGather ? Verb::kAllGather : Verb::kSend, size,
               sent.bytes, sent.calls);
}

void AddHaloTraffic(const HaloRows& halo, absl::Span<const std::vector<Segment>> segments, int rank,
                    DType dtype, Pass pass, Traffic* traffic) {
  std::map<int, int64_t> rows;  // By receiver.
  for (const HaloCopy& copy : HaloCopies(segments, halo.rows)) {
    const int from = pass == Pass::kForward ? copy.from_rank : copy.to_rank;
    const int to = pass == Pass::kForward ? copy.to_rank : copy.from_rank;
    if (from == rank && to != rank) rows[to] += copy.length;
  }
  for (const auto& [to, count] : rows) {
    traffic->Add("sequence", pass == Pass::kForward ? "halo rows" : "halo row gradients",
                 Verb::kSend, static_cast<int>(segments.size()),
                 count * halo.width * DTypeSize(dtype));
  }
}

}  // namespace trireme
