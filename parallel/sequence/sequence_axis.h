// SequenceAxis: what data and layers know of the sequence axis. Made without ranks it is a rank
// alone, which has whole samples.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/ops/ops.h"
#include "core/ops/recurrence.h"
#include "parallel/sequence/affine_scan.h"
#include "parallel/sequence/kv_exchange.h"
#include "parallel/sequence/recurrence_plan.h"

namespace trireme {

// An entry of scans.def.
struct ScanChoice {
  std::string name = "auto";
  ParamMap params;
};

class SequenceAxis {
 public:
  SequenceAxis() = default;
  // `groups`, which must outlive it, has the sequence axis and its factors. INVALID_ARGUMENT as
  // PlanKvExchange and PlanScan.
  static StatusOr<SequenceAxis> Create(absl::string_view method, const ParamMap& params,
                                       const MeshGroups& groups, const ScanChoice& scan = {});
  // Without communicators: all but Attend, Recur and History.
  static StatusOr<SequenceAxis> Declare(absl::string_view method, const ParamMap& params, int rank,
                                        int size, const ScanChoice& scan = {});

  int size() const { return size_; }
  int rank() const { return rank_; }
  const KvExchangePlan& plan() const { return plan_; }
  const ScanPlan& scan_plan() const { return scan_plan_; }
  // This rank's tokens of what the ranks have together.
  HostBatch Cut(HostBatch whole) const;

  // INVALID_ARGUMENT when the method cannot cut so many heads (after the tensor axis has).
  Status CheckHeads(int64_t heads, int64_t kv_heads) const;
  // Attention of this rank's tokens over all keys of their documents; see KvExchange.
  Tensor Attend(const Tensor& q, const Tensor& k, const Tensor& v, const TokenLayout& layout,
                int64_t window, double scale) const;

  // Linear attention and short convolutions see the tokens of a document only. The runs of this
  // rank's tokens: what ShortConv is given.
  std::vector<TokenRun> Runs(const TokenLayout& layout) const;
  // LinearRecurrence along the documents. initial_state [lines, h, K, V], undefined on every rank
  // or on none, goes into the first document of each sample (in order of their numbers), as if it
  // had begun before; the rank with the samples' ends gets final_state [lines, h, K, V], the others
  // none.
  RecurrenceOutputs Recur(const RecurrenceInputs& inputs, const TokenLayout& layout,
                          const Tensor& initial_state = Tensor()) const;
  // The same with several states a sample (Du et al. 2025, MoM): each memory sees those of the rows
  // of `inputs` that it takes. Lines: the memories of the first sample, of the second ...
  RecurrenceOutputs Recur(const RecurrenceInputs& inputs, const TokenLayout& layout,
                          const MemoryRows& rows, const Tensor& initial_state = Tensor()) const;
  // Linear attention without a mask, inside documents; see UnmaskedAttention.
  Tensor AttendUnmasked(const Tensor& q, const Tensor& k, const Tensor& v,
                        const TokenLayout& layout, double scale) const;
  // The `width` rows of x [n, c] before each run, [runs, width, c], wherever they are; zeros where
  // the document has not begun. Undefined when all would be zeros on every rank.
  Tensor History(const Tensor& x, int64_t width, const TokenLayout& layout) const;

 private:
  RecurrenceOutputs RecurBy(const RecurrencePlan& plan, const RecurrenceInputs& inputs,
                            const Tensor& initial_state) const;

  int size_ = 1;
  int rank_ = 0;
  KvExchangePlan plan_ = {};
  ScanPlan scan_plan_;
  // nullptr: alone, or no more than declared.
  std::unique_ptr<KvExchange> exchange_;
  std::unique_ptr<AffineScan> scan_;
};

}  // namespace trireme
