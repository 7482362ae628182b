#include "tests/parallel/sequence/kv_case.h"

#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/autograd/backward.h"
#include "core/ops/devices.h"
#include "core/ops/ops.h"
#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

class LeafSink : public GradientSink {
 public:
  Slot Open(const Tensor& leaf) override {
    Tensor& grad = leaf.impl()->grad;
    const bool fresh = !grad.defined();
    if (fresh) grad = Tensor::Zeros(leaf.device(), leaf.shape(), AccumulationType(leaf.dtype()));
    return {grad, fresh};
  }
};

Values RunOn(std::array<Tensor, 4> inputs,
             const std::function<Tensor(const std::array<Tensor, 4>&)>& fn) {
  for (int i = 0; i < 3; ++i) inputs[i].set_requires_grad();
  const Tensor y = fn(inputs);
  LeafSink sink;
  Backward({y}, {inputs[3]}, sink);
  return {y.ToVector(), inputs[0].grad().ToVector(), inputs[1].grad().ToVector(),
          inputs[2].grad().ToVector()};
}

}  // namespace

std::vector<Segment> KvCase::Segments() const {
  std::vector<Segment> segments;
  for (size_t s = 0; s < samples.size(); ++s) {
    segments.push_back({static_cast<int64_t>(s), 0, 0});
    for (const int64_t length : samples[s]) segments.back().length += length;
  }
  return segments;
}

TokenLayout KvCase::LayoutOf(const Place& place) const {
  TokenLayout layout;
  layout.axis_segments = CutSegments(Segments(), place.cut, place.size);
  layout.segments = layout.axis_segments[place.rank];
  for (size_t s = 0; s < samples.size(); ++s) {
    int64_t begin = 0;
    for (const int64_t length : samples[s]) {
      layout.documents.push_back({static_cast<int64_t>(s), begin, length});
      begin += length;
    }
  }
  return layout;
}

double KvCase::scale() const { return 1 / std::sqrt(static_cast<double>(width)); }

std::array<int64_t, 4> KvCase::ElementsOfAToken() const {
  return {heads * width, kv_heads * width, kv_heads * value_width, heads * value_width};
}

Values KvCase::Inputs(DType rounded) const {
  const auto device = MakeCpuDevice();
  Values values;
  for (int i = 0; i < 4; ++i) {
    const int64_t size = NumTokens(Segments()) * ElementsOfAToken()[i];
    values[i] = RandomTensor(*device, {size}, i + 1, 1, rounded).ToVector();
  }
  return values;
}

Values KvCase::RunWhole(const Values& inputs, DType dtype) const {
  const auto device = MakeCpuDevice();
  const Place all = {SequenceCut::kContiguous, 1, 0};
  const KeyRanges ranges = CausalKeyRanges(*device, LayoutOf(all), window);
  return RunOn(TensorsOf(*device, dtype, inputs, all), [&](const std::array<Tensor, 4>& x) {
    return Attention(x[0], x[1], x[2], ranges, scale());
  });
}

Values KvCase::RowsOf(const Values& whole, const Place& place) const {
  const std::vector<Segment> segments = Segments();
  Values rows;
  const std::vector<Segment> own = CutSegments(segments, place.cut, place.size)[place.rank];
  for (const Segment& segment : own) {
    int64_t first = segment.begin;
    for (int64_t s = 0; s < segment.sample; ++s) first += segments[s].length;
    for (int i = 0; i < 4; ++i) {
      const int64_t width = static_cast<int64_t>(whole[i].size()) / NumTokens(segments);
      const auto begin = whole[i].begin() + first * width;
      rows[i].insert(rows[i].end(), begin, begin + segment.length * width);
    }
  }
  return rows;
}

std::array<Tensor, 4> KvCase::TensorsOf(Device& device, DType dtype, const Values& inputs,
                                        const Place& place) const {
  const Values rows = RowsOf(inputs, place);
  const int64_t n = NumTokens(LayoutOf(place).segments);
  const auto tensor = [&](int i, int64_t num_heads, int64_t channels) {
    return Tensor::FromVector(device, {n, num_heads, channels}, rows[i], dtype);
  };
  return {tensor(0, heads, width), tensor(1, kv_heads, width), tensor(2, kv_heads, value_width),
          tensor(3, heads, value_width)};
}

Tensor KvCase::Forward(const std::array<Tensor, 4>& x, const Place& place,
                       const KvExchange& exchange) const {
  return exchange(x[0], x[1], x[2], LayoutOf(place), window, scale());
}

Values KvCase::Run(Device& device, DType dtype, const Values& inputs, const Place& place,
                   const KvExchange& exchange) const {
  return RunOn(TensorsOf(device, dtype, inputs, place),
               [&](const std::array<Tensor, 4>& x) { return Forward(x, place, exchange); });
}

std::vector<KvCase> Cases() {
  return {
      {"packed", {{31, 1, 41, 28}, {7, 90}}, 8, 2, 8, 8},
      {"one_prime_document", {{211}}, 8, 8, 4, 6},
      {"short_samples", {{1}, {2}, {3, 2}, {17}, {1, 1, 1}}, 8, 1, 4, 4},
      {"one_token", {{1}}, 8, 2, 4, 4},
      {"small_window", {{150, 53}}, 8, 1, 4, 4, 5},
      {"large_window", {{150, 53}, {70}}, 8, 4, 4, 2, 61},
      {"odd_heads", {{43, 20}, {11}}, 3, 3, 5, 7},
  };
}

std::string Method::Name() const {
  std::string name = absl::StrCat(method, "_", SequenceCutName(cut));
  for (const auto& [key, value] : params) absl::StrAppend(&name, "_", key, value);
  return name;
}

std::vector<Method> Methods(int size, const KvCase& c, bool every_cut) {
  std::vector<Method> methods;
  for (const auto& entry : KvExchanges()) {
    std::vector<ParamMap> choices;
    if (entry.params.empty()) choices.emplace_back();
    for (int u = 1; u <= size; ++u) {
      if (!entry.params.empty() && size % u == 0) {
        choices.push_back({{"ulysses_size", absl::StrCat(u)}});
      }
    }
    for (const ParamMap& params : choices) {
      const auto plan = PlanKvExchange(entry.name, params, size);
      EXPECT_TRUE(plan.ok()) << plan.status();
      if (!CheckHeads(*plan, c.heads, c.kv_heads).ok()) continue;
      for (const SequenceCut cut : {SequenceCut::kContiguous, SequenceCut::kZigzag}) {
        if (every_cut || cut == plan->cut) methods.push_back({entry.name, params, cut});
      }
    }
  }
  return methods;
}

Status RunOnAxis(const TestWorld& world, const CommOptions& options, const Method& method,
                 const RankFn& fn) {
  return RunOn(world, options, [&](Device& device, Communicator& all) -> Status {
    ASSIGN_OR_RETURN(const KvExchangePlan plan,
                     PlanKvExchange(method.method, method.params, world.size));
    ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({1, 1, 1, world.size, 1}, world.size));
    ASSIGN_OR_RETURN(const auto groups,
                     MeshGroups::Create(all, mesh, {AxisSet(Axis::kSequence)}, FactorsOf(plan)));
    const auto exchange = MakeKvExchange(plan, *groups);
    // Inside, since the groups must live as long as the exchange.
    Status status;
    status.Update(CatchFailure([&] {
      status = fn(device, *exchange, {method.cut, world.size, all.rank()}, all);
    }));
    return status;
  });
}

void OnAxis(const TestWorld& world, const Method& method, const RankFn& fn) {
  const Status status = RunOnAxis(world, {}, method, fn);
  EXPECT_TRUE(status.ok()) << method.Name() << ": " << status;
}

}  // namespace trireme::testing
