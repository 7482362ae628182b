#include "parallel/sequence/sequence_axis.h"

#include "core/ops/ops.h"

namespace trireme {

StatusOr<SequenceAxis> SequenceAxis::Create(absl::string_view method, const ParamMap& params,
                                            const MeshGroups& groups) {
  SequenceAxis axis;
  axis.size_ = groups.mesh().size(Axis::kSequence);
  if (axis.size_ == 1) return axis;
  axis.rank_ = groups.mesh().Coordinate(groups.world_rank(), Axis::kSequence);
  ASSIGN_OR_RETURN(axis.plan_, PlanKvExchange(method, params, axis.size_));
  axis.exchange_ = MakeKvExchange(axis.plan_, groups);
  return axis;
}

HostBatch SequenceAxis::Cut(HostBatch whole) const {
  return exchange_ == nullptr ? whole : CutBatch(whole, plan_.cut, size_, rank_);
}

Status SequenceAxis::CheckHeads(int64_t heads, int64_t kv_heads) const {
  return exchange_ == nullptr ? absl::OkStatus() : trireme::CheckHeads(plan_, heads, kv_heads);
}

Tensor SequenceAxis::Attend(const Tensor& q, const Tensor& k, const Tensor& v,
                            const TokenLayout& layout, int64_t window, double scale) const {
  if (exchange_ != nullptr) return (*exchange_)(q, k, v, layout, window, scale);
  return Attention(q, k, v, CausalKeyRanges(q.device(), layout, window), scale);
}

}  // namespace trireme
