// Attention cases on the whole and on the ranks of a sequence axis, for the tests of exchanges.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "core/ops/devices.h"
#include "parallel/comm/local.h"
#include "parallel/sequence/kv_exchange.h"

namespace trireme::testing {

// y, dq, dk, dv.
using Tensors = std::array<Tensor, 4>;
inline constexpr const char* kTensorNames[] = {"y", "dq", "dk", "dv"};

// A rank of the axis.
struct Place {
  SequenceCut cut;
  int size, rank;
};

struct KvCase {
  std::string name;
  std::vector<std::vector<int64_t>> samples;  // The lengths of the documents of each.
  int64_t heads, kv_heads, width, value_width;
  int64_t window = 0;

  std::vector<Segment> Segments() const;
  TokenLayout LayoutOf(const Place& place) const;

  // Inputs are functions of sample, position, head and channel, rounded to `rounded`.
  Tensors RunWhole(Device& device, DType dtype, DType rounded) const;
  Tensors Run(Device& device, DType dtype, DType rounded, const Place& place,
              const KvExchange& exchange) const;
  Tensor Forward(Device& device, DType dtype, const Place& place, const KvExchange& exchange) const;
  // What a rank has of tensors of the whole.
  Tensors RowsOf(const Tensors& whole, const Place& place) const;

 private:
  Tensors Inputs(Device& device, DType dtype, DType rounded) const;  // q, k, v, dy of the whole.
};

// Ragged, packed, short, windowed and grouped.
std::vector<KvCase> Cases();

struct Method {
  std::string method;
  ParamMap params;
  SequenceCut cut;

  std::string Name() const;
};
// The entries of the registry, under either cut, as far as the heads of `c` allow.
std::vector<Method> Methods(int size, const KvCase& c);

// Calls fn on the ranks of a world that is one sequence axis.
using RankFn = std::function<void(Device& device, const KvExchange& exchange, const Place& place,
                                  Communicator& world)>;
Status RunOnSequenceRanks(int size, const CommOptions& options, const Method& method,
                          const RankFn& fn);
// The same; expects OK.
void OnSequenceRanks(int size, const Method& method, const RankFn& fn);

}  // namespace trireme::testing
