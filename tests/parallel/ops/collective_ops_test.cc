// Every collective against the definition of the two layouts that it connects, forward and
// backward: whatever the rows, fewer than ranks and none among them.
#include "parallel/ops/collective_ops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/autograd/backward.h"
#include "core/autograd/graph_cut.h"
#include "core/base/rng.h"
#include "core/base/share.h"
#include "core/module/gradient_buffers.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using testing::OnRanks;
using testing::TestWorld;
using testing::TestWorlds;

constexpr int64_t kWidth = 3;

enum class Layout { kReplicated, kCopied, kPartial, kRowShard };

Layout OfGradient(Layout layout) {
  switch (layout) {
    case Layout::kCopied:
      return Layout::kPartial;
    case Layout::kPartial:
      return Layout::kReplicated;
    default:
      return layout;
  }
}

struct Collective {
  const char* name;
  Layout from, to;
  std::function<Tensor(const Tensor& x, int64_t n, Communicator* group)> run;
};

std::vector<Collective> Collectives() {
  using enum Layout;
  return {
      {"ReplicatedToCopied", kReplicated, kCopied,
       [](const Tensor& x, int64_t, Communicator* g) { return ReplicatedToCopied(x, g, "test"); }},
      {"PartialToReplicated", kPartial, kReplicated,
       [](const Tensor& x, int64_t, Communicator* g) { return PartialToReplicated(x, g, "test"); }},
      {"PartialToRowShard", kPartial, kRowShard,
       [](const Tensor& x, int64_t, Communicator* g) { return PartialToRowShard(x, g, "test"); }},
      {"RowShardToCopied", kRowShard, kCopied,
       [](const Tensor& x, int64_t n, Communicator* g) {
         return RowShardToCopied(x, n, g, "test");
       }},
      {"RowShardToReplicated", kRowShard, kReplicated,
       [](const Tensor& x, int64_t n, Communicator* g) {
         return RowShardToReplicated(x, n, g, "test");
       }},
      {"ReplicatedToRowShard", kReplicated, kRowShard,
       [](const Tensor& x, int64_t, Communicator* g) {
         return ReplicatedToRowShard(x, g, "test");
       }},
  };
}

// A tensor [n, kWidth] over `size` ranks, all of it known everywhere.
class Laid {
 public:
  Laid(Device& device, DType dtype, int64_t n, int size, uint64_t seed)
      : device_(device), dtype_(dtype), n_(n), size_(size) {
    for (int rank = 0; rank < size; ++rank) {
      const RngKey key = MakeRngKey(seed, "part", rank);
      std::vector<double> part(n * kWidth);
      for (size_t i = 0; i < part.size(); ++i) part[i] = NormalAt(key, i);
      parts_.push_back(Rounded(part));
    }
  }

  // The whole, of what `layout` says that the ranks have: their sum in rank order, or what they
  // share.
  std::vector<double> Whole(Layout layout) const {
    if (layout != Layout::kPartial) return parts_[0];
    std::vector<double> sum = parts_[0];
    for (int rank = 1; rank < size_; ++rank) {
      for (size_t i = 0; i < sum.size(); ++i) {
        sum[i] = dtype_ == DType::kF64
                     ? sum[i] + parts_[rank][i]
                     : static_cast<float>(sum[i]) + static_cast<float>(parts_[rank][i]);
      }
    }
    return Rounded(sum);
  }
  Tensor PartOf(Layout layout, int rank) const {
    return layout == Layout::kPartial ? Make(parts_[rank])
                                      : Make(Local(Whole(layout), layout, rank));
  }
  // What a rank has of `whole`, in a layout other than kPartial.
  std::vector<double> Local(const std::vector<double>& whole, Layout layout, int rank) const {
    if (layout != Layout::kRowShard) return whole;
    const Share rows = ShareOf(n_, rank, size_);
    return {whole.begin() + rows.first * kWidth, whole.begin() + rows.last * kWidth};
  }

 private:
  Tensor Make(const std::vector<double>& values) const {
    return Tensor::FromVector(device_, {static_cast<int64_t>(values.size()) / kWidth, kWidth},
                              values, dtype_);
  }
  std::vector<double> Rounded(const std::vector<double>& values) const {
    return Make(values).ToVector();
  }

  Device& device_;
  const DType dtype_;
  const int64_t n_;
  const int size_;
  std::vector<std::vector<double>> parts_;
};

class NoLeaves : public GradientSink {
  Slot Open(const Tensor&) override { return {}; }
};

class CollectiveOpsTest : public ::testing::TestWithParam<TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, CollectiveOpsTest, ::testing::ValuesIn(TestWorlds()),
                         testing::WorldName);

TEST_P(CollectiveOpsTest, ValuesAndGradientsAreThoseOfTheLayouts) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    for (const Collective& collective : Collectives()) {
      for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
        for (const int64_t n : {0, 1, 2, 3, 5, 8, 13, 300}) {
          SCOPED_TRACE(absl::StrCat(collective.name, " ", DTypeName(dtype), " ", n));
          const int rank = world.rank();
          const Laid x(device, dtype, n, world.size(), 1), dy(device, dtype, n, world.size(), 2);
          GraphCut cut(x.PartOf(collective.from, rank));
          const Tensor y = collective.run(cut.tensor(), n, &world);
          const std::vector<double> whole = x.Whole(collective.from);
          EXPECT_EQ(y.ToVector(), x.Local(whole, collective.to, rank));

          const Layout grad_layout = OfGradient(collective.to);
          const Tensor grad = dy.PartOf(grad_layout, rank);
          const std::vector<double> before = grad.ToVector();
          NoLeaves sink;
          Backward({y}, {grad}, sink);
          EXPECT_EQ(cut.TakeGrad().ToVector(),
                    dy.Local(dy.Whole(grad_layout), OfGradient(collective.from), rank));
          EXPECT_EQ(grad.ToVector(), before) << "a gradient that others may hold was written to";
        }
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(CollectiveOpsTest, RowsOfTileTheTensor) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    for (const int64_t n : {0, 1, 7, 12}) {
      const Laid x(device, DType::kF64, n, world.size(), 1);
      const Tensor whole = x.PartOf(Layout::kReplicated, world.rank());
      const Tensor rows = RowsOf(whole, &world);
      EXPECT_EQ(rows.ToVector(), x.Local(whole.ToVector(), Layout::kRowShard, world.rank()));
      EXPECT_EQ(rows.storage(), whole.storage());
    }
    return absl::OkStatus();
  });
}

// Backward may do something else between the start of a transfer and its end.
TEST_P(CollectiveOpsTest, TransfersUnderWayOverlap) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const int64_t n = 11;
    const Laid x(device, DType::kF64, n, world.size(), 3),
        z(device, DType::kF64, n, world.size(), 4);
    const std::vector<double> sum = x.Whole(Layout::kPartial);
    const PendingTensor mine =
        StartReduceScatterRows(x.PartOf(Layout::kPartial, world.rank()), &world, "first");
    const PendingTensor all =
        StartAllReduce(z.PartOf(Layout::kPartial, world.rank()), &world, "second");
    const PendingTensor gathered = StartAllGatherRows(mine.Wait(), n, &world, "third");
    EXPECT_EQ(gathered.Wait().ToVector(), sum);
    EXPECT_EQ(all.Wait().ToVector(), z.Whole(Layout::kPartial));
    return absl::OkStatus();
  });
}

TEST(CollectiveOpsAloneTest, WithoutAGroupNothingHappens) {
  OnRanks({TestWorld::kSelf, 1}, {}, [](Device& device, Communicator&) -> Status {
    const Tensor x = Tensor::Full(device, {4, kWidth}, DType::kF32, 1.5).set_requires_grad();
    for (const Collective& collective : Collectives()) {
      EXPECT_EQ(collective.run(x, 4, nullptr).impl(), x.impl()) << collective.name;
    }
    return absl::OkStatus();
  });
}

TEST(CollectiveOpsFailureTest, ARankThatDoesNotComeIsAnErrorWithThePurpose) {
  CommOptions options;
  options.deadline = absl::Milliseconds(100);
  for (const bool in_backward : {false, true}) {
    const auto run = [&](Device& device, Communicator& world) -> Status {
      const Laid x(device, DType::kF64, 7, 3, 1), dy(device, DType::kF64, 7, 3, 2);
      const auto away = [] {
        absl::SleepFor(absl::Milliseconds(250));
        return absl::OkStatus();
      };
      GraphCut cut(x.PartOf(Layout::kPartial, world.rank()));
      if (world.rank() == 2 && !in_backward) return away();
      const Tensor y = PartialToRowShard(cut.tensor(), &world, "rows of the sum");
      if (world.rank() == 2) return away();
      NoLeaves sink;
      Backward({y}, {dy.PartOf(Layout::kRowShard, world.rank())}, sink);
      return absl::OkStatus();
    };
    const Status status = testing::RunOn({TestWorld::kLocal, 3}, options, run);
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("rows of the sum"));
  }
}

}  // namespace
}  // namespace trireme
