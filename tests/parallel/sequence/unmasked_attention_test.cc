// Unmasked linear attention over ranks against a loop over the documents, outputs and gradients.
#include "parallel/sequence/unmasked_attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/ops/devices.h"
#include "core/ops/ops.h"
#include "tests/parallel/sequence/recurrence_ranks.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::RandomTensor;
using testing::SampleSet;
using testing::ScanSetup;
using testing::TakeRows;

constexpr double kScale = 0.6;

struct Inputs {
  Tensor q, k, v, dy;
};

Inputs InputsOf(Device& device, const SampleSet& set) {
  const int64_t n = set.num_tokens();
  return {RandomTensor(device, {n, 2, 3}, 1), RandomTensor(device, {n, 2, 3}, 2),
          RandomTensor(device, {n, 4, 5}, 3), RandomTensor(device, {n, 4, 5}, 4)};
}

// y and the gradients of q, k, v.
std::vector<Tensor> Differentiate(Inputs in, const std::function<Tensor(const Inputs&)>& fn) {
  for (Tensor* x : {&in.q, &in.k, &in.v}) x->set_requires_grad();
  const Tensor y = fn(in);
  Sum(Mul(y, in.dy)).Backward();
  return {y, in.q.grad(), in.k.grad(), in.v.grad()};
}

// In plain ops: each document apart, head i with key head i / 2.
Tensor Definition(const Inputs& in, const SampleSet& set) {
  std::vector<Tensor> documents;
  int64_t row = 0;
  for (const Segment& document : set.LayoutOf(SequenceCut::kContiguous, 1, 0).documents) {
    const auto heads = [&](const Tensor& x) {
      return Transpose(Slice(x, 0, row, document.length), 0, 1);
    };
    const auto twice = [&](const Tensor& x) {
      const Tensor one = heads(x), a = Slice(one, 0, 0, 1), b = Slice(one, 0, 1, 1);
      return Concat({a, a, b, b}, 0);
    };
    const Tensor sum = MatMul(twice(in.k), heads(in.v), /*transpose_a=*/true);
    documents.push_back(Transpose(Mul(MatMul(twice(in.q), sum), kScale), 0, 1));
    row += document.length;
  }
  return Concat(documents, 0);
}

class UnmaskedAttentionTest : public ::testing::TestWithParam<testing::TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, UnmaskedAttentionTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(UnmaskedAttentionTest, EqualsItsDefinition) {
  const auto host = MakeCpuDevice();
  for (const SampleSet& set : testing::SampleSets()) {
    const Inputs whole = InputsOf(*host, set);
    const std::vector<Tensor> want =
        Differentiate(whole, [&](const Inputs& in) { return Definition(in, set); });
    for (const ScanSetup& setup : testing::ScanSetups()) {
      testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
        const int size = world.size(), rank = world.rank();
        const AffineScan scan(*PlanScan(setup.scan, setup.params), world);
        const RecurrencePlan plan =
            PlanRecurrence(set.LayoutOf(setup.cut, size, rank), setup.cut, rank, false);
        const std::vector<int64_t> rows = set.RowsOf(setup.cut, size, rank);
        const auto take = [&](const Tensor& x) { return TakeRows(device, x, rows); };
        // The world of one process and one rank does without a scan.
        const bool alone = GetParam().kind == testing::TestWorld::kSelf;
        const std::vector<Tensor> got = Differentiate(
            {take(whole.q), take(whole.k), take(whole.v), take(whole.dy)}, [&](const Inputs& in) {
              return UnmaskedAttention(in.q, in.k, in.v, kScale, plan, alone ? nullptr : &scan);
            });
        for (size_t i = 0; i < got.size(); ++i) {
          const std::vector<double> x = got[i].ToVector(), y = take(want[i]).ToVector();
          EXPECT_EQ(x.size(), y.size());
          double worst = 0;
          for (size_t j = 0; j < x.size(); ++j) {
            worst = std::max(worst, std::abs(x[j] - y[j]) / std::max(1.0, std::abs(y[j])));
          }
          EXPECT_LE(worst, 1e-12) << setup.Name() << " " << set.name << " result " << i << " rank "
                                  << rank;
        }
        return absl::OkStatus();
      });
    }
  }
}

}  // namespace
}  // namespace trireme
