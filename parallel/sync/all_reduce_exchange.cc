#include "parallel/sync/all_reduce_exchange.h"

#include <algorithm>

namespace trireme {

Share ShareOf(int64_t n, int rank, int size) {
  const int64_t base = n / size, extra = n % size;
  const int64_t first = rank * base + std::min<int64_t>(rank, extra);
  return {first, first + base + (rank < extra ? 1 : 0)};
}

std::vector<WorkItem> MicroBatches(const AllReduceOptions& options, int rank, int size, int64_t step) {
  const Share share = ShareOf(options.global_batch_size, rank, size);
  const int64_t begin = step * options.global_batch_size;
  const int64_t micro = options.micro_batch_size > 0 ? options.micro_batch_size
                                                     : std::max<int64_t>(1, share.last - share.first);
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
    : device_(device),
      replica_(replica),
      options_(options),
      gradients_(parameters, device) {
  int last = gradients_.num_units() - 1;
  for (int unit = last; unit >= 0; --unit) {
    const Tensor bucket = gradients_.Units(unit, last);
    if (unit > 0 && bucket.numel() * DTypeSize(bucket.dtype()) < options_.bucket_bytes) continue;
    buckets_.push_back({unit, last});
    last = unit - 1;
  }
}

std::vector<WorkItem> AllReduceExchange::Plan(int64_t step) {
  job_ = step;
  return MicroBatches(options_, replica_.rank(), replica_.size(), step);
}

void AllReduceExchange::UnitDone(int, int unit) {
  for (; num_started_ < buckets_.size() && buckets_[num_started_].first >= unit; ++num_started_) {
    const Bucket& bucket = buckets_[num_started_];
    gradients_.ZeroUntouched(bucket.first, bucket.last);
    in_flight_.push_back(
        replica_.AllReduce(gradients_.Units(bucket.first, bucket.last), {.purpose = "gradients"}));
  }
}

StatusOr<std::vector<CompletedJob>> AllReduceExchange::Finish(absl::Span<const LossSum> losses) {
  UnitDone(0, 0);  // Also for a rank that had no item.
  LossSum total;
  for (const LossSum& loss : losses) total.Add(loss);
  // Counts are exact in f64 up to 2^53.
  const Tensor sums = Tensor::FromVector(
      device_, {3},
      {total.sum, static_cast<double>(total.count), static_cast<double>(total.bytes)}, DType::kF64);
  in_flight_.push_back(replica_.AllReduce(sums, {.purpose = "loss"}));
  Status status;
  for (const auto& work : in_flight_) status.Update(work->Wait());
  in_flight_.clear();
  num_started_ = 0;
  RETURN_IF_ERROR(status);
  const std::vector<double> values = sums.ToVector();
  return std::vector<CompletedJob>{{job_,
                                    &gradients_,
                                    {values[0], static_cast<int64_t>(values[1]),
                                     static_cast<int64_t>(values[2])}}};
}

}  // namespace trireme
