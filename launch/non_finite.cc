#include "launch/non_finite.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace trireme {
namespace {

// Where something can go wrong, in the order in which a step computes.
enum class Pass : int64_t { kForward, kBackward };

// The same as a number that ranks can compare; `index` is a unit's, the later of two places may be
// taken for the earlier when it does not fit.
int64_t OrderOf(Pass pass, int64_t index, int64_t position, int rank) {
  constexpr int64_t kIndices = 1 << 16, kPositions = 1 << 28, kRanks = 1 << 16;
  return ((static_cast<int64_t>(pass) * kIndices + std::min(index, kIndices - 1)) * kPositions +
          std::min(position, kPositions - 1)) *
             kRanks +
         rank;
}

// Of the first row, as tokens stand, that is not finite.
std::optional<int64_t> FirstRow(const Tensor& x) {
  const std::vector<double> values = x.ToVector();
  const auto it = std::find_if_not(values.begin(), values.end(),
                                   [](double value) { return std::isfinite(value); });
  if (it == values.end()) return std::nullopt;
  return x.rank() == 0 ? 0 : (it - values.begin()) / (x.numel() / x.dim(0));
}

class Search {
 public:
  Search(const Model& model, int rank) : model_(model), rank_(rank) {}

  void Output(int unit, const Tensor& output, const Batch& batch) {
    const std::optional<int64_t> row = FirstRow(output);
    if (!row.has_value()) return;
    std::string where = absl::StrCat("the output of ", model_.UnitName(unit));
    int64_t position = 0;
    // A stream that is cut over the tensor axis, or a loss, has no row for each token.
    const TokenLayout& layout = batch.layout;
    if (output.rank() > 0 && output.dim(0) == layout.num_tokens()) {
      position = static_cast<int64_t>(layout.position.ToVector()[*row]);
      absl::StrAppend(&where, " at position ", position, " of sample ",
                      static_cast<int64_t>(layout.sample.ToVector()[*row]));
    }
    Offer(OrderOf(Pass::kForward, unit, position, rank_), where);
  }

  void Gradients(const UnitTensors& gradients) {
    const auto& parameters = model_.parameters().parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (!FirstRow(gradients.of(i)).has_value()) continue;
      Offer(OrderOf(Pass::kBackward, model_.num_units() - parameters[i]->unit(), 0, rank_),
            absl::StrCat("the gradient of ", parameters[i]->spec.path));
    }
  }

  // Of all ranks.
  std::string Agree(Communicator& world, Device& device) const {
    const Tensor order = Tensor::FromHost<int64_t>(device, {1}, {&order_, 1});
    world.AllReduce(order, {.purpose = "non-finite", .op = ReduceOp::kMin})->Join(device.compute());
    const auto first = static_cast<int64_t>(order.ToHost<int64_t>()[0]);
    if (first == kNowhere) return "nothing that is left to see";
    const int rank = static_cast<int>(first % (1 << 16));
    std::string text = absl::StrCat(text_, ", on rank ", rank);
    text.resize(kTextBytes, ' ');
    const Tensor bytes = Tensor::FromHost<uint8_t>(
        device, {kTextBytes}, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    world.Broadcast(bytes, rank, {.purpose = "non-finite"})->Join(device.compute());
    const std::vector<uint8_t> agreed = bytes.ToHost<uint8_t>();
    text.assign(agreed.begin(), agreed.end());
    absl::StripTrailingAsciiWhitespace(&text);
    return text;
  }

 private:
  static constexpr int64_t kNowhere = std::numeric_limits<int64_t>::max();
  static constexpr int64_t kTextBytes = 256;

  void Offer(int64_t order, std::string text) {
    if (order >= order_) return;
    order_ = order;
    text_ = std::move(text);
  }

  const Model& model_;
  const int rank_;
  int64_t order_ = kNowhere;
  std::string text_;
};

}  // namespace

StatusOr<std::string> FirstNonFinite(Model& model, Executor& executor,
                                     absl::Span<const WorkItem> items, const Executor::LoadFn& load,
                                     const ForwardContext& context, const UnitTensors& gradients,
                                     Communicator& world, Device& device) {
  Search search(model, world.rank());
  executor.set_probe([&](int unit, const Tensor& output, const Batch& batch) {
    search.Output(unit, output, batch);
  });
  const auto score = [&](const Tensor& hidden, const Batch& batch, const ForwardContext& of_batch) {
    const int last = model.num_units() - 1;
    search.Output(last, model.RunUnit(last, hidden, batch, of_batch), batch);
  };
  const Status status = executor.Evaluate(items, load, context, score);
  executor.set_probe(nullptr);
  RETURN_IF_ERROR(status);
  std::string first;
  RETURN_IF_ERROR(CatchFailure([&] {
    search.Gradients(gradients);
    first = search.Agree(world, device);
  }));
  return first;
}

}  // namespace trireme
