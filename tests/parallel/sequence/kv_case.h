// Attention cases on the whole and on the ranks of a sequence axis, for the tests of exchanges.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "parallel/sequence/kv_exchange.h"
#include "tests/testing/ranks.h"

namespace trireme::testing {

// A rank of the axis.
struct Place {
  SequenceCut cut;
  int size, rank;
};

// Elements on the host: of q, k, v and dy, or of y, dq, dk and dv.
using Values = std::array<std::vector<double>, 4>;
inline constexpr const char* kResultNames[] = {"y", "dq", "dk", "dv"};

struct KvCase {
  std::string name;
  std::vector<std::vector<int64_t>> samples;  // The lengths of the documents of each.
  int64_t heads, kv_heads, width, value_width;
  int64_t window = 0;

  std::vector<Segment> Segments() const;
  TokenLayout LayoutOf(const Place& place) const;
  double scale() const;

  // Random inputs of the whole, rounded to `rounded`.
  Values Inputs(DType rounded) const;
  // The attention of one rank on the whole.
  Values RunWhole(const Values& inputs, DType dtype) const;
  // What a rank has of values of the whole.
  Values RowsOf(const Values& whole, const Place& place) const;

  // On one rank. The tensors have this rank's rows of `inputs`.
  std::array<Tensor, 4> TensorsOf(Device& device, DType dtype, const Values& inputs,
                                  const Place& place) const;
  Tensor Forward(const std::array<Tensor, 4>& x, const Place& place,
                 const KvExchange& exchange) const;
  Values Run(Device& device, DType dtype, const Values& inputs, const Place& place,
             const KvExchange& exchange) const;

 private:
  std::array<int64_t, 4> ElementsOfAToken() const;
};

// Ragged, packed, short, windowed and grouped.
std::vector<KvCase> Cases();

struct Method {
  std::string method;
  ParamMap params;
  SequenceCut cut;

  std::string Name() const;
};
// The entries of the registry with every parameter that suits `size` and the heads of `c`, under
// the cut they want; or under every cut.
std::vector<Method> Methods(int size, const KvCase& c, bool every_cut = false);

// Calls fn on the ranks of a world that is one sequence axis.
using RankFn = std::function<Status(Device& device, const KvExchange& exchange, const Place& place,
                                    Communicator& world)>;
Status RunOnAxis(const TestWorld& world, const CommOptions& options, const Method& method,
                 const RankFn& fn);
// The same; expects OK.
void OnAxis(const TestWorld& world, const Method& method, const RankFn& fn);

}  // namespace trireme::testing
