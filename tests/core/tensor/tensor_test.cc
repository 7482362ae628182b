#include "core/tensor/tensor.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/base/status.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

class TensorTest : public ::testing::Test {
 protected:
  // 0, 1, 2, ...
  Tensor Range(const Shape& shape, DType dtype = DType::kF32) {
    std::vector<double> values(shape.numel());
    std::iota(values.begin(), values.end(), 0.0);
    return Tensor::FromVector(*device_, shape, values, dtype);
  }

  std::unique_ptr<Device> device_ = testing::MakeTestDevice();
};

TEST_F(TensorTest, KnowsItsShape) {
  const Tensor x = Range({2, 3, 4});
  EXPECT_EQ(x.rank(), 3);
  EXPECT_EQ(x.dim(-1), 4);
  EXPECT_EQ(x.numel(), 24);
  EXPECT_EQ(x.strides(), Shape({12, 4, 1}));
  EXPECT_TRUE(x.is_contiguous());
  EXPECT_EQ(ToString(Range({3})), "f32[3] {0, 1, 2}");
  EXPECT_EQ(ToString(Range({30}), 2), "f32[30] {0, 1, ...}");
  EXPECT_EQ(ToString(Tensor()), "undefined");
}

TEST_F(TensorTest, ScalarsAndEmptyTensorsWork) {
  const Tensor scalar = Tensor::Full(*device_, {}, DType::kF64, 7);
  EXPECT_EQ(scalar.rank(), 0);
  EXPECT_EQ(scalar.Item(), 7);
  const Tensor empty = Tensor::Zeros(*device_, {3, 0, 2}, DType::kF32);
  EXPECT_EQ(empty.numel(), 0);
  EXPECT_TRUE(empty.ToVector().empty());
  EXPECT_TRUE(empty.CopyTo(DType::kBF16).ToVector().empty());
  empty.Accumulate(empty);
}

TEST_F(TensorTest, ViewsShareMemory) {
  const Tensor x = Range({4, 3});
  const Tensor row = x.AsStrided({3}, {1}, 3);
  row.Fill(-1);
  EXPECT_EQ(x.ToVector(), (std::vector<double>{0, 1, 2, -1, -1, -1, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(x.View1D(2, 3).ToVector(), (std::vector<double>{2, -1, -1}));
  EXPECT_EQ(x.WithShape({2, 6}).AsStrided({2}, {6}, 1).ToVector(), (std::vector<double>{1, 7}));
  EXPECT_EQ(x.Detach().raw(), x.raw());
  EXPECT_EQ(x.storage().use_count(), 2);  // x and row.
}

TEST_F(TensorTest, StridedCopiesGoBothWays) {
  const Tensor x = Range({3, 4});
  const Tensor transposed = x.AsStrided({4, 3}, {1, 4}, 0);
  EXPECT_FALSE(transposed.is_contiguous());
  const std::vector<double> expected = {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11};
  EXPECT_EQ(transposed.Contiguous().ToVector(), expected);
  EXPECT_EQ(transposed.CopyTo(DType::kI32).ToVector(), expected);
  const Tensor y = Tensor::Zeros(*device_, {3, 4}, DType::kBF16);
  y.AsStrided({4, 3}, {1, 4}, 0).CopyFrom(transposed);
  EXPECT_EQ(y.ToVector(), x.ToVector());
  const Tensor broadcast = Range({3}).AsStrided({2, 3}, {0, 1}, 0);
  EXPECT_EQ(broadcast.Contiguous().ToVector(), (std::vector<double>{0, 1, 2, 0, 1, 2}));
}

TEST_F(TensorTest, ContiguityLooksThroughDimensionsOfOne) {
  const Tensor x = Range({4, 3});
  EXPECT_TRUE(x.AsStrided({4, 1, 3}, {3, 77, 1}, 0).is_contiguous());
  EXPECT_FALSE(x.AsStrided({4, 2}, {3, 1}, 0).is_contiguous());
}

TEST_F(TensorTest, AccumulateConvertsAndScales) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const DType other : {DType::kF64, DType::kF32, DType::kBF16}) {
      const Tensor sum = Range({2, 3}, dtype);
      sum.Accumulate(Range({2, 3}, other), 2);
      EXPECT_EQ(sum.ToVector(), (std::vector<double>{0, 3, 6, 9, 12, 15}));
      sum.AsStrided({3}, {2}, 0).Accumulate(Range({3}, other));
      EXPECT_EQ(sum.ToVector(), (std::vector<double>{0, 3, 7, 9, 14, 15}));
    }
  }
}

TEST_F(TensorTest, LongTensorsAreCutWithoutLosingElements) {
  for (const int64_t n : {16383, 16384, 16385, 50001}) {
    const Tensor x = Range({n}, DType::kF64);
    EXPECT_EQ(x.CopyTo(DType::kF32).ToVector(), x.ToVector());
    const Tensor padded = Tensor::Zeros(*device_, {n, 2}, DType::kF64);
    padded.AsStrided({n}, {2}, 1).CopyFrom(x);
    EXPECT_EQ(padded.AsStrided({n}, {2}, 1).ToVector(), x.ToVector());
    EXPECT_EQ(padded.AsStrided({n}, {2}, 0).ToVector(), std::vector<double>(n, 0));
  }
}

TEST_F(TensorTest, MemoryIsCountedByKind) {
  const auto held = [&](MemoryKind kind) {
    return device_->stats().current_bytes[static_cast<int>(kind)];
  };
  {
    const Tensor x = Tensor::Empty(*device_, {1000}, DType::kF64, MemoryKind::kOptimizer);
    EXPECT_GE(held(MemoryKind::kOptimizer), 8000);
    EXPECT_EQ(held(MemoryKind::kParameters), 0);
  }
  EXPECT_EQ(held(MemoryKind::kOptimizer), 0);
}

TEST_F(TensorTest, StorageCanBeReleasedAndRefilled) {
  const Tensor x = Range({100});
  const Tensor view = x.View1D(10, 5);
  x.storage()->Release();
  EXPECT_FALSE(view.storage()->resident());
  EXPECT_EQ(device_->stats().current_total_bytes, 0);
  x.storage()->Refill();
  x.Fill(3);
  EXPECT_EQ(view.ToVector(), std::vector<double>(5, 3));
}

TEST_F(TensorTest, MemoryThatIsNotThereIsAFailure) {
  const auto small = testing::MakeTestDevice({.memory_limit_bytes = 1 << 20});
  const Status status = CatchFailure([&] { Tensor::Empty(*small, {1 << 20}, DType::kF32); });
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

using TensorDeathTest = TensorTest;

TEST_F(TensorDeathTest, MisuseIsRefused) {
  const Tensor x = Range({2, 3});
  EXPECT_DEATH(x.data<double>(), "f32 tensor was read as f64");
  EXPECT_DEATH(x.dim(2), "dim 2 of \\[2, 3\\]");
  EXPECT_DEATH(x.Item(), "Item of shape");
  EXPECT_DEATH(x.CopyFrom(Range({3, 2})), "copy of \\[3, 2\\] into \\[2, 3\\]");
  EXPECT_DEATH(x.Accumulate(Range({6})), "accumulation of \\[6\\] into");
  EXPECT_DEATH(x.WithShape({7}), "\\[7\\] from \\[2, 3\\]");
  EXPECT_DEATH(x.AsStrided({3, 2}, {1, 3}, 0).WithShape({6}), "cannot be reshaped in place");
  EXPECT_DEATH(x.View1D(4, 3), "elements \\[4, 7\\)");
  EXPECT_DEATH(Tensor().shape(), "undefined tensor");
  EXPECT_DEATH(Tensor::FromHost<float>(*device_, {2}, {1, 2, 3}), "values for shape");
  x.storage()->Release();
  EXPECT_DEATH(x.ToVector(), "was released");
}

TEST(ShapeTest, BroadcastFollowsNumPy) {
  EXPECT_EQ(BroadcastShapes({2, 1, 3}, {4, 1}), Shape({2, 4, 3}));
  EXPECT_EQ(BroadcastShapes({}, {4}), Shape({4}));
  EXPECT_EQ(BroadcastShapes({0, 1}, {1, 3}), Shape({0, 3}));
  EXPECT_DEATH(BroadcastShapes({2, 3}, {2}), "do not broadcast");
  EXPECT_DEATH(BroadcastShapes({0}, {3}), "do not broadcast");
}

TEST(ShapeTest, DimsCountFromBothEnds) {
  Shape shape = {2, 3, 4};
  EXPECT_EQ(shape.WithDim(-1, 7), Shape({2, 3, 7}));
  EXPECT_EQ(shape.WithoutDim(0), Shape({3, 4}));
  EXPECT_EQ(shape.ToString(), "[2, 3, 4]");
  EXPECT_DEATH(shape[-4], "dim -4");
  EXPECT_DEATH(Shape({1, 1, 1, 1, 1, 1, 1}), "CHECK failed");
  EXPECT_DEATH(Shape({-1}), "CHECK failed");
}

}  // namespace
}  // namespace trireme
