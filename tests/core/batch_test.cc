#include "core/batch.h"

#include <gtest/gtest.h>

#include "tests/testing/device.h"

namespace trireme {
namespace {

TEST(BatchTest, TokensStandWhereTheirSegmentsSay) {
  const auto cpu = testing::MakeTestDevice();
  HostBatch host;
  host.segments = {{7, 3, 2}, {9, 0, 0}, {int64_t{1} << 40, 5, 1}};
  host.tokens = {10, 11, 12};
  host.labels = {11, kIgnoredLabel, 13};
  host.documents = {{7, 0, 4}, {7, 4, 9}, {int64_t{1} << 40, 0, 6}};
  host.label_bytes = {12, 0, 5};
  const Batch batch = ToDevice(host, *cpu);
  EXPECT_EQ(batch.inputs.dtype(), DType::kI32);
  EXPECT_EQ(batch.inputs.ToVector(), (std::vector<double>{10, 11, 12}));
  EXPECT_EQ(batch.labels.ToVector(), (std::vector<double>{11, -1, 13}));
  EXPECT_EQ(batch.num_targets, 2);
  EXPECT_EQ(batch.num_bytes, 17);
  EXPECT_EQ(batch.layout.sample.ToVector(), (std::vector<double>{7, 7, 0x1p40}));
  EXPECT_EQ(batch.layout.position.ToVector(), (std::vector<double>{3, 4, 5}));
  EXPECT_EQ(batch.layout.documents.size(), 3u);
  EXPECT_EQ(batch.layout.segments.size(), 3u);
  ASSERT_EQ(batch.layout.axis_segments.size(), 1u);
  EXPECT_EQ(batch.layout.axis_segments[0].size(), 3u);
}

TEST(BatchTest, FeaturesKeepTheirShape) {
  const auto cpu = testing::MakeTestDevice();
  HostBatch host;
  host.segments = {{0, 0, 1}, {1, 0, 1}};
  host.features = {1, 2, 3, 4, 5, 6};
  host.feature_shape = {3, 1};
  host.labels = {4, 5};
  const Batch batch = ToDevice(host, *cpu);
  EXPECT_EQ(batch.inputs.shape(), Shape({2, 3, 1}));
  EXPECT_EQ(batch.inputs.dtype(), DType::kF32);
  EXPECT_EQ(batch.num_targets, 2);
}

TEST(BatchTest, ABatchMayBeEmpty) {
  const auto cpu = testing::MakeTestDevice();
  const Batch batch = ToDevice(HostBatch(), *cpu);
  EXPECT_EQ(batch.inputs.shape(), Shape({0}));
  EXPECT_EQ(batch.num_targets, 0);
}

TEST(BatchDeathTest, PartsThatDoNotFitAreRefused) {
  const auto cpu = testing::MakeTestDevice();
  HostBatch host;
  host.segments = {{0, 0, 2}};
  host.tokens = {1};
  EXPECT_DEATH(ToDevice(host, *cpu), "tokens in the segments");
  host.tokens = {1, 2};
  EXPECT_DEATH(ToDevice(host, *cpu), "labels in the segments");
  host.labels = {2, kIgnoredLabel};
  host.label_bytes = {1};
  EXPECT_DEATH(ToDevice(host, *cpu), "bytes of each label");
}

}  // namespace
}  // namespace trireme
