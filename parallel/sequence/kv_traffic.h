// What the methods of kv_exchanges.def send: the closed forms that kv_all_gather.cc, kv_ring.cc and
// ulysses.cc state, for any cut.
#pragma once

#include "absl/types/span.h"

#include "core/module/unit_traffic.h"
#include "parallel/comm/traffic.h"
#include "parallel/sequence/kv_exchange.h"

namespace trireme {

enum class Pass : uint8_t { kForward, kBackward };

// Of one attention on rank `rank` of the axis; tokens: of each rank. `dtype` is that of queries,
// keys and values.
void AddKvTraffic(const KvExchangePlan& plan, const AttentionHeads& heads,
                  absl::Span<const int64_t> tokens, int rank, DType dtype, Pass pass,
                  Traffic* traffic);

}  // namespace trireme
