// What exchanges keep from step to step, as boxes of tensors and as numbers: Exchanges for
// checkpoints.
#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/base/rng.h"
#include "parallel/sync/exchanges.h"

namespace trireme {
namespace {

Box Interval(int64_t begin, int64_t size) { return {Shape({begin}), Shape({size})}; }

}  // namespace

bool Exchanges::has_local_steps() const {
  return context_.replica.size() > 1 &&
         std::any_of(specs_.begin(), specs_.end(),
                     [](const ExchangeSpec& spec) { return !spec.is_of_gradients(); });
}

std::string Exchanges::NameOf(const Row& row) const {
  return absl::StrCat("exchange", row.spec - specs_.data());
}

bool Exchanges::at_round_end() const {
  const auto& parameters = context_.parameters.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!parameters[i]->spec.frozen && exchanged_at_[i] != steps_done_) return false;
  }
  return true;
}

void Exchanges::AddParts(const std::string& exchange, const std::vector<int>& parameters,
                         const WholeBlocks& blocks, const Codec& codec,
                         absl::Span<const ExchangeState> states, std::vector<Part>* parts) const {
  const auto& all = context_.parameters.parameters();
  std::map<uint64_t, int> by_key;
  for (const int i : parameters) by_key[StableHash(all[i]->spec.path)] = i;
  for (const ExchangeState& state : states) {
    if (state.layout == ExchangeState::Layout::kNumber) {
      const Shape shape = state.data.shape();
      parts->push_back({absl::StrCat(exchange, ".", state.name), -1, shape, WholeBox(shape),
                        state.data, state.of_replica, state.resize, false});
      continue;
    }
    const bool of_codec = state.layout == ExchangeState::Layout::kCodec;
    int64_t at = 0;  // Of the piece, in the layout of the state.
    for (const CodecPiece& piece : blocks.pieces()) {
      const int64_t size = of_codec ? codec.LinearStateSize(piece) : piece.size;
      const int64_t begin = std::max(at, state.first);
      const int64_t end = std::min(at + size, state.first + state.data.numel());
      const int parameter = by_key.at(piece.key);
      const Shape global({of_codec ? size : piece.parameter.numel()});
      // Of what a rank has nothing, it says so: an empty box.
      const int64_t count = std::max<int64_t>(0, end - begin);
      const int64_t place = count == 0 ? 0 : (of_codec ? 0 : piece.first) + begin - at;
      parts->push_back(
          {absl::StrCat(all[parameter]->spec.path, "/", exchange, ".", state.name), parameter,
           global, Interval(place, count),
           count == 0 ? state.data.View1D(0, 0) : state.data.View1D(begin - state.first, count),
           state.of_replica, state.resize, state.is_cut_by_replica});
      at += size;
    }
  }
}

Status Exchanges::Settle() {
  for (Round& round : rounds_) {
    if (round.apply_at != 0) RETURN_IF_ERROR(round.exchange->Arrive());
  }
  return absl::OkStatus();
}

std::vector<Exchanges::Part> Exchanges::Parts() {
  std::vector<Part> parts;
  for (const auto& row : rows_) {
    if (row->gradients == nullptr) continue;
    AddParts(NameOf(*row), row->gradients->parameters(), row->gradients->blocks(), *row->codec,
             row->gradients->States(), &parts);
  }
  for (size_t i = 0; i < rounds_.size(); ++i) {
    Round& round = rounds_[i];
    const double loss[] = {round.loss.sum, static_cast<double>(round.loss.count),
                           static_cast<double>(round.loss.bytes)};
    round.saved_loss = Tensor::FromHost<double>(context_.device, {3}, loss);
    parts.push_back({absl::StrCat("round", i, ".loss"),
                     -1,
                     {3},
                     WholeBox({3}),
                     round.saved_loss,
                     true,
                     ExchangeState::Resize::kSumOverN,
                     false});
    if (round.exchange->blocks() == nullptr) continue;
    AddParts(NameOf(*round.row), round.parameters, *round.exchange->blocks(), *round.row->codec,
             round.exchange->States(round.apply_at != 0), &parts);
  }
  return parts;
}

std::map<std::string, double> Exchanges::Numbers() const {
  std::map<std::string, double> numbers;
  numbers["replicas_agree"] = in_agreement();
  for (size_t i = 0; i < rounds_.size(); ++i) {
    const Round& round = rounds_[i];
    const auto put = [&](const char* name, double value) {
      numbers[absl::StrCat("round", i, ".", name)] = value;
    };
    const RoundClock::Position position = round.clock->position();
    put("round", position.round);
    put("round_start", position.round_start);
    put("period", position.period);
    put("last_period", position.last_period);
    put("first_loss", position.signals.first_loss);
    put("last_loss", position.signals.loss);
    put("apply_at", round.apply_at);
    put("learning_rate", round.sent.learning_rate);
    put("learning_rate_sum", round.sent.learning_rate_sum);
  }
  return numbers;
}

Status Exchanges::SetNumbers(const std::map<std::string, double>& numbers) {
  Status status;
  const auto get = [&](const std::string& name) -> double {
    const auto it = numbers.find(name);
    if (it != numbers.end()) return it->second;
    status = absl::InvalidArgumentError(absl::StrCat("the checkpoint says nothing of '", name,
                                                     "': it was saved of other exchanges"));
    return 0;
  };
  agrees_.assign(agrees_.size(), get("replicas_agree") != 0);
  for (size_t i = 0; i < rounds_.size(); ++i) {
    Round& round = rounds_[i];
    const auto number = [&](const char* name) { return get(absl::StrCat("round", i, ".", name)); };
    const auto integer = [&](const char* name) { return static_cast<int64_t>(number(name)); };
    round.clock->set_position({integer("round"),
                               integer("round_start"),
                               integer("period"),
                               integer("last_period"),
                               {number("first_loss"), number("last_loss")}});
    round.apply_at = integer("apply_at");
    round.sent.learning_rate = number("learning_rate");
    round.sent.learning_rate_sum = number("learning_rate_sum");
  }
  return status;
}

void Exchanges::Loaded() {
  for (Round& round : rounds_) {
    const std::vector<double> loss = round.saved_loss.ToVector();
    round.loss = {loss[0], static_cast<int64_t>(loss[1]), static_cast<int64_t>(loss[2])};
  }
}

Status Exchanges::Restart() {
  for (Round& round : rounds_) RETURN_IF_ERROR(round.exchange->Restart());
  return absl::OkStatus();
}

}  // namespace trireme
