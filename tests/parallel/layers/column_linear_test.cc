// ColumnLinear over the ranks equals Linear on one: outputs, the gradient of the stream, the
// gradients of the weights, on both layouts of the stream and in every way that backward is run.
#include "parallel/layers/column_linear.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "core/autograd/backward.h"
#include "core/autograd/graph_cut.h"
#include "core/base/share.h"
#include "core/module/gradient_buffers.h"
#include "core/ops/ops.h"
#include "tests/parallel/layers/layer_case.h"

namespace trireme {
namespace {

using testing::ExpectNear;
using testing::PartOf;
using testing::RandomTensor;
using testing::StreamPart;

constexpr int64_t kIn = 6;
constexpr int kMicroBatches = 2;

enum class Way { kAtOnce, kDeferred, kRecomputed, kRecomputedDeferred };

// `used`: a bit for each weight's output, whether the loss depends on it.
struct Case {
  int64_t n;
  std::vector<int64_t> out;
  int used;
  Way way;

  bool Uses(size_t weight) const { return (used >> weight & 1) != 0; }
  std::string Name() const {
    return absl::StrCat("n ", n, ", weights ", out.size(), ", used ", used, ", way ",
                        static_cast<int>(way));
  }
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const Way way : {Way::kAtOnce, Way::kDeferred, Way::kRecomputed, Way::kRecomputedDeferred}) {
    for (const int64_t n : {1, 7, 12}) {
      cases.push_back({n, {10}, 1, way});
      cases.push_back({n, {10, 9}, 3, way});
      cases.push_back({n, {10, 9, 3}, 7, way});  // Of 3 rows some ranks have none.
      cases.push_back({n, {10, 9, 11}, 6, way});
    }
  }
  return cases;
}

std::vector<const Parameter*> Declare(const TensorAxis& axis, const Case& c,
                                      ParameterSet& parameters) {
  std::vector<const Parameter*> weights;
  for (size_t i = 0; i < c.out.size(); ++i) {
    weights.push_back(axis.DeclareRows(Scope(parameters), absl::StrCat("w", i), {c.out[i], kIn},
                                       Init::Normal(1)));
  }
  return weights;
}

// Of micro-batch `item`: the stream, and the gradient of output i.
Tensor Stream(Device& device, const Case& c, int item) {
  return RandomTensor(device, {c.n, kIn}, 10 + item);
}
Tensor OutputGradient(Device& device, const Case& c, int item, size_t i) {
  return RandomTensor(device, {c.n, c.out[i]}, 100 + 10 * item + i);
}

struct Results {
  std::vector<Tensor> outputs[kMicroBatches];
  Tensor dx[kMicroBatches];
  std::vector<Tensor> dw;  // The sum over the micro-batches.
};

Results Definition(Device& device, const Case& c) {
  ParameterSet parameters;
  Declare({}, c, parameters);
  ThrowIfError(parameters.Materialize(device, DType::kF64, 1));
  Results results;
  for (int item = 0; item < kMicroBatches; ++item) {
    Tensor x = Stream(device, c, item), loss = Tensor::Zeros(device, {}, DType::kF64);
    x.set_requires_grad();
    for (size_t i = 0; i < c.out.size(); ++i) {
      const Tensor y = Linear(x, parameters.parameters()[i]->working);
      results.outputs[item].push_back(y.Detach());
      if (c.Uses(i)) loss = Add(loss, Sum(Mul(y, OutputGradient(device, c, item, i))));
    }
    loss.Backward();
    results.dx[item] = x.grad();
  }
  for (size_t i = 0; i < c.out.size(); ++i) {
    results.dw.push_back(c.Uses(i) ? parameters.parameters()[i]->working.grad()
                                   : Tensor::Zeros(device, {c.out[i], kIn}, DType::kF64));
  }
  return results;
}

void ExpectDefinition(Device& device, const TensorAxis& axis, const Case& c) {
  SCOPED_TRACE(c.Name());
  const Results expected = Definition(device, c);
  ParameterSet parameters;
  const std::vector<const Parameter*> weights = Declare(axis, c, parameters);
  ThrowIfError(parameters.Materialize(device, DType::kF64, 1));
  GradientBuffers sink(parameters, device);
  const bool recompute = c.way == Way::kRecomputed || c.way == Way::kRecomputedDeferred;
  const bool defer = c.way == Way::kDeferred || c.way == Way::kRecomputedDeferred;

  DeferredWeights deferred[kMicroBatches];
  for (int item = 0; item < kMicroBatches; ++item) {
    GraphCut cut(StreamPart(axis, Stream(device, c, item)));
    const auto layer = [&](absl::Span<const Tensor> inputs) {
      return ColumnLinear(axis, inputs[0], c.n, weights);
    };
    const std::vector<Tensor> outputs =
        recompute ? Recompute({cut.tensor()}, layer) : layer({cut.tensor()});
    std::vector<Tensor> used, grads;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Share columns = ShareOf(c.out[i], axis.rank, axis.size);
      const Box box = {{0, columns.first}, {c.n, columns.size()}};
      ExpectNear(outputs[i], PartOf(expected.outputs[item][i], box), 1e-13, "output");
      if (!c.Uses(i)) continue;
      used.push_back(outputs[i]);
      grads.push_back(PartOf(OutputGradient(device, c, item, i), box));
    }
    Backward(used, grads, sink, defer ? &deferred[item] : nullptr);
    EXPECT_EQ(deferred[item].empty(), !defer);
    ExpectNear(cut.TakeGrad(), StreamPart(axis, expected.dx[item]), 1e-13, "stream gradient");
  }
  // In the order of zero-bubble schedules: all weights after all gradients of inputs.
  for (DeferredWeights& weights_of_item : deferred) weights_of_item.Run(sink);
  for (size_t i = 0; i < weights.size(); ++i) {
    sink.ZeroIfUntouched(static_cast<int>(i));
    ExpectNear(sink.gradient(static_cast<int>(i)), PartOf(expected.dw[i], weights[i]->spec.local),
               1e-13, "weight gradient");
  }
}

class ColumnLinearTest : public ::testing::TestWithParam<testing::TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, ColumnLinearTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(ColumnLinearTest, EqualsLinearOfTheWhole) {
  testing::OnStreams(GetParam(), [](Device& device, const TensorAxis& axis) -> Status {
    for (const Case& c : Cases()) ExpectDefinition(device, axis, c);
    return absl::OkStatus();
  });
}

TEST(ColumnLinearAloneTest, WithoutAGroup) {
  testing::OnRanks({testing::TestWorld::kSelf, 1}, {}, [](Device& device, Communicator&) -> Status {
    for (const Case& c : Cases()) ExpectDefinition(device, TensorAxis{}, c);
    return absl::OkStatus();
  });
}

// What is held between forward and backward is what the layout of the stream promises: the rows of
// this rank.
TEST_P(ColumnLinearTest, KeepsNoRowsOfOtherRanks) {
  testing::OnStreams(GetParam(), [](Device& device, const TensorAxis& axis) -> Status {
    const int64_t n = 4096;
    ParameterSet parameters;
    const Parameter* const weight =
        axis.DeclareRows(Scope(parameters), "w", {1 * axis.size, 64}, Init::Normal(1));
    RETURN_IF_ERROR(parameters.Materialize(device, DType::kF64, 1));
    GraphCut cut(
        StreamPart(axis, Tensor::Full(device, {n, 64}, DType::kF64, 1)).CopyTo(DType::kF64));
    const auto held = [&] {
      return device.stats().current_bytes[static_cast<int>(MemoryKind::kActivations)];
    };
    const int64_t before = held();
    const std::vector<Tensor> outputs = ColumnLinear(axis, cut.tensor(), n, {weight});
    // A column of outputs; the input is the cut's own.
    EXPECT_LE(held() - before, n * 8 + 4096);
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
