#include "launch/exchange_config.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "core/base/params.h"
#include "launch/config.h"

namespace trireme {
namespace {

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
  ASSIGN_OR_RETURN(spec.point, ParseExchangePoint(row.point()));
  if (row.has_pattern()) spec.pattern = row.pattern();
  spec.state = row.state();
  if (row.has_rule()) spec.rule = ToComponentConfig(row.rule());
  if (row.has_codec()) spec.codec = ToComponentConfig(row.codec());
  if (row.has_mixer()) spec.mixer = ToComponentConfig(row.mixer());
  if (row.has_outer()) spec.outer = ToComponentConfig(row.outer());
  if (row.has_memory()) {
    ASSIGN_OR_RETURN(spec.memory, ParseExchangeMemory(row.memory()));
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

}  // namespace trireme
