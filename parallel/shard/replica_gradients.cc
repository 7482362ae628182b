#include "parallel/shard/replica_gradients.h"

#include <algorithm>
#include <utility>

#include "core/base/share.h"
#include "parallel/shard/declaration_checks.h"

namespace trireme {

ReplicaGradients::ReplicaGradients(const ParameterSet& parameters, Device& device,
                                   const ReplicaGroups& groups,
                                   const ReplicaGradientOptions& options)
    : parameters_(parameters),
      device_(device),
      groups_(groups),
      early_(options.zero_stage > 1 && ReplicaGroups::SizeOf(groups.owners) > 1),
      layout_(GradientLayout(parameters)),
      buckets_(MakeGradientBuckets(parameters, ReplicaGroups::SizeOf(groups.owners),
                                   ReplicaGroups::SizeOf(groups.tensor),
                                   DTypeSize(MasterType(parameters)), options.bucket_bytes)) {
  owned_ = UnitTensors(layout_, OwnedShapes(parameters), device, MasterType(parameters),
                       MemoryKind::kGradients, "gradients");
  if (ReplicaGroups::SizeOf(groups.owners) == 1) {
    sink_ = std::make_unique<GradientBuffers>(parameters, owned_);
  } else if (early_) {
    sink_ = GradientBuffers::Transient(parameters, device);
  } else {
    sink_ = std::make_unique<GradientBuffers>(parameters, device);
  }
}

Tensor ReplicaGradients::OwnedBucket(int bucket) const {
  return owned_.Units(buckets_[bucket].first, buckets_[bucket].last);
}

void ReplicaGradients::Reset() {
  sink_->Reset();
  done_.clear();
  transfers_.clear();
  touched_.assign(layout_.size(), false);
  num_started_ = num_complete_ = 0;
}

Status ReplicaGradients::UnitDone(int unit, bool last) {
  return CatchFailure([&] {
    if (early_) {
      ThrowIfError(Receive());
      const auto& all = parameters_.parameters();
      for (size_t i = 0; i < all.size(); ++i) {
        if (all[i]->unit() != unit || all[i]->spec.frozen) continue;
        sink_->ZeroIfUntouched(i);  // Every rank sends as often.
        Send(i);
      }
    }
    if (!last) return;
    done_.insert(unit);
    ThrowIfError(Advance());
  });
}

Status ReplicaGradients::Advance() {
  const auto is_done = [&](const GradientBucket& bucket) {
    for (const int i : bucket.parameters) {
      for (const int unit : parameters_.parameters()[i]->units) {
        if (done_.count(unit) == 0) return false;
      }
    }
    return !bucket.tied;  // What other stages share waits until nothing else is left to do.
  };
  while (num_started_ < num_buckets() && (finishing_ || is_done(buckets_[num_started_]))) {
    // What is on its way from the bucket before has had the time of a bucket's backward.
    RETURN_IF_ERROR(Receive());
    while (num_complete_ < num_started_) RETURN_IF_ERROR(Complete(buckets_[num_complete_]));
    for (const int i : buckets_[num_started_].parameters) {
      if (!touched_[i]) sink_->ZeroIfUntouched(i);  // No micro-batch was this rank's.
      Send(i);
    }
    ++num_started_;
    if (transfers_.empty()) RETURN_IF_ERROR(Complete(buckets_[num_complete_]));
  }
  return absl::OkStatus();
}

void ReplicaGradients::Send(int i) {
  if (groups_.owners == nullptr) return;  // The sink is in the memory of the owned gradients.
  const Tensor mine = early_ ? sink_->Take(i) : sink_->gradient(i);
  if (!mine.defined()) return;
  const Shape& local = parameters_.parameters()[i]->spec.local.size;
  const int size = groups_.owners->size();
  std::vector<int64_t> counts;
  for (int rank = 0; rank < size; ++rank) {
    counts.push_back(ShareOf(local[0], rank, size).size() * local.numel() /
                     std::max<int64_t>(1, local[0]));
  }
  Transfer transfer{i, Tensor(), nullptr};
  if (touched_[i]) {
    transfer.part = Tensor::Empty(device_, owned_.of(i).shape(), owned_.of(i).dtype(),
                                  MemoryKind::kCommunication, "gradient part");
  }
  transfer.work =
      groups_.owners->ReduceScatter(mine, touched_[i] ? transfer.part : owned_.of(i),
                                    {.purpose = "gradients to owners", .counts = counts});
  touched_[i] = true;
  transfers_.push_back(std::move(transfer));
}

Status ReplicaGradients::Receive() {
  return CatchFailure([&] {
    for (Transfer& transfer : transfers_) {
      transfer.work->Join(device_.compute());
      if (transfer.part.defined()) owned_.of(transfer.parameter).Accumulate(transfer.part);
    }
    transfers_.clear();
  });
}

Status ReplicaGradients::Complete(const GradientBucket& bucket) {
  if (!declarations_checked_ && groups_.tensor != nullptr) {
    RETURN_IF_ERROR(
        CheckContributions(parameters_, bucket.parameters, owned_, device_, *groups_.tensor));
  }
  std::vector<std::unique_ptr<Work>> works;
  for (const int i : bucket.parameters) {
    const Parameter& parameter = *parameters_.parameters()[i];
    const auto add_up = [&](Communicator* group, const char* purpose) {
      if (group != nullptr) works.push_back(group->AllReduce(owned_.of(i), {.purpose = purpose}));
    };
    if (parameter.spec.partial_grad.Contains(Axis::kTensor)) {
      add_up(groups_.tensor, "partial gradients");
    }
    if (parameter.spec.copies > 1)
      add_up(groups_.copies.at(parameter.spec.copies), "gradients of copies");
    if (bucket.tied) add_up(groups_.tied, "tied gradients");
  }
  RETURN_IF_ERROR(CatchFailure([&] {
    for (const auto& work : works) work->Join(device_.compute());
  }));
  ++num_complete_;
  return absl::OkStatus();
}

Status ReplicaGradients::Finish() {
  return CatchFailure([&] {
    finishing_ = true;
    Status status = Advance();
    status.Update(Receive());
    while (status.ok() && num_complete_ < num_buckets()) status = Complete(buckets_[num_complete_]);
    finishing_ = false;
    ThrowIfError(status);
    declarations_checked_ = true;
  });
}

}  // namespace trireme
