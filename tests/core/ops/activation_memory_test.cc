// What ops keep for backward, and what never exists at once.
#include <gtest/gtest.h>

#include "core/autograd/node.h"
#include "core/ops/ops.h"
#include "tests/core/ops/op_case.h"
#include "tests/testing/device.h"

namespace trireme::testing {
namespace {

constexpr int64_t kTokens = 512, kChannels = 256;
constexpr int64_t kBytes = kTokens * kChannels * 4;  // Of an f32 activation.
constexpr int64_t kSlack = 16384;                    // Statistics and rounding up of sizes.

class ActivationMemoryTest : public ::testing::Test {
 protected:
  Tensor Make(const Shape& shape) {
    return Tensor::Full(*device_, shape, DType::kF32, 0.1).set_requires_grad();
  }
  int64_t Held() { return device_->stats().current_total_bytes; }

  // Bytes that the graph of fn(x) keeps beside x itself; the output tensor is dropped.
  int64_t Kept(const std::function<Tensor()>& fn) {
    const int64_t before = Held();
    const Tensor scalar = Sum(fn());
    return Held() - before;
  }

  std::unique_ptr<Device> device_ = testing::MakeTestDevice();
};

TEST_F(ActivationMemoryTest, OpsKeepWhatTheirCaptureListsSay) {
  const Tensor x = Make({kTokens, kChannels}), z = Make({kTokens, kChannels});
  const Tensor gain = Make({kChannels});
  const TokenLayout layout = RaggedLayout(*device_, kTokens);
  const Tensor heads = Reshape(x, {kTokens, 4, kChannels / 4});
  EXPECT_LE(Kept([&] { return Add(x, z); }), kSlack);
  EXPECT_LE(Kept([&] { return Mul(x, z); }), kSlack);
  EXPECT_LE(Kept([&] { return SwiGlu(x, z); }), kSlack);
  EXPECT_LE(Kept([&] { return Silu(x); }), kSlack);
  EXPECT_LE(Kept([&] { return RmsNorm(x, gain, 1e-5); }), kSlack);
  EXPECT_LE(Kept([&] { return LayerNorm(x, gain, gain, 1e-5); }), kSlack);
  EXPECT_LE(Kept([&] { return Dropout(x, 0.1, {}, layout); }), kSlack);
  EXPECT_LE(Kept([&] { return Rotary(heads, layout.position, 100); }), kSlack);
  EXPECT_LE(Kept([&] { return Softmax(x); }), kBytes + kSlack);
  EXPECT_LE(Kept([&] { return Exp(x); }), kBytes + kSlack);
}

TEST_F(ActivationMemoryTest, LogitsNeverExistWhole) {
  constexpr int64_t kVocabulary = 2048, kChunk = 64;
  const Tensor x = Make({kTokens, kChannels}), weight = Make({kVocabulary, kChannels});
  const Tensor labels = Tensor::Zeros(*device_, {kTokens}, DType::kI32);
  const int64_t weight_bytes = kVocabulary * kChannels * 4, chunk_bytes = kChunk * kVocabulary * 4;
  const int64_t library = 2 * chunk_bytes;  // What a GEMM may pack.
  const int64_t before = Held();
  device_->ResetPeaks();
  {
    const Tensor loss = LinearCrossEntropy(x, weight, labels, kChunk);
    EXPECT_LE(Held() - before, kBytes + weight_bytes + kSlack);  // dx and dweight.
  }
  EXPECT_LE(device_->stats().peak_total_bytes - before,
            kBytes + weight_bytes + chunk_bytes + library + kSlack);
  const NoGrad no_grad;
  device_->ResetPeaks();
  const Tensor loss = LinearCrossEntropy(x, weight, labels, kChunk);
  EXPECT_LE(device_->stats().peak_total_bytes - before, chunk_bytes + library + kSlack);
}

}  // namespace
}  // namespace trireme::testing
