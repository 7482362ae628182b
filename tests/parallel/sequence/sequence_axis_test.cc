// One rank alone: what layers call is what one rank computes.
#include "parallel/sequence/sequence_axis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/ops/devices.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::RandomTensor;

void ExpectNear(const Tensor& got, const Tensor& want) {
  EXPECT_THAT(got.ToVector(), ::testing::Pointwise(::testing::DoubleNear(1e-13), want.ToVector()));
}

TEST(SequenceAxisTest, StatesGoAlongSamplesAndStayInDocuments) {
  const auto device = MakeCpuDevice();
  TokenLayout layout;
  layout.segments = {{9, 0, 7}, {4, 2, 5}};
  layout.axis_segments = {layout.segments};
  layout.documents = {{4, 0, 4}, {4, 4, 6}, {9, 0, 7}};
  const SequenceAxis axis;
  const std::vector<TokenRun> runs = axis.Runs(layout);
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[1].begin, 7);
  EXPECT_EQ(runs[1].end, 9);
  EXPECT_EQ(runs[2].end, 12);
  RecurrenceInputs x;
  x.q = RandomTensor(*device, {12, 1, 2}, 1);
  x.k = RandomTensor(*device, {12, 1, 2}, 2);
  x.v = RandomTensor(*device, {12, 2, 3}, 3);
  const Tensor initial = RandomTensor(*device, {2, 2, 2, 3}, 4);
  const RecurrenceOutputs got = axis.Recur(x, layout, initial);
  // Line 0 is sample 4: the state enters run 1, and leaves run 2.
  const Tensor entering = Concat({Slice(initial, 0, 1, 1), Slice(initial, 0, 0, 1),
                                  Tensor::Zeros(*device, {1, 2, 2, 3}, DType::kF64)},
                                 0);
  const RecurrenceOutputs want = LinearRecurrenceReference(x, runs, entering);
  ExpectNear(got.out, want.out);
  ExpectNear(Slice(got.final_state, 0, 0, 1), Slice(want.final_state, 0, 2, 1));
  ExpectNear(Slice(got.final_state, 0, 1, 1), Slice(want.final_state, 0, 0, 1));
  // Without one, all begin from zeros.
  ExpectNear(axis.Recur(x, layout).out, LinearRecurrenceReference(x, runs).out);
}

}  // namespace
}  // namespace trireme
