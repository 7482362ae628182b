#include "launch/exchange_config.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "core/base/params.h"
#include "launch/config.h"
#include "launch/local_step.h"
#include "optim/onebit_adam.h"

namespace trireme {
namespace {

Status AtField(const char* field, const Status& status) {
  return Status(status.code(), absl::StrCat(field, ": ", status.message()));
}

// equal, tokens, or a number for each replica.
Status ParseWeights(const std::string& text, ExchangeSpec* spec) {
  spec->token_weights = text == "tokens";
  if (text == "tokens" || text == "equal") return absl::OkStatus();
  for (const absl::string_view piece : absl::StrSplit(text, ',')) {
    double weight = 0;
    if (!ParseFloat(piece, &weight)) {
      return absl::InvalidArgumentError(
          absl::StrCat("weights: '", piece,
                       "' is no number; weights are equal, tokens, or a "
                       "number for each replica: 1,1,2"));
    }
    spec->weights.push_back(weight);
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<ExchangeSpec> ToExchangeSpec(const RunConfig::Exchange& row) {
  ExchangeSpec spec;
  if (row.point().empty()) {
    return absl::InvalidArgumentError(
        "point: is required; gradient, momentum, parameters or difference");
  }
  const auto point = ParseExchangePoint(row.point());
  if (!point.ok()) return AtField("point", point.status());
  spec.point = *point;
  if (row.has_pattern()) spec.pattern = row.pattern();
  spec.state = row.state();
  if (row.has_rule()) spec.rule = ToComponentConfig(row.rule());
  if (row.has_codec()) spec.codec = ToComponentConfig(row.codec());
  if (row.has_mixer()) spec.mixer = ToComponentConfig(row.mixer());
  if (row.has_outer()) spec.outer = ToComponentConfig(row.outer());
  if (row.has_memory()) {
    const auto memory = ParseExchangeMemory(row.memory());
    if (!memory.ok()) return AtField("memory", memory.status());
    spec.memory = *memory;
  }
  if (row.has_memory_decay()) {
    if (spec.memory != ExchangeMemory::kErrorFeedback) {
      return absl::InvalidArgumentError("memory_decay: is for memory error_feedback");
    }
    spec.memory_decay = row.memory_decay();
  }
  RETURN_IF_ERROR(ParseWeights(row.has_weights()        ? row.weights()
                               : spec.is_of_gradients() ? "tokens"
                                                        : "equal",
                               &spec));
  if (row.has_momentum()) {
    if (spec.point != ExchangePoint::kMomentum) {
      return absl::InvalidArgumentError("momentum: is for point momentum");
    }
    spec.momentum = row.momentum();
  }
  if (row.has_fragments()) spec.fragments = row.fragments();
  if (row.has_delay()) spec.delay = row.delay();
  if (row.has_keep_local()) spec.keep_local = row.keep_local();
  if (row.has_from_step()) spec.from_step = row.from_step();
  if (row.has_until_step()) spec.until_step = row.until_step();
  return spec;
}

StatusOr<std::vector<ExchangeSpec>> ExchangesOf(const RunConfig& config) {
  std::vector<ExchangeSpec> rows;
  for (const RunConfig::Exchange& row : config.exchanges()) {
    ASSIGN_OR_RETURN(rows.emplace_back(), ToExchangeSpec(row));
  }
  if (rows.empty()) rows.push_back(PlainGradientExchange());
  return rows;
}

Status CheckLocalStep(const RunConfig& config) {
  const std::string& name = config.local_step().name();
  const ComponentConfig local = ToComponentConfig(config.local_step());
  ASSIGN_OR_RETURN(const std::unique_ptr<LocalStep> step, MakeLocalStep(local.name, local.params));
  const int64_t shares = config.mesh().replica() * config.mesh().shard();
  const int64_t samples = config.batch().global_batch_size();
  if (samples % (step->num_batches() * shares) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "local_step: ", name, " halves a step's samples, and batch.global_batch_size ", samples,
        " is not divisible by ", step->num_batches(), " times replica=", config.mesh().replica(),
        " times shard=", config.mesh().shard()));
  }
  if (step->adds_up() || config.mesh().replica() == 1) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<ExchangeSpec> rows, ExchangesOf(config));
  const bool plain = std::any_of(rows.begin(), rows.end(), [&](const ExchangeSpec& row) {
    return row.IsPlainGradient() && row.pattern == "*" && row.from_step < config.num_steps();
  });
  if (!plain) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "local_step: ", name,
      " makes its gradient after backward, when data parallelism has added up what backward made; "
      "give exchanges of point parameters or difference, or of point gradient with weights equal"));
}

Status CheckFirstMoments(const RunConfig& config, const Component& optimizer) {
  ASSIGN_OR_RETURN(const std::vector<ExchangeSpec> rows, ExchangesOf(config));
  const auto averages = [](const ExchangeSpec& row) {
    return row.point == ExchangePoint::kMomentum && row.state == "exp_avg";
  };
  const bool takes_moments = optimizer.name() == "onebit_adam";
  if (!takes_moments) {
    if (std::none_of(rows.begin(), rows.end(), averages)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(optimizer.name(),
                     " would average anew what the exchange of point momentum and state exp_avg "
                     "has averaged; it is for onebit_adam"));
  }
  const ComponentConfig component = ToComponentConfig(optimizer);
  ASSIGN_OR_RETURN(const Params params,
                   Params::Create(component.name, kOneBitAdamParams, component.params));
  const int64_t freeze_step = params.Int("freeze_step");
  if (freeze_step >= config.num_steps()) return absl::OkStatus();
  for (const ExchangeSpec& row : rows) {
    if (averages(row) && row.from_step == freeze_step && row.until_step >= config.num_steps() &&
        row.momentum == params.Float("beta1")) {
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "onebit_adam takes its first moment from an exchange after step ", freeze_step,
      ", and there is none: exchanges { point: \"momentum\" state: \"exp_avg\" momentum: ",
      params.Float("beta1"), " from_step: ", freeze_step, " }"));
}

}  // namespace trireme
