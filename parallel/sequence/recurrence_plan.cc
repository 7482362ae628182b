#include "parallel/sequence/recurrence_plan.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "core/base/log.h"

namespace trireme {
namespace {

// The slot of a piece: the first one of its rank behind `previous`, the slot of the piece before.
// Which of several it is does not matter when all between them are empty.
int SlotAfter(int previous, int rank, absl::Span<const int> owners, int64_t sample) {
  const auto slot = std::find(owners.begin() + previous + 1, owners.end(), rank);
  CHECK(slot != owners.end()) << "rank " << rank << " has a piece of sample " << sample
                              << " out of the order of its cut [recurrence]";
  return static_cast<int>(slot - owners.begin());
}

// By sample and position.
class Documents {
 public:
  explicit Documents(absl::Span<const Segment> documents)
      : sorted_(documents.begin(), documents.end()) {
    std::sort(sorted_.begin(), sorted_.end(), Before);
  }

  // The runs of a segment whose first token is row `row`.
  void AppendRuns(const Segment& segment, int64_t row, std::vector<DocumentRun>* runs) const {
    int64_t position = segment.begin;
    const int64_t end = segment.begin + segment.length;
    while (position < end) {
      // The last document that begins here or before; an empty one has no tokens.
      auto next = std::upper_bound(sorted_.begin(), sorted_.end(),
                                   Segment{segment.sample, position, 0}, Before);
      while (next != sorted_.begin() && (next - 1)->length == 0) --next;
      CHECK(next != sorted_.begin()) << "sample " << segment.sample << " has no document";
      const Segment& document = *(next - 1);
      const int64_t last = std::min(end, document.begin + document.length);
      CHECK(document.sample == segment.sample && position < last)
          << "position " << position << " of sample " << segment.sample << " is in no document";
      runs->push_back({{row, row + last - position}, segment.sample, position, document});
      row += last - position;
      position = last;
    }
  }

 private:
  static bool Before(const Segment& a, const Segment& b) {
    return std::tie(a.sample, a.begin) < std::tie(b.sample, b.begin);
  }

  std::vector<Segment> sorted_;
};

}  // namespace

std::vector<int64_t> SamplesOf(const TokenLayout& layout) {
  std::vector<int64_t> samples;
  for (const auto& [sample, pieces] : PiecesBySample(layout.axis_segments))
    samples.push_back(sample);
  return samples;
}

std::vector<DocumentRun> DocumentRuns(absl::Span<const Segment> segments,
                                      absl::Span<const Segment> documents) {
  const Documents sorted(documents);
  std::vector<DocumentRun> runs;
  int64_t row = 0;
  for (const Segment& segment : segments) {
    sorted.AppendRuns(segment, row, &runs);
    row += segment.length;
  }
  return runs;
}

RecurrencePlan PlanRecurrence(const TokenLayout& layout, SequenceCut cut, int rank,
                              bool continued) {
  RecurrencePlan plan;
  plan.owners = SlotOwners(cut, static_cast<int>(layout.axis_segments.size()));
  const auto pieces = PiecesBySample(layout.axis_segments);
  plan.num_lines = static_cast<int64_t>(pieces.size());
  plan.resets.assign(plan.num_slots(), std::vector<uint8_t>(plan.num_lines, 0));
  plan.tokens.assign(plan.num_slots(), std::vector<int64_t>(plan.num_lines, 0));
  const Documents documents(layout.documents);
  int64_t line = 0;
  for (const auto& [sample, of_sample] : pieces) {
    int slot = -1;
    Segment document;
    for (const SamplePiece& piece : of_sample) {
      slot = SlotAfter(slot, piece.rank, plan.owners, sample);
      plan.tokens[slot][line] = piece.end - piece.begin;
      std::vector<DocumentRun> runs;
      documents.AppendRuns({sample, piece.begin, piece.end - piece.begin}, 0, &runs);
      for (const DocumentRun& run : runs) {
        const bool first = &piece == &of_sample.front() && run.rows.begin == 0;
        const bool starts = first ? !continued : !(run.document == document);
        document = run.document;
        plan.resets[slot][line] |= starts;
        if (piece.rank != rank) continue;
        plan.runs.push_back({{piece.row + run.rows.begin, piece.row + run.rows.end},
                             slot,
                             line,
                             run.rows.begin == 0 && !starts,
                             run.rows.end == piece.end - piece.begin});
      }
    }
    ++line;
  }
  std::sort(plan.runs.begin(), plan.runs.end(),
            [](const auto& a, const auto& b) { return a.rows.begin < b.rows.begin; });
  return plan;
}

RecurrencePlan PlanMemories(const RecurrencePlan& plan, const MemoryRows& rows) {
  CHECK_EQ(rows.of_runs.size(), plan.runs.size()) << "runs of memories [recurrence]";
  RecurrencePlan memories;
  memories.num_lines = plan.num_lines * rows.num_memories;
  memories.owners = plan.owners;
  for (const std::vector<uint8_t>& of_slot : plan.resets) {
    std::vector<uint8_t>& resets = memories.resets.emplace_back();
    for (const uint8_t reset : of_slot) resets.insert(resets.end(), rows.num_memories, reset);
  }
  int64_t row = 0;
  for (size_t i = 0; i < plan.runs.size(); ++i) {
    CHECK_EQ(static_cast<int64_t>(rows.of_runs[i].size()), rows.num_memories)
        << "memories of a run [recurrence]";
    for (int64_t memory = 0; memory < rows.num_memories; ++memory) {
      RecurrencePlan::Run run = plan.runs[i];
      run.line = run.line * rows.num_memories + memory;
      run.rows = {row, row + rows.of_runs[i][memory]};
      row = run.rows.end;
      memories.runs.push_back(run);
    }
  }
  return memories;
}

}  // namespace trireme
