// SequenceAxis: what data and layers know of the sequence axis. Made without ranks it is a rank
// alone, which has whole samples.
#pragma once

#include <memory>

#include "parallel/sequence/kv_exchange.h"

namespace trireme {

class SequenceAxis {
 public:
  SequenceAxis() = default;
  // `groups`, which must outlive it, has the sequence axis and its factors. INVALID_ARGUMENT as
  // PlanKvExchange.
  static StatusOr<SequenceAxis> Create(absl::string_view method, const ParamMap& params,
                                       const MeshGroups& groups);
  // Without communicators: all but Attend.
  static StatusOr<SequenceAxis> Declare(absl::string_view method, const ParamMap& params, int rank,
                                        int size);

  int size() const { return size_; }
  int rank() const { return rank_; }
  const KvExchangePlan& plan() const { return plan_; }
  // This rank's tokens of what the ranks have together.
  HostBatch Cut(HostBatch whole) const;

  // INVALID_ARGUMENT when the method cannot cut so many heads (after the tensor axis has).
  Status CheckHeads(int64_t heads, int64_t kv_heads) const;
  // Attention of this rank's tokens over all keys of their documents; see KvExchange.
  Tensor Attend(const Tensor& q, const Tensor& k, const Tensor& v, const TokenLayout& layout,
                int64_t window, double scale) const;

 private:
  int size_ = 1;
  int rank_ = 0;
  KvExchangePlan plan_ = {};
  std::unique_ptr<KvExchange> exchange_;  // nullptr: alone, or no more than declared.
};

}  // namespace trireme
