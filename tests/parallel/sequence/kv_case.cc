#include "tests/parallel/sequence/kv_case.h"

#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/autograd/backward.h"
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

Tensors RunOn(Tensors inputs, const std::function<Tensor(const Tensors&)>& fn) {
  for (int i = 0; i < 3; ++i) inputs[i].set_requires_grad();
  const Tensor y = fn(inputs);
  LeafSink sink;
  Backward({y}, {inputs[3]}, sink);
  return {y.Detach(), inputs[0].grad(), inputs[1].grad(), inputs[2].grad()};
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

Tensors KvCase::Inputs(Device& device, DType dtype, DType rounded) const {
  const int64_t n = NumTokens(Segments());
  const auto input = [&](int64_t num_heads, int64_t channels, uint64_t seed) {
    return RandomTensor(device, {n, num_heads, channels}, seed, 1, rounded).CopyTo(dtype);
  };
  return {input(heads, width, 1), input(kv_heads, width, 2), input(kv_heads, value_width, 3),
          input(heads, value_width, 4)};
}

Tensors KvCase::RunWhole(Device& device, DType dtype, DType rounded) const {
  const KeyRanges ranges =
      CausalKeyRanges(device, LayoutOf({SequenceCut::kContiguous, 1, 0}), window);
  return RunOn(Inputs(device, dtype, rounded), [&](const Tensors& in) {
    return Attention(in[0], in[1], in[2], ranges, 1 / std::sqrt(static_cast<double>(width)));
  });
}

Tensors KvCase::Run(Device& device, DType dtype, DType rounded, const Place& place,
                    const KvExchange& exchange) const {
  return RunOn(RowsOf(Inputs(device, dtype, rounded), place), [&](const Tensors& in) {
    return exchange(in[0], in[1], in[2], LayoutOf(place), window,
                    1 / std::sqrt(static_cast<double>(width)));
  });
}

Tensor KvCase::Forward(Device& device, DType dtype, const Place& place,
                       const KvExchange& exchange) const {
  const NoGrad no_grad;
  const Tensors in = RowsOf(Inputs(device, dtype, dtype), place);
  return exchange(in[0], in[1], in[2], LayoutOf(place), window,
                  1 / std::sqrt(static_cast<double>(width)));
}

Tensors KvCase::RowsOf(const Tensors& whole, const Place& place) const {
  const std::vector<Segment> segments = Segments();
  const std::vector<Segment> own = CutSegments(segments, place.cut, place.size)[place.rank];
  Tensors rows;
  for (int i = 0; i < 4; ++i) {
    const Tensor& x = whole[i];
    rows[i] = Tensor::Empty(x.device(), x.shape().WithDim(0, NumTokens(own)), x.dtype());
    int64_t to = 0;
    for (const Segment& segment : own) {
      int64_t from = segment.begin;
      for (int64_t s = 0; s < segment.sample; ++s) from += segments[s].length;
      Slice(rows[i], 0, to, segment.length).CopyFrom(Slice(x, 0, from, segment.length));
      to += segment.length;
    }
  }
  return rows;
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

std::vector<Method> Methods(int size, const KvCase& c) {
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
        methods.push_back({entry.name, params, cut});
      }
    }
  }
  return methods;
}

Status RunOnSequenceRanks(int size, const CommOptions& options, const Method& method,
                          const RankFn& fn) {
  return RunOnRanks(size, options, [&](Communicator& world) -> Status {
    const auto device = MakeCpuDevice();
    ASSIGN_OR_RETURN(const KvExchangePlan plan, PlanKvExchange(method.method, method.params, size));
    ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({1, 1, 1, size, 1}, size));
    ASSIGN_OR_RETURN(const auto groups,
                     MeshGroups::Create(world, mesh, {AxisSet(Axis::kSequence)}, FactorsOf(plan)));
    const auto exchange = MakeKvExchange(plan, *groups);
    return CatchFailure([&] { fn(*device, *exchange, {method.cut, size, world.rank()}, world); });
  });
}

void OnSequenceRanks(int size, const Method& method, const RankFn& fn) {
  const Status status = RunOnSequenceRanks(size, {}, method, fn);
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace trireme::testing
