#include "parallel/sequence/sequence_axis.h"

#include "core/base/log.h"
#include "parallel/sequence/sequence_recurrence.h"
#include "parallel/sequence/token_halo.h"
#include "parallel/sequence/unmasked_attention.h"

namespace trireme {

StatusOr<SequenceAxis> SequenceAxis::Create(absl::string_view method, const ParamMap& params,
                                            const MeshGroups& groups, const ScanChoice& scan) {
  const Mesh& mesh = groups.mesh();
  ASSIGN_OR_RETURN(SequenceAxis axis,
                   Declare(method, params, mesh.Coordinate(groups.world_rank(), Axis::kSequence),
                           mesh.size(Axis::kSequence), scan));
  if (axis.size_ > 1) {
    axis.exchange_ = MakeKvExchange(axis.plan_, groups);
    axis.scan_ = std::make_unique<AffineScan>(axis.scan_plan_, groups.over(Axis::kSequence));
  }
  return axis;
}

StatusOr<SequenceAxis> SequenceAxis::Declare(absl::string_view method, const ParamMap& params,
                                             int rank, int size, const ScanChoice& scan) {
  SequenceAxis axis;
  axis.rank_ = rank;
  axis.size_ = size;
  ASSIGN_OR_RETURN(axis.scan_plan_, PlanScan(scan.name, scan.params));
  if (size == 1) return axis;
  ASSIGN_OR_RETURN(axis.plan_, PlanKvExchange(method, params, size));
  return axis;
}

HostBatch SequenceAxis::Cut(HostBatch whole) const {
  return size_ == 1 ? whole : CutBatch(whole, plan_.cut, size_, rank_);
}

Status SequenceAxis::CheckHeads(int64_t heads, int64_t kv_heads) const {
  return size_ == 1 ? absl::OkStatus() : trireme::CheckHeads(plan_, heads, kv_heads);
}

Tensor SequenceAxis::Attend(const Tensor& q, const Tensor& k, const Tensor& v,
                            const TokenLayout& layout, int64_t window, double scale) const {
  if (size_ > 1) {
    CHECK(exchange_ != nullptr) << "a sequence axis that was declared only";
    return (*exchange_)(q, k, v, layout, window, scale);
  }
  return Attention(q, k, v, CausalKeyRanges(q.device(), layout, window), scale);
}

std::vector<TokenRun> SequenceAxis::Runs(const TokenLayout& layout) const {
  std::vector<TokenRun> runs;
  for (const DocumentRun& run : DocumentRuns(layout.segments, layout.documents)) {
    runs.push_back(run.rows);
  }
  return runs;
}

RecurrenceOutputs SequenceAxis::Recur(const RecurrenceInputs& inputs, const TokenLayout& layout,
                                      const Tensor& initial_state) const {
  return RecurBy(PlanRecurrence(layout, plan_.cut, rank_, initial_state.defined()), inputs,
                 initial_state);
}

RecurrenceOutputs SequenceAxis::Recur(const RecurrenceInputs& inputs, const TokenLayout& layout,
                                      const MemoryRows& rows, const Tensor& initial_state) const {
  const RecurrencePlan plan = PlanRecurrence(layout, plan_.cut, rank_, initial_state.defined());
  return RecurBy(PlanMemories(plan, rows), inputs, initial_state);
}

RecurrenceOutputs SequenceAxis::RecurBy(const RecurrencePlan& plan, const RecurrenceInputs& inputs,
                                        const Tensor& initial_state) const {
  if (size_ == 1) return WholeRecurrence(inputs, plan, initial_state);
  CHECK(scan_ != nullptr) << "a sequence axis that was declared only";
  return SequenceRecurrence(inputs, plan, *scan_, initial_state);
}

Tensor SequenceAxis::AttendUnmasked(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const TokenLayout& layout, double scale) const {
  CHECK(size_ == 1 || scan_ != nullptr) << "a sequence axis that was declared only";
  return UnmaskedAttention(q, k, v, scale, PlanRecurrence(layout, plan_.cut, rank_, false),
                           scan_.get());
}

Tensor SequenceAxis::History(const Tensor& x, int64_t width, const TokenLayout& layout) const {
  if (size_ == 1) return Tensor();
  CHECK(scan_ != nullptr) << "a sequence axis that was declared only";
  return TokenHalo(x, width, layout, scan_->axis());
}

}  // namespace trireme
