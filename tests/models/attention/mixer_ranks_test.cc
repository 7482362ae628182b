// Every mixer over the tensor axis, the sequence axis and both equals one rank: outputs, the
// gradient of the stream, the gradient of every parameter.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"

#include "core/autograd/backward.h"
#include "core/autograd/graph_cut.h"
#include "core/base/share.h"
#include "core/module/gradient_buffers.h"
#include "parallel/mesh/groups.h"
#include "parallel/ops/collective_ops.h"
#include "tests/models/attention/mixer_case.h"
#include "tests/testing/batches.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using testing::ContextOf;
using testing::Distance;
using testing::kMixerWidth;
using testing::MixerCase;
using testing::MixerUnderTest;
using testing::RaggedDocuments;
using testing::RandomTensor;

struct Layout {
  int tensor = 1, sequence = 1;
  bool sharded_stream = false;
  std::string method = "all_gather";  // Zigzag; ulysses is contiguous.
  std::string scan = "auto";

  std::string Name() const {
    return absl::StrCat("tensor=", tensor, sharded_stream ? " sharded" : "", " sequence=", sequence,
                        " ", method, " ", scan);
  }
};

// Elements of whole tensors: what ranks have is added in its place.
class Wholes {
 public:
  // Of a part that does not count, the place alone.
  void Add(const std::string& name, const Shape& whole, const Box& box, const Tensor& part,
           bool counts) {
    std::vector<double>& sum = values_[name];
    sum.resize(whole.numel());
    if (!counts) return;
    const std::vector<double> values = part.ToVector();
    for (size_t i = 0; i < values.size(); ++i) {
      int64_t rest = i, index = 0, stride = 1;
      for (int dim = whole.rank() - 1; dim >= 0; --dim) {
        index += (box.begin[dim] + rest % box.size[dim]) * stride;
        rest /= box.size[dim];
        stride *= whole[dim];
      }
      sum[index] += values[i];
    }
  }
  void AddOverRanks(Device& device, Communicator& world) {
    for (auto& [name, values] : values_) {
      const Shape shape = {static_cast<int64_t>(values.size())};
      const Tensor sum = Tensor::FromVector(device, shape, values, DType::kF64);
      values = StartAllReduce(sum, &world, "results").Wait().ToVector();
    }
  }
  const std::map<std::string, std::vector<double>>& values() const { return values_; }

 private:
  std::map<std::string, std::vector<double>> values_;
};

// Where the rows of `segments` stand among those of `whole`.
std::vector<int64_t> RowsAmong(absl::Span<const Segment> whole,
                               absl::Span<const Segment> segments) {
  std::vector<int64_t> rows;
  for (const Segment& segment : segments) {
    int64_t first = 0;
    for (const Segment& other : whole) {
      if (other.sample == segment.sample) break;
      first += other.length;
    }
    for (int64_t t = 0; t < segment.length; ++t) rows.push_back(first + segment.begin + t);
  }
  return rows;
}

Tensor PickRows(Device& device, const Tensor& whole, const std::vector<int64_t>& rows) {
  const std::vector<double> all = whole.ToVector();
  std::vector<double> values;
  for (const int64_t row : rows) {
    values.insert(values.end(), all.begin() + row * kMixerWidth,
                  all.begin() + (row + 1) * kMixerWidth);
  }
  return Tensor::FromVector(device, {static_cast<int64_t>(rows.size()), kMixerWidth}, values,
                            DType::kF64);
}

// Adds this rank's part of the results.
void RunPart(Device& device, const MixerCase& c, const HostBatch& whole, const TensorAxis& tensor,
             const std::shared_ptr<const SequenceAxis>& sequence, Wholes* results) {
  const MixerUnderTest under_test(c, device, DType::kF64, testing::SmallShape(tensor, sequence));
  const HostBatch mine = sequence->Cut(whole);
  const TokenLayout layout = testing::LayoutOf(mine, device);
  std::vector<int64_t> rows = RowsAmong(whole.segments, mine.segments);
  if (tensor.sharded_stream) {
    const Share share = ShareOf(static_cast<int64_t>(rows.size()), tensor.rank, tensor.size);
    rows = {rows.begin() + share.first, rows.begin() + share.last};
  }
  const auto n = static_cast<int64_t>(whole.tokens.size());
  const auto part_of = [&](uint64_t seed) {
    return PickRows(device, RandomTensor(device, {n, kMixerWidth}, seed), rows);
  };
  GradientBuffers sink(under_test.parameters, device);
  GraphCut cut(part_of(3));
  const Tensor y = (*under_test.mixer)(cut.tensor(), ContextOf(layout));
  Backward({y}, {part_of(5)}, sink);
  const Tensor dx = cut.TakeGrad();

  // What the ranks of the tensor axis have alike counts once.
  const bool first = tensor.rank == 0;
  const bool stream_counts = tensor.sharded_stream || first;
  const Shape stream = {n, kMixerWidth};
  for (const char* name : {"output", "stream gradient"}) results->Add(name, stream, {}, {}, false);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = [&](const Tensor& x) {
      return x.AsStrided({1, kMixerWidth}, x.strides(), static_cast<int64_t>(i) * x.strides()[0]);
    };
    const Box box = {{rows[i], 0}, {1, kMixerWidth}};
    results->Add("output", stream, box, row(y.Detach()), stream_counts);
    results->Add("stream gradient", stream, box, row(dx), stream_counts);
  }
  const auto& parameters = under_test.parameters.parameters();
  for (int i = 0; i < sink.size(); ++i) {
    const ParamSpec& spec = parameters[i]->spec;
    const bool alike = !(spec.split | spec.partial_grad).Contains(Axis::kTensor);
    sink.ZeroIfUntouched(i);
    results->Add(spec.path, spec.global, spec.local, sink.gradient(i), first || !alike);
  }
}

// On one rank of a world laid out so.
Status RunOnRank(Device& device, Communicator& world, const MixerCase& c, const HostBatch& whole,
                 const Layout& layout, Wholes* results) {
  ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({1, 1, 1, layout.sequence, layout.tensor},
                                                 layout.tensor * layout.sequence));
  ASSIGN_OR_RETURN(const auto groups,
                   MeshGroups::Create(world, mesh, {Axis::kSequence, Axis::kTensor},
                                      {{Axis::kSequence, layout.sequence}}));
  ASSIGN_OR_RETURN(SequenceAxis axis,
                   SequenceAxis::Create(layout.method, {}, *groups, {layout.scan, {}}));
  const auto sequence = std::make_shared<const SequenceAxis>(std::move(axis));
  Communicator& group = groups->over(Axis::kTensor);
  const TensorAxis tensor = {group.rank(), group.size(), &group, layout.sharded_stream};
  return CatchFailure([&] {
    RunPart(device, c, whole, tensor, sequence, results);
    results->AddOverRanks(device, world);
  });
}

std::vector<testing::TestWorld> WorldsWhere(bool (*holds)(int size)) {
  std::vector<testing::TestWorld> worlds;
  for (const testing::TestWorld& world : testing::TestWorlds()) {
    if (world.size > 1 && holds(world.size)) worlds.push_back(world);
  }
  return worlds;
}

class MixerRanksTest : public ::testing::TestWithParam<testing::TestWorld> {
 protected:
  void ExpectOneRank(const std::vector<MixerCase>& cases, const HostBatch& whole,
                     const std::vector<Layout>& layouts) {
    std::vector<Wholes> expected(cases.size());
    const auto alone = testing::MakeTestDevice();
    for (size_t i = 0; i < cases.size(); ++i) {
      RunPart(*alone, cases[i], whole, {}, std::make_shared<SequenceAxis>(), &expected[i]);
    }
    testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
      for (const Layout& layout : layouts) {
        for (size_t i = 0; i < cases.size(); ++i) {
          Wholes results;
          RETURN_IF_ERROR(RunOnRank(device, world, cases[i], whole, layout, &results));
          EXPECT_EQ(results.values().size(), expected[i].values().size()) << cases[i].name;
          for (const auto& [name, values] : expected[i].values()) {
            EXPECT_LT(Distance(results.values().at(name), values), 1e-10)
                << cases[i].name << " " << name << ", " << layout.Name();
          }
        }
      }
      return absl::OkStatus();
    });
  }
};

class TensorRanksTest : public MixerRanksTest {};
class BothAxesRanksTest : public MixerRanksTest {};

INSTANTIATE_TEST_SUITE_P(Worlds, MixerRanksTest,
                         ::testing::ValuesIn(WorldsWhere([](int) { return true; })),
                         testing::WorldName);
// Four heads.
INSTANTIATE_TEST_SUITE_P(Worlds, TensorRanksTest,
                         ::testing::ValuesIn(WorldsWhere([](int size) { return 4 % size == 0; })),
                         testing::WorldName);
INSTANTIATE_TEST_SUITE_P(Worlds, BothAxesRanksTest,
                         ::testing::ValuesIn(WorldsWhere([](int size) { return size % 2 == 0; })),
                         testing::WorldName);
// Under mpiexec there is one world, which may be none of theirs.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TensorRanksTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(BothAxesRanksTest);

TEST_P(TensorRanksTest, TheTensorAxisEqualsOneRank) {
  const int size = GetParam().size;
  ExpectOneRank(testing::MixerCases(), RaggedDocuments(),
                {{.tensor = size}, {.tensor = size, .sharded_stream = true}});
}

// Of entries that any number of ranks can cut: ulysses cuts what may attend by heads.
std::vector<MixerCase> LinearCases() {
  std::vector<MixerCase> cases = testing::MixerCases();
  cases.erase(std::remove_if(cases.begin(), cases.end(),
                             [](const MixerCase& c) {
                               return c.entry == "softmax" || c.entry == "linearized";
                             }),
              cases.end());
  return cases;
}

// Pieces shorter than a convolution, documents that end where a piece does, samples shorter than
// the axis; by every transport.
TEST_P(MixerRanksTest, TheSequenceAxisEqualsOneRank) {
  std::vector<Layout> layouts;
  for (const auto& scan : Scans()) {
    if (std::string(scan.name) == "auto") continue;  // It takes one of the others.
    for (const char* method : {"all_gather", "ulysses"}) {
      layouts.push_back({.sequence = GetParam().size, .method = method, .scan = scan.name});
    }
  }
  ExpectOneRank(LinearCases(), RaggedDocuments(), layouts);
}

TEST_P(MixerRanksTest, LongDocumentsOverTheSequenceAxis) {
  const HostBatch host = testing::PackedDocuments({{61, 90}, {40}}, 23, 1);
  ExpectOneRank(testing::MixerCases(), host, {{.sequence = GetParam().size}});
}

TEST_P(BothAxesRanksTest, BothAxesEqualOneRank) {
  const int half = GetParam().size / 2;
  ExpectOneRank(
      testing::MixerCases(), RaggedDocuments(),
      {{.tensor = 2, .sequence = half}, {.tensor = 2, .sequence = half, .sharded_stream = true}});
}

}  // namespace
}  // namespace trireme
