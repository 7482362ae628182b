// What the catalogue refuses: wrong shapes and types abort with the op's name, wrong data throws.
#include <gtest/gtest.h>

#include "core/base/status.h"
#include "core/ops/devices.h"
#include "core/ops/ops.h"
#include "tests/core/ops/op_case.h"

namespace trireme::testing {
namespace {

class RejectionTest : public ::testing::Test {
 protected:
  Tensor F(const Shape& shape, DType dtype = DType::kF32) {
    return Tensor::Full(*cpu_, shape, dtype, 1);
  }
  Tensor Ids(const std::vector<int32_t>& ids) {
    return Tensor::FromHost<int32_t>(*cpu_, {static_cast<int64_t>(ids.size())}, ids);
  }
  void ExpectOutOfRange(const std::function<void()>& fn, const std::string& text) {
    const Status status = CatchFailure(fn);
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
    EXPECT_NE(status.ToString().find(text), std::string::npos) << status;
  }

  std::unique_ptr<CpuDevice> cpu_ = MakeCpuDevice({.num_threads = 2});
};

TEST_F(RejectionTest, IdsOutsideTheTableThrowAndNameThem) {
  const Tensor table = F({5, 3});
  ExpectOutOfRange([&] { Embedding(Ids({0, 5}), table); }, "index 5 (element 1) is not in [0, 5)");
  ExpectOutOfRange([&] { Embedding(Ids({-2, 1}), table); }, "index -2 (element 0)");
  ExpectOutOfRange([&] { Embedding(Ids({0}), F({0, 3})); }, "is not in [0, 0)");
  const Tensor index = Tensor::FromVector(*cpu_, {2, 1}, {0, 3}, DType::kI64);
  ExpectOutOfRange([&] { Gather(F({2, 3}), 1, index); }, "index 3 (element 1)");
  ExpectOutOfRange([&] { ScatterAdd(F({2, 3}), 1, index, F({2, 1})); }, "[scatter_add]");
}

TEST_F(RejectionTest, LabelsOutsideTheVocabularyThrowAndNameThem) {
  ExpectOutOfRange([&] { CrossEntropy(F({2, 5}), Ids({0, 5})); }, "label 5 (token 1)");
  ExpectOutOfRange([&] { CrossEntropy(F({2, 5}), Ids({-2, 0})); }, "label -2 (token 0)");
  ExpectOutOfRange(
      [&] {
        LinearCrossEntropy(F({3, 4}), F({5, 4}), Ids({0, 1, 9}), 2);
      },
      "label 9 (token 0) is not in [0, 5)");
}

TEST_F(RejectionTest, ElementwiseOps) {
  EXPECT_DEATH(Add(F({2}), F({2}, DType::kF64)), "f32 and f64 \\[add\\]");
  EXPECT_DEATH(Mul(F({2}), F({3})), "do not broadcast");
  EXPECT_DEATH(Add(F({2}, DType::kI32), F({2}, DType::kI32)), "no kernel for i32 \\[binary\\]");
  EXPECT_DEATH(Exp(F({2}, DType::kF16)), "no kernel for f16 \\[unary\\]");
  EXPECT_DEATH(Equal(F({2}), F({2}, DType::kBF16)), "\\[equal\\]");
  EXPECT_DEATH(Where(F({2}), F({2}), F({2})), "f32 condition \\[where\\]");
  EXPECT_DEATH(Where(F({2}, DType::kU8), F({2}), F({2}, DType::kF64)), "\\[where\\]");
  EXPECT_DEATH(Clamp(F({2}), 1, 0), "\\[clamp\\]");
  EXPECT_DEATH(SwiGlu(F({2}), F({1})), "\\[swiglu\\]");
}

TEST_F(RejectionTest, ReductionsAndShapes) {
  EXPECT_DEATH(Sum(F({2}), 1), "dim 1 of \\[2\\]");
  EXPECT_DEATH(Max(F({2, 0}), 1), "\\[max\\]");
  EXPECT_DEATH(ArgMax(F({0}), 0), "\\[arg_max\\]");
  EXPECT_DEATH(Reshape(F({2, 3}), {7}), "\\[reshape\\]");
  EXPECT_DEATH(Transpose(F({2, 3}), 0, 2), "dim 2");
  EXPECT_DEATH(Slice(F({4}), 0, 3, 2), "\\[3, 5\\) of dim 0 of \\[4\\] \\[slice\\]");
  EXPECT_DEATH(Slice(F({4}), 0, -1, 2), "\\[slice\\]");
  EXPECT_DEATH(Broadcast(F({3}), {3, 2}), "do not broadcast");
  EXPECT_DEATH(Broadcast(F({3, 2}), {2}), "\\[broadcast\\]");
  EXPECT_DEATH(Concat({}, 0), "\\[concat\\]");
  EXPECT_DEATH(Concat({F({2, 3}), F({2, 4})}, 0), "\\[concat\\]");
  EXPECT_DEATH(Concat({F({2}), F({2}, DType::kF64)}, 0), "\\[concat\\]");
}

TEST_F(RejectionTest, IndexingOps) {
  EXPECT_DEATH(Embedding(F({2}), F({5, 3})), "f32\\[2\\] ids \\[embedding\\]");
  EXPECT_DEATH(Embedding(Ids({1}), F({5})), "\\[embedding\\]");
  EXPECT_DEATH(Gather(F({2, 3}), 0, Ids({1})), "\\[gather\\]");
  EXPECT_DEATH(Gather(F({2, 3}), 0, Tensor::Zeros(*cpu_, {1, 4}, DType::kI64)), "\\[gather\\]");
  EXPECT_DEATH(ScatterAdd(F({2}), 0, Ids({1}), F({2})), "\\[scatter_add\\]");
}

TEST_F(RejectionTest, LayersAndLosses) {
  EXPECT_DEATH(RmsNorm(F({2, 3}), F({2}), 1e-5), "\\[rms_norm\\]");
  EXPECT_DEATH(RmsNorm(F({2, 3}), F({3}, DType::kF64), 1e-5), "\\[rms_norm\\]");
  EXPECT_DEATH(LayerNorm(F({2, 3}), F({3}), F({2}), 1e-5), "bias \\[2\\]");
  EXPECT_DEATH(Softmax(F({2, 3}), 2), "dim 2");
  EXPECT_DEATH(Rotary(F({2, 1, 3}), Ids({0, 1}), 10), "\\[rotary\\]");
  EXPECT_DEATH(Rotary(F({2, 1, 4}), Ids({0}), 10), "\\[rotary\\]");
  EXPECT_DEATH(Rotary(F({2, 1, 4}), Ids({0, 1}), 0), "\\[rotary\\]");
  const TokenLayout layout = RaggedLayout(*cpu_, 3);
  EXPECT_DEATH(Dropout(F({2, 3}), 0.5, {}, layout), "\\[dropout\\]");
  EXPECT_DEATH(Dropout(F({3, 3}), 1, {}, layout), "\\[dropout\\]");
  EXPECT_DEATH(Dropout(F({3, 3}), -0.1, {}, layout), "\\[dropout\\]");
  EXPECT_DEATH(CrossEntropy(F({2, 3}), Ids({0})), "\\[cross_entropy\\]");
  EXPECT_DEATH(CrossEntropy(F({6}), Ids({0})), "\\[cross_entropy\\]");
  EXPECT_DEATH(LinearCrossEntropy(F({1, 3}), F({5, 4}), Ids({0})), "\\[linear_cross_entropy\\]");
  EXPECT_DEATH(LinearCrossEntropy(F({1, 3}), F({5, 3}), Ids({0}), -1), "chunk_tokens");
}

}  // namespace
}  // namespace trireme::testing
