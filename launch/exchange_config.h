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

// INVALID_ARGUMENT when the exchanges of a config, whose mesh is complete, do not suit its local
// step, or its samples are not as many as that needs.
Status CheckLocalStep(const RunConfig& config);
// INVALID_ARGUMENT when an optimizer takes its first moment from an exchange (onebit_adam) that the
// config does not have then, or averages anew what an exchange of moments has made.
Status CheckFirstMoments(const RunConfig& config, const Component& optimizer);

}  // namespace trireme
