// Softmax attention over tokens that are cut over the sequence axis: how queries come to see the
// keys and values of other ranks. Any cut, packed documents, ragged and empty parts; a mask is
// causal inside documents, with an optional sliding window.
//
// Legend: n tokens of this rank, h heads, g key-value heads, d and dv widths.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/registry.h"
#include "core/base/status.h"
#include "core/batch.h"
#include "core/tensor/tensor.h"
#include "parallel/mesh/groups.h"
#include "parallel/sequence/sequence_cut.h"

namespace trireme {

class KvExchange {
 public:
  virtual ~KvExchange() = default;

  // softmax(scale q k^T) v of this rank's tokens over all keys of their documents, window 0 meaning
  // no limit: q [n, h, d], k [n, g, d], v [n, g, dv] -> [n, h, dv], differentiable. A collective
  // over the axis, in backward too; every rank has the layout of the same micro-batch.
  virtual Tensor operator()(const Tensor& q, const Tensor& k, const Tensor& v,
                            const TokenLayout& layout, int64_t window, double scale) const = 0;
};

// A method for one size of the axis: what must be known before ranks talk.
struct KvExchangePlan {
  SequenceCut cut;   // Under which its ranks have equal work; results are right under any.
  int ulysses_size;  // Neighbouring ranks that change tokens for heads; divides the axis.
  // Makes the method between such groups, over the ranks with the same place in them.
  std::unique_ptr<KvExchange> (*between)(Communicator& axis);
};
using KvExchangePlanner = StatusOr<KvExchangePlan> (*)(const Params& params, int axis_size);

// The registry, made from kv_exchanges.def.
absl::Span<const Entry<KvExchangePlanner>> KvExchanges();

// INVALID_ARGUMENT for an unknown method, and for parameters that do not fit it or the axis.
StatusOr<KvExchangePlan> PlanKvExchange(absl::string_view name, const ParamMap& params,
                                        int axis_size);

// Heads after the tensor axis has cut them. INVALID_ARGUMENT when Ulysses cannot cut them further.
Status CheckHeads(const KvExchangePlan& plan, int64_t heads, int64_t kv_heads);

// What MeshGroups::Create must be told, beside the sequence axis itself.
std::vector<AxisFactors> FactorsOf(const KvExchangePlan& plan);

// `groups` must outlive it, and the graphs made with it.
std::unique_ptr<KvExchange> MakeKvExchange(const KvExchangePlan& plan, const MeshGroups& groups);

}  // namespace trireme
