// The ends of a language model with the vocabulary cut over the ranks equal the plain ops on the
// whole.
#include "parallel/layers/vocabulary.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "core/autograd/backward.h"
#include "core/autograd/graph_cut.h"
#include "core/module/gradient_buffers.h"
#include "core/ops/ops.h"
#include "tests/parallel/layers/layer_case.h"

namespace trireme {
namespace {

using testing::ExpectNear;
using testing::PartOf;
using testing::RandomTensor;
using testing::StreamPart;

constexpr int64_t kVocabulary = 29, kWidth = 6;

Tensor Integers(Device& device, const std::vector<int32_t>& values) {
  return Tensor::FromHost<int32_t>(device, {static_cast<int64_t>(values.size())}, values);
}

// The first and the last token of the vocabulary, one twice.
std::vector<int32_t> TokensOf(int64_t n) {
  std::vector<int32_t> tokens = {28, 0, 7, 7, 15, 3, 21, 10, 11, 28, 1, 2, 4};
  tokens.resize(n);
  return tokens;
}
std::vector<int32_t> LabelsOf(int64_t n, bool all_ignored) {
  std::vector<int32_t> labels = TokensOf(n);
  for (int64_t i = 0; i < n; ++i) {
    if (all_ignored || i % 3 == 1) labels[i] = kIgnoredLabel;
  }
  return labels;
}

struct Table {
  Table(Device& device, const TensorAxis& axis, DType dtype) {
    weight = axis.DeclareRows(Scope(parameters), "weight", {kVocabulary, kWidth}, Init::Normal(1));
    ThrowIfError(parameters.Materialize(device, dtype, 3));
    sink = std::make_unique<GradientBuffers>(parameters, device);
  }
  const Tensor& Gradient() const { return sink->gradient(0); }

  ParameterSet parameters;
  const Parameter* weight;
  std::unique_ptr<GradientBuffers> sink;
};

// bf16 rounds every product and every sum of the ranks once; the wholes of both sides are the same
// numbers.
double Tolerance(DType dtype) {
  return dtype == DType::kF64 ? 1e-13 : dtype == DType::kF32 ? 1e-5 : 2e-2;
}

class VocabularyTest : public ::testing::TestWithParam<testing::TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, VocabularyTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(VocabularyTest, EmbeddingEqualsThatOfTheWhole) {
  testing::OnStreams(GetParam(), [](Device& device, const TensorAxis& axis) -> Status {
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      for (const int64_t n : {1, 2, 7, 13}) {
        const Tensor tokens = Integers(device, TokensOf(n));
        const Tensor dy = RandomTensor(device, {n, kWidth}, 5, 1, dtype);
        Table whole(device, {}, dtype), part(device, axis, dtype);
        const Tensor expected = Embedding(tokens, whole.weight->working);
        Backward({expected}, {dy}, *whole.sink);
        const Tensor y = VocabularyEmbedding(axis, tokens, *part.weight);
        EXPECT_EQ(y.ToVector(), StreamPart(axis, expected).ToVector())
            << "one part has it, others zero";
        Backward({y}, {StreamPart(axis, dy)}, *part.sink);
        part.sink->ZeroIfUntouched(0);
        ExpectNear(part.Gradient(), PartOf(whole.Gradient(), part.weight->spec.local),
                   Tolerance(dtype), "table");
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(VocabularyTest, ATokenOutsideTheVocabularyIsNamed) {
  testing::OnStreams(GetParam(), [](Device& device, const TensorAxis& axis) -> Status {
    Table part(device, axis, DType::kF32);
    for (const int32_t token : {-2, 29}) {
      Status status = CatchFailure([&] {
        VocabularyEmbedding(axis, Integers(device, {0, token}), *part.weight);
      });
      status.Update(device.Synchronize());  // A GPU finds it on its way.
      EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
      EXPECT_NE(std::string(status.message()).find(std::to_string(token)), std::string::npos)
          << status;
    }
    return absl::OkStatus();
  });
}

TEST_P(VocabularyTest, CrossEntropyEqualsThatOfTheWhole) {
  testing::OnStreams(GetParam(), [](Device& device, const TensorAxis& axis) -> Status {
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      for (const int64_t n : {1, 2, 7, 13}) {
        for (const bool all_ignored : {false, true}) {
          for (const bool defer : {false, true}) {
            SCOPED_TRACE(absl::StrCat(DTypeName(dtype), " n ", n, all_ignored ? " no labels" : ""));
            const Tensor labels = Integers(device, LabelsOf(n, all_ignored));
            // Far apart, so that the maxima of the parts matter.
            const Tensor x = RandomTensor(device, {n, kWidth}, 8, 4, dtype);
            const double seed = 0.75;
            Table whole(device, {}, dtype), part(device, axis, dtype);
            Tensor leaf = x.CopyTo(DType::kF64);
            leaf.set_requires_grad();
            Tensor table = whole.weight->working.Detach().CopyTo(DType::kF64);
            table.set_requires_grad();
            const Tensor expected = CrossEntropy(Linear(leaf, table), labels);
            Mul(expected, seed).Backward();

            GraphCut cut(StreamPart(axis, x));
            const Tensor loss = VocabularyCrossEntropy(axis, cut.tensor(), *part.weight, labels);
            ExpectNear(loss, expected, Tolerance(dtype), "loss");
            DeferredWeights deferred;
            Backward({loss}, {Tensor::Full(device, {}, loss.dtype(), seed)}, *part.sink,
                     defer ? &deferred : nullptr);
            ExpectNear(cut.TakeGrad(), StreamPart(axis, leaf.grad()), Tolerance(dtype), "stream");
            deferred.Run(*part.sink);
            ExpectNear(part.Gradient(), PartOf(table.grad(), part.weight->spec.local),
                       Tolerance(dtype), "head");
          }
        }
      }
    }
    return absl::OkStatus();
  });
}

// Sums of exponentials neither overflow nor vanish, whichever part has the maximum.
TEST_P(VocabularyTest, LargeLogits) {
  testing::OnStreams(GetParam(), [](Device& device, const TensorAxis& axis) -> Status {
    const int64_t n = 13;
    const Tensor labels = Integers(device, LabelsOf(n, false));
    const Tensor x = RandomTensor(device, {n, kWidth}, 8, 3000, DType::kF64);
    Table whole(device, {}, DType::kF64), part(device, axis, DType::kF64);
    const Tensor expected = CrossEntropy(Linear(x, whole.weight->working.Detach()), labels);
    const Tensor loss = VocabularyCrossEntropy(axis, StreamPart(axis, x), *part.weight, labels);
    EXPECT_GT(expected.Item(), 1000);
    ExpectNear(loss, expected, 1e-12, "loss");
    return absl::OkStatus();
  });
}

TEST_P(VocabularyTest, LogitsAreWholeOnEveryRank) {
  testing::OnStreams(GetParam(), [](Device& device, const TensorAxis& axis) -> Status {
    for (const int64_t n : {1, 2, 7, 13}) {
      const Tensor x = RandomTensor(device, {n, kWidth}, 8);
      Table whole(device, {}, DType::kF64), part(device, axis, DType::kF64);
      const Tensor logits = VocabularyLogits(axis, StreamPart(axis, x), n, *part.weight);
      ExpectNear(logits, Linear(x, whole.weight->working.Detach()), 1e-13, "logits");
      EXPECT_FALSE(logits.requires_grad());
    }
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
