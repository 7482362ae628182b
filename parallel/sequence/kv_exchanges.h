// The methods of kv_exchanges.def, to be made over one communicator each, which must outlive them.
#pragma once

#include <memory>

#include "parallel/comm/communicator.h"
#include "parallel/sequence/kv_exchange.h"

namespace trireme {

// kv_ring.cc
std::unique_ptr<KvExchange> MakeKvRing(Communicator& axis);
// kv_all_gather.cc
std::unique_ptr<KvExchange> MakeKvAllGather(Communicator& axis);
// ulysses.cc. Ranks are numbered outer.rank() * inner.size() + inner.rank() along the axis;
// `between` runs over `outer`.
std::unique_ptr<KvExchange> MakeUlysses(Communicator& inner, Communicator& outer,
                                        std::unique_ptr<KvExchange> between);

// The shape of keys and values. CHECKs that all fits the layout and the axis, whose rank `rank`
// this is.
struct KvShape;
KvShape CheckedKvShape(const Tensor& q, const Tensor& k, const Tensor& v, const TokenLayout& layout,
                       int rank, int size);

}  // namespace trireme
