// Ops against PyTorch: values and all gradients, in f64 and f32. write_ops.py lists the cases.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <ostream>

#include "core/ops/ops.h"
#include "tests/golden/golden.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

using testing::Golden;
using testing::RelativeError;

struct OpCase {
  const char* name;
  std::vector<const char*> inputs;
  std::function<Tensor(const std::vector<Tensor>& x)> run;
};

std::ostream& operator<<(std::ostream& out, const OpCase& op) { return out << op.name; }

// Packed documents of 5, 1, 9 and 3 tokens, the second and third in one sample.
TokenLayout PackedLayout(Device& device) {
  TokenLayout layout;
  layout.segments = {{0, 0, 5}, {1, 0, 10}, {2, 0, 3}};
  layout.documents = {{0, 0, 5}, {1, 0, 1}, {1, 1, 9}, {2, 0, 3}};
  const auto integers = [&](std::vector<double> values) {
    return Tensor::FromVector(device, {18}, values, DType::kI32);
  };
  layout.sample = Tensor::FromVector(
      device, {18}, {0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2}, DType::kI64);
  layout.position = integers({0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2});
  return layout;
}

std::vector<OpCase> Cases() {
  using Inputs = std::vector<Tensor>;
  const auto attention = [](int64_t window) {
    return [window](const Inputs& x) {
      const KeyRanges ranges = CausalKeyRanges(x[0].device(), PackedLayout(x[0].device()), window);
      return Attention(x[0], x[1], x[2], ranges, 1 / std::sqrt(8.0));
    };
  };
  return {
      {"gelu", {"x"}, [](const Inputs& x) { return Gelu(x[0]); }},
      {"silu", {"x"}, [](const Inputs& x) { return Silu(x[0]); }},
      {"swiglu", {"gate", "up"}, [](const Inputs& x) { return SwiGlu(x[0], x[1]); }},
      {"pow", {"x"}, [](const Inputs& x) { return Pow(x[0], 2.5); }},
      {"where", {"condition", "a", "b"}, [](const Inputs& x) { return Where(x[0], x[1], x[2]); }},
      {"clamp", {"x"}, [](const Inputs& x) { return Clamp(x[0], -0.7, 0.4); }},
      {"layer_norm",
       {"x", "gain", "bias"},
       [](const Inputs& x) { return LayerNorm(x[0], x[1], x[2], 1e-5); }},
      {"rms_norm", {"x", "gain"}, [](const Inputs& x) { return RmsNorm(x[0], x[1], 1e-5); }},
      {"softmax", {"x"}, [](const Inputs& x) { return Softmax(x[0]); }},
      {"softmax_middle", {"x"}, [](const Inputs& x) { return Softmax(x[0], 1); }},
      {"log_softmax", {"x"}, [](const Inputs& x) { return LogSoftmax(x[0]); }},
      {"cross_entropy", {"x", "labels"}, [](const Inputs& x) { return CrossEntropy(x[0], x[1]); }},
      {"linear_cross_entropy",
       {"x", "weight", "labels"},
       [](const Inputs& x) { return LinearCrossEntropy(x[0], x[1], x[2], /*chunk_tokens=*/4); }},
      {"embedding", {"input", "weight"}, [](const Inputs& x) { return Embedding(x[0], x[1]); }},
      {"linear",
       {"input", "weight", "bias"},
       [](const Inputs& x) { return Linear(x[0], x[1], x[2]); }},
      {"matmul", {"input", "other"}, [](const Inputs& x) { return MatMul(x[0], x[1]); }},
      {"gather", {"x", "index"}, [](const Inputs& x) { return Gather(x[0], 1, x[1]); }},
      {"scatter_add",
       {"x", "index", "src"},
       [](const Inputs& x) { return ScatterAdd(x[0], 0, x[1], x[2]); }},
      {"attention", {"q", "k", "v"}, attention(0)},
      {"attention_window", {"q", "k", "v"}, attention(4)},
  };
}

class OpsGoldenTest : public ::testing::TestWithParam<OpCase> {};

TEST_P(OpsGoldenTest, EqualsPyTorch) {
  const OpCase& op = GetParam();
  const std::string prefix = std::string(op.name) + ".";
  const auto device = testing::MakeTestDevice({.num_threads = 2});
  const Golden golden("ops", *device);
  for (const auto& [dtype, tolerance] : {std::pair(DType::kF64, 1e-13), {DType::kF32, 4e-6}}) {
    std::vector<Tensor> inputs;
    for (const char* name : op.inputs) {
      inputs.push_back(golden.Read(prefix + name, dtype));
      if (inputs.back().dtype() == dtype) inputs.back().set_requires_grad();
    }
    const Tensor y = op.run(inputs);
    EXPECT_LT(RelativeError(y, golden.Read(prefix + "y")), tolerance) << DTypeName(dtype);
    Sum(Mul(y, golden.Read(prefix + "dy", dtype))).Backward();
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].dtype() != dtype) continue;
      ASSERT_TRUE(inputs[i].grad().defined()) << op.inputs[i];
      EXPECT_LT(RelativeError(inputs[i].grad(), golden.Read(prefix + "d" + op.inputs[i])),
                tolerance)
          << "gradient of " << op.inputs[i] << ", " << DTypeName(dtype);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, OpsGoldenTest, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(OpsGoldenTest, EveryCaseOfTheFileIsTested) {
  const auto device = testing::MakeTestDevice();
  const Golden golden("ops", *device);
  size_t num_results = 0;
  for (const std::string& name : golden.Names("")) {
    num_results += name.size() > 2 && name.substr(name.size() - 2) == ".y";
  }
  EXPECT_EQ(num_results, Cases().size());
}

}  // namespace
}  // namespace trireme
