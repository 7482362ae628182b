#include "parallel/sequence/kv_exchange.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "parallel/sequence/kv_block.h"
#include "parallel/sequence/kv_exchanges.h"

namespace trireme {
namespace {

constexpr absl::Span<const ParamInfo> kNoKvExchangeParams;
constexpr ParamInfo kUlyssesRingParams[] = {
    {"ulysses_size", ParamType::kInt, nullptr,
     "neighbouring ranks that change tokens for heads, a divisor of the sequence axis", 1},
};

StatusOr<KvExchangePlan> PlanAllGather(const Params&, int) {
  return KvExchangePlan{SequenceCut::kZigzag, 1, MakeKvAllGather};
}

StatusOr<KvExchangePlan> PlanRing(const Params&, int) {
  return KvExchangePlan{SequenceCut::kZigzag, 1, MakeKvRing};
}

StatusOr<KvExchangePlan> PlanUlysses(const Params&, int axis_size) {
  return KvExchangePlan{SequenceCut::kContiguous, axis_size, MakeKvRing};
}

StatusOr<KvExchangePlan> PlanUlyssesRing(const Params& params, int axis_size) {
  const int64_t size = params.Int("ulysses_size");
  if (axis_size % size != 0) {
    return absl::InvalidArgumentError(absl::StrCat("ulysses_ring: ulysses_size = ", size,
                                                   " does not divide the sequence axis of ",
                                                   axis_size, " ranks"));
  }
  // Of the zigzag cut for all ranks, a group of neighbours has that for the groups.
  return KvExchangePlan{SequenceCut::kZigzag, static_cast<int>(size), MakeKvRing};
}

}  // namespace

absl::Span<const Entry<KvExchangePlanner>> KvExchanges() {
  static constexpr Entry<KvExchangePlanner> kEntries[] = {
#define KV_EXCHANGE(name, doc, params, planner) {#name, doc, params, planner},
#include "parallel/sequence/kv_exchanges.def"
#undef KV_EXCHANGE
  };
  return kEntries;
}

StatusOr<KvExchangePlan> PlanKvExchange(absl::string_view name, const ParamMap& params,
                                        int axis_size) {
  ASSIGN_OR_RETURN(const Entry<KvExchangePlanner>* entry,
                   FindEntry("kv_exchange", KvExchanges(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(name, entry->params, params));
  return entry->factory(checked, axis_size);
}

Status CheckHeads(const KvExchangePlan& plan, int64_t heads, int64_t kv_heads) {
  const int64_t size = plan.ulysses_size;
  if (heads % size != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("ulysses over ", size, " ranks cannot cut ", heads, " heads"));
  }
  if (kv_heads % size != 0 && size % kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("ulysses over ", size, " ranks can neither cut ",
                                                   kv_heads,
                                                   " key-value heads nor copy them evenly"));
  }
  return absl::OkStatus();
}

std::vector<AxisFactors> FactorsOf(const KvExchangePlan& plan) {
  if (plan.ulysses_size == 1) return {};
  return {{Axis::kSequence, plan.ulysses_size}};
}

std::unique_ptr<KvExchange> MakeKvExchange(const KvExchangePlan& plan, const MeshGroups& groups) {
  if (plan.ulysses_size == 1) return plan.between(groups.over(Axis::kSequence));
  Communicator& outer = groups.outer(Axis::kSequence, plan.ulysses_size);
  return MakeUlysses(groups.inner(Axis::kSequence, plan.ulysses_size), outer, plan.between(outer));
}

KvShape CheckedKvShape(const Tensor& q, const Tensor& k, const Tensor& v, const TokenLayout& layout,
                       int rank, int size) {
  const int64_t n = NumTokens(layout.segments);
  CHECK(q.rank() == 3 && k.rank() == 3 && v.rank() == 3 && q.dim(0) == n && k.dim(0) == n &&
        v.dim(0) == n && q.dim(2) == k.dim(2) && k.dim(1) == v.dim(1))
      << "q " << q.shape() << " k " << k.shape() << " v " << v.shape() << " of " << n
      << " tokens [kv_exchange]";
  CHECK(k.dim(1) > 0 && q.dim(1) % k.dim(1) == 0)
      << q.dim(1) << " heads over " << k.dim(1) << " key-value heads [kv_exchange]";
  CHECK(q.dtype() == k.dtype() && k.dtype() == v.dtype())
      << DTypeName(q.dtype()) << " " << DTypeName(k.dtype()) << " " << DTypeName(v.dtype())
      << " [kv_exchange]";
  CHECK_EQ(static_cast<int>(layout.axis_segments.size()), size) << "ranks in the layout";
  CHECK(layout.axis_segments[rank] == layout.segments)
      << "the layout of another rank than " << rank;
  return {k.dim(1), k.dim(2), v.dim(2)};
}

}  // namespace trireme
