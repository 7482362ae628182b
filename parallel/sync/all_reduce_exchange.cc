#include "parallel/sync/all_reduce_exchange.h"

#include <algorithm>

namespace trireme {

std::vector<WorkItem> MicroBatches(const AllReduceOptions& options, int rank, int size,
                                   int64_t step) {
  const Share share = ShareOf(options.global_batch_size, rank, size);
  const int64_t begin = step * options.global_batch_size;
  const int64_t micro =
      options.micro_batch_size > 0 ? options.micro_batch_size : std::max<int64_t>(1, share.size());
  std::vector<WorkItem> items;
  for (int64_t first = share.first; first < share.last; first += micro) {
    WorkItem item{step, {}, 1, 0};
    for (int64_t i = first; i < std::min(first + micro, share.last); ++i) {
      item.samples.push_back(begin + i);
    }
    items.push_back(std::move(item));
  }
  return items;
}

AllReduceExchange::AllReduceExchange(const ParameterSet& parameters, Device& device,
                                     Communicator& replica, const AllReduceOptions& options)
    : AllReduceExchange(parameters, device, replica, {}, replica.rank(), replica.size(), options) {}

AllReduceExchange::AllReduceExchange(const ParameterSet& parameters, Device& device,
                                     Communicator& replica, const ReplicaGroups& inside, int share,
                                     int num_shares, const AllReduceOptions& options)
    : device_(device),
      replica_(replica),
      inside_(inside),
      share_(share),
      num_shares_(num_shares),
      options_(options),
      gradients_(parameters, device, inside, {options.bucket_bytes, options.zero_stage}) {}

std::vector<WorkItem> AllReduceExchange::Plan(int64_t step) {
  job_ = step;
  return MicroBatches(options_, share_, num_shares_, step);
}

void AllReduceExchange::Reset() {
  gradients_.Reset();
  in_flight_.clear();
  num_started_ = 0;
}

Status AllReduceExchange::UnitDone(int, int unit, bool last) {
  RETURN_IF_ERROR(gradients_.UnitDone(unit, last));
  StartBuckets();
  return absl::OkStatus();
}

void AllReduceExchange::StartBuckets() {
  if (!over_replicas_) return;
  for (; num_started_ < gradients_.num_complete(); ++num_started_) {
    in_flight_.push_back(
        replica_.AllReduce(gradients_.OwnedBucket(num_started_), {.purpose = "gradients"}));
  }
}

StatusOr<std::vector<CompletedJob>> AllReduceExchange::Finish(absl::Span<const LossSum> losses) {
  RETURN_IF_ERROR(gradients_.Finish());
  StartBuckets();
  LossSum total;
  for (const LossSum& loss : losses) total.Add(loss);
  // Counts are exact in f64 up to 2^53.
  double sums[] = {total.sum, static_cast<double>(total.count), static_cast<double>(total.bytes)};
  RETURN_IF_ERROR(SumOver(inside_.losses, device_, "loss", absl::MakeSpan(sums)));
  if (over_replicas_) RETURN_IF_ERROR(SumOver(&replica_, device_, "loss", absl::MakeSpan(sums)));
  const Status status = CatchFailure([&] {
    for (const auto& work : in_flight_) work->Join(device_.compute());
  });
  in_flight_.clear();
  RETURN_IF_ERROR(status);
  return std::vector<CompletedJob>{
      {job_,
       &gradients_.owned(),
       {sums[0], static_cast<int64_t>(sums[1]), static_cast<int64_t>(sums[2])}}};
}

}  // namespace trireme
