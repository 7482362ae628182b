// The exchanges of a config, as data.
#pragma once

#include <vector>

#include "core/base/status.h"
#include "launch/run_config.pb.h"
#include "parallel/sync/exchange_spec.h"

namespace trireme {

// Of a row whose components are complete. Errors open with the field: "point: unknown ...".
StatusOr<ExchangeSpec> ToExchangeSpec(const RunConfig::Exchange& row);

// Of a resolved config; the gradients of data parallelism where it names none.
StatusOr<std::vector<ExchangeSpec>> ExchangesOf(const RunConfig& config);

}  // namespace trireme
