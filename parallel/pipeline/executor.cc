#include "parallel/pipeline/executor.h"

#include <utility>

#include "absl/time/clock.h"

#include "core/autograd/backward.h"

namespace trireme {
namespace {

class Stopwatch {
 public:
  // The time since the last call.
  absl::Duration Lap() {
    const absl::Time now = absl::Now();
    return now - std::exchange(last_, now);
  }

 private:
  absl::Time last_ = absl::Now();
};

}  // namespace

StatusOr<RoundReport> Executor::Run(absl::Span<const WorkItem> items, const LoadFn& load,
                                    const ForwardContext& context, GradientExchange& exchange) {
  RoundReport report;
  report.losses.resize(1);
  std::vector<int> first_item, last_item;  // By sink.
  for (size_t i = 0; i < items.size(); ++i) {
    const size_t sink = items[i].sink;
    if (sink >= first_item.size()) {
      first_item.resize(sink + 1, -1);
      last_item.resize(sink + 1, -1);
      report.losses.resize(sink + 1);
    }
    if (first_item[sink] < 0) first_item[sink] = static_cast<int>(i);
    last_item[sink] = static_cast<int>(i);
  }
  if (items.empty()) exchange.sink(0).Reset();

  RETURN_IF_ERROR(CatchFailure([&] {
    for (int i = 0; i < static_cast<int>(items.size()); ++i) {
      const WorkItem& item = items[i];
      Stopwatch watch;
      const Batch batch = ValueOrThrow(load(item));
      report.load += watch.Lap();

      ForwardContext item_context = context;
      item_context.layout = batch.layout;
      const Tensor loss = ForwardLoss(model_, batch, item_context, options_.recompute);
      report.losses[item.sink].Add(
          {item.weight * loss.Item(), batch.num_targets, batch.num_bytes});
      report.forward += watch.Lap();

      GradientBuffers& sink = exchange.sink(item.sink);
      if (i == first_item[item.sink]) sink.Reset();
      const bool last = i == last_item[item.sink];
      sink.set_unit_callback([&](int unit) {
        if (last) exchange.UnitDone(item.sink, unit);
      });
      Backward({loss}, {Tensor::Full(loss.device(), loss.shape(), loss.dtype(), item.weight)}, sink);
      sink.set_unit_callback(nullptr);
      if (last) exchange.UnitDone(item.sink, 0);
      report.backward += watch.Lap();
    }
  }));
  return report;
}

}  // namespace trireme
