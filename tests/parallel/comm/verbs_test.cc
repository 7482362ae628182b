// Every verb over every world, type and ragged counts, against its serial definition, bit for bit.
// The definition does not know the world, so self, local and MPI agree with each other too.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "absl/time/clock.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/tensor/dispatch.h"
#include "parallel/comm/communicator.h"
#include "tests/testing/device.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using testing::OnRanks;

constexpr DType kDTypes[] = {DType::kF64, DType::kF32, DType::kBF16, DType::kF16,
                             DType::kI64, DType::kI32, DType::kU8};

class VerbsTest : public ::testing::TestWithParam<testing::TestWorld> {
 protected:
  int size() const { return GetParam().size; }
};
INSTANTIATE_TEST_SUITE_P(Worlds, VerbsTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

// Small pieces and blocks, so that small tensors take the paths of large ones.
CommOptions SmallPieces() {
  CommOptions options;
  options.chunk_bytes = 1500;
  options.block_bytes = 4096;
  return options;
}

// What rank `rank` brings to the call `seed`.
Tensor Input(Device& device, int64_t n, DType dtype, int rank, int seed = 0) {
  std::vector<double> values(n);
  const RngKey key = MakeRngKey(seed, "comm test", rank);
  for (int64_t i = 0; i < n; ++i) values[i] = 100 * NormalAt(key, i);
  if (dtype == DType::kU8) {
    for (double& value : values) value = std::abs(value);
  }
  return Tensor::FromVector(device, {n}, values, dtype);
}

std::string Bytes(const Tensor& tensor) {
  std::string bytes(tensor.numel() * DTypeSize(tensor.dtype()), 0);
  tensor.device().Copy(bytes.data(), tensor.raw(), bytes.size(), tensor.device().compute());
  CHECK_OK(tensor.device().Synchronize());
  return bytes;
}

// On the CPU a reduction is its definition to the bit. A GPU's may add in another order.
bool IsReduced(const Tensor& tensor, const std::string& expected) {
  if (testing::OnCpu() || !IsFloating(tensor.dtype())) return Bytes(tensor) == expected;
  bool alike = true;
  DispatchAll(tensor.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const std::vector<T> values = tensor.ToHost<T>();
    const double ulp = sizeof(T) == 8 ? 0x1p-52 : sizeof(T) == 4 ? 0x1p-23 : 0x1p-7;
    for (size_t i = 0; i < values.size(); ++i) {
      T want;
      std::memcpy(&want, expected.data() + i * sizeof(T), sizeof(T));
      alike &= std::abs(double(AccOf<T>(values[i])) - double(AccOf<T>(want))) <=
               8000 * ulp;  // Terms of about 100.
    }
  });
  return alike && tensor.numel() * DTypeSize(tensor.dtype()) == int64_t(expected.size());
}

std::string Concat(const std::vector<Tensor>& tensors) {
  std::string bytes;
  for (const Tensor& tensor : tensors) bytes += Bytes(tensor);
  return bytes;
}

template <typename T>
T Combined(ReduceOp op, T a, T b) {
  if (std::isnan(double(a)) || std::isnan(double(b))) return std::numeric_limits<T>::quiet_NaN();
  if (op == ReduceOp::kMax) return a < b ? b : a;
  if (op == ReduceOp::kMin) return b < a ? b : a;
  return a + b;
}

// The definition: one element after the other, ranks in order.
std::string Reduced(const std::vector<Tensor>& inputs, const Call& call) {
  std::vector<int> order(inputs.size());
  std::iota(order.begin(), order.end(), 0);
  if (!call.order.empty()) order.assign(call.order.begin(), call.order.end());
  std::string result = Bytes(inputs[0]);
  DispatchAll(inputs[0].dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    std::vector<std::vector<T>> terms;
    for (const Tensor& input : inputs) terms.push_back(input.ToHost<T>());
    using A = std::conditional_t<std::is_integral_v<T>, int64_t, AccOf<T>>;
    for (int64_t i = 0; i < inputs[0].numel(); ++i) {
      A sum = 0;
      for (size_t k = 0; k < order.size(); ++k) {
        A x = A(terms[order[k]][i]);
        if (!call.weights.empty()) x *= A(call.weights[order[k]]);
        sum = k == 0 ? x : Combined(call.op, sum, x);
      }
      const T rounded = T(sum);
      std::memcpy(result.data() + i * sizeof(T), &rounded, sizeof(T));
    }
  });
  return result;
}

// Uneven parts, some empty.
std::vector<int64_t> RaggedCounts(int size, int seed, int64_t scale) {
  std::vector<int64_t> counts(size);
  for (int r = 0; r < size; ++r) counts[r] = (r * 7 + seed * 5) % 4 * scale + (r + seed) % 3;
  return counts;
}

int64_t Sum(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

TEST_P(VerbsTest, AllReduce) {
  OnRanks(GetParam(), SmallPieces(), [&](Device& device, Communicator& world) {
    for (const DType dtype : kDTypes) {
      for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
        for (const int64_t n : {0, 1, 7, 255, 1023, 5003}) {
          std::vector<Tensor> inputs;
          for (int r = 0; r < size(); ++r) inputs.push_back(Input(device, n, dtype, r, n));
          const Call call = {.purpose = "test", .op = op};
          const Tensor mine = inputs[world.rank()].CopyTo(dtype);
          world.AllReduce(mine, call)->Join(device.compute());
          EXPECT_TRUE(IsReduced(mine, Reduced(inputs, call)))
              << DTypeName(dtype) << "[" << n << "]";
        }
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(VerbsTest, AllReduceInAGivenOrderWithWeights) {
  OnRanks(GetParam(), SmallPieces(), [&](Device& device, Communicator& world) {
    std::vector<int> order;
    std::vector<double> weights;
    for (int r = 0; r < size(); ++r) {
      order.insert(r % 2 == 0 ? order.begin() : order.end(), r);
      weights.push_back(0.3 + r);
    }
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
      std::vector<Tensor> inputs;
      for (int r = 0; r < size(); ++r) inputs.push_back(Input(device, 3001, dtype, r));
      for (const Call& call : {Call{.purpose = "order", .order = order},
                               Call{.purpose = "weights", .weights = weights},
                               Call{.purpose = "both", .order = order, .weights = weights}}) {
        const Tensor mine = inputs[world.rank()].CopyTo(dtype);
        world.AllReduce(mine, call)->Join(device.compute());
        EXPECT_TRUE(IsReduced(mine, Reduced(inputs, call)))
            << DTypeName(dtype) << " " << call.purpose;
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(VerbsTest, MaximumAndMinimumKeepNaN) {
  if (!testing::OnCpu()) GTEST_SKIP() << "NCCL does not say what it does with NaN";
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    for (int who = 0; who < size(); ++who) {
      const double value = world.rank() == who ? std::nan("") : world.rank();
      for (const ReduceOp op : {ReduceOp::kMax, ReduceOp::kMin}) {
        const Tensor x = Tensor::Full(device, {3}, DType::kF32, value);
        world.AllReduce(x, {.purpose = "nan", .op = op})->Join(device.compute());
        EXPECT_TRUE(std::isnan(x.ToVector()[1])) << "from rank " << who;
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(VerbsTest, AllGather) {
  OnRanks(GetParam(), SmallPieces(), [&](Device& device, Communicator& world) {
    for (const DType dtype : kDTypes) {
      for (const int64_t scale : {0, 1, 100, 1000}) {
        const std::vector<int64_t> counts = RaggedCounts(size(), 1, scale);
        std::vector<Tensor> inputs;
        for (int r = 0; r < size(); ++r) inputs.push_back(Input(device, counts[r], dtype, r));
        const Tensor output = Tensor::Zeros(device, {Sum(counts)}, dtype);
        const Call call = {.purpose = "gather", .counts = counts};
        world.AllGather(inputs[world.rank()], output, call)->Join(device.compute());
        EXPECT_EQ(Bytes(output), Concat(inputs)) << DTypeName(dtype) << " x " << scale;

        const Tensor in_place = Tensor::Zeros(device, {Sum(counts)}, dtype);
        const int64_t begin = std::accumulate(counts.begin(), counts.begin() + world.rank(), 0);
        const Tensor own = in_place.View1D(begin, counts[world.rank()]);
        own.CopyFrom(inputs[world.rank()]);
        world.AllGather(own, in_place, call)->Join(device.compute());
        EXPECT_EQ(Bytes(in_place), Concat(inputs)) << DTypeName(dtype) << " x " << scale;
      }
    }
    // Equal parts need no counts.
    const Tensor output = Tensor::Zeros(device, {size(), 2}, DType::kI64);
    world.AllGather(Tensor::Full(device, {2}, DType::kI64, world.rank()), output, {"equal"})
        ->Join(device.compute());
    for (int i = 0; i < 2 * size(); ++i) EXPECT_EQ(output.ToVector()[i], i / 2);
    return absl::OkStatus();
  });
}

TEST_P(VerbsTest, ReduceScatter) {
  OnRanks(GetParam(), SmallPieces(), [&](Device& device, Communicator& world) {
    for (const DType dtype : kDTypes) {
      for (const int64_t scale : {0, 1, 200, 3000}) {
        const std::vector<int64_t> counts = RaggedCounts(size(), 2, scale);
        std::vector<Tensor> inputs;
        for (int r = 0; r < size(); ++r) inputs.push_back(Input(device, Sum(counts), dtype, r));
        const Call call = {.purpose = "scatter", .counts = counts};
        const int64_t begin = std::accumulate(counts.begin(), counts.begin() + world.rank(), 0);
        const int64_t count = counts[world.rank()];
        const std::string expected =
            Reduced(inputs, call).substr(begin * DTypeSize(dtype), count * DTypeSize(dtype));

        const Tensor output = Tensor::Zeros(device, {count}, dtype);
        const Tensor mine = inputs[world.rank()].CopyTo(dtype);
        world.ReduceScatter(mine, output, call)->Join(device.compute());
        EXPECT_TRUE(IsReduced(output, expected)) << DTypeName(dtype) << " x " << scale;
        EXPECT_EQ(Bytes(mine), Bytes(inputs[world.rank()])) << "the input was changed";

        world.ReduceScatter(mine, mine.View1D(begin, count), call)->Join(device.compute());
        EXPECT_TRUE(IsReduced(mine.View1D(begin, count), expected))
            << DTypeName(dtype) << " in place";
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(VerbsTest, AllToAll) {
  OnRanks(GetParam(), SmallPieces(), [&](Device& device, Communicator& world) {
    const int rank = world.rank();
    for (const DType dtype : kDTypes) {
      for (const int64_t scale : {0, 1, 700}) {
        std::vector<int64_t> recv_counts(size());
        std::string expected;
        for (int r = 0; r < size(); ++r) {
          const std::vector<int64_t> counts = RaggedCounts(size(), r, scale);
          recv_counts[r] = counts[rank];
          const Tensor theirs = Input(device, Sum(counts), dtype, r);
          const int64_t begin = std::accumulate(counts.begin(), counts.begin() + rank, 0);
          expected += Bytes(theirs.View1D(begin, counts[rank]));
        }
        const std::vector<int64_t> send_counts = RaggedCounts(size(), rank, scale);
        const Tensor input = Input(device, Sum(send_counts), dtype, rank);
        const Tensor output = Tensor::Zeros(device, {Sum(recv_counts)}, dtype);
        world.AllToAll(input, send_counts, output, recv_counts, {"exchange"})
            ->Join(device.compute());
        EXPECT_EQ(Bytes(output), expected) << DTypeName(dtype) << " x " << scale;
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(VerbsTest, Broadcast) {
  OnRanks(GetParam(), SmallPieces(), [&](Device& device, Communicator& world) {
    for (const DType dtype : kDTypes) {
      for (int root = 0; root < size(); ++root) {
        for (const int64_t n : {0, 1, 129, 5003}) {
          const Tensor sent = Input(device, n, dtype, root);
          const Tensor tensor =
              world.rank() == root ? sent.CopyTo(dtype) : Tensor::Zeros(device, {n}, dtype);
          world.Broadcast(tensor, root, {"broadcast"})->Join(device.compute());
          EXPECT_EQ(Bytes(tensor), Bytes(sent)) << DTypeName(dtype) << " from " << root;
        }
      }
    }
    return absl::OkStatus();
  });
}

// All send first and receive then: neither lane may wait for the other. One rank sends to itself.
TEST_P(VerbsTest, SendAndReceiveAroundARing) {
  OnRanks(GetParam(), SmallPieces(), [&](Device& device, Communicator& world) {
    const int next = (world.rank() + 1) % size();
    const int previous = (world.rank() + size() - 1) % size();
    for (const DType dtype : kDTypes) {
      std::vector<std::unique_ptr<Work>> works;
      std::vector<Tensor> received;
      const std::vector<int64_t> sizes = {5, 0, 5003, 1};
      for (size_t i = 0; i < sizes.size(); ++i) {
        works.push_back(
            world.Send(Input(device, sizes[i], dtype, world.rank(), i), next, {"ring"}));
      }
      for (const int64_t n : sizes) {
        received.push_back(Tensor::Zeros(device, {n}, dtype));
        works.push_back(world.Recv(received.back(), previous, {"ring"}));
      }
      for (const auto& work : works) work->Join(device.compute());
      for (size_t i = 0; i < sizes.size(); ++i) {
        EXPECT_EQ(Bytes(received[i]), Bytes(Input(device, sizes[i], dtype, previous, i)));
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(VerbsTest, NobodyLeavesABarrierBeforeTheLastEnters) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    for (int last = 0; last < size(); ++last) {
      if (world.rank() == last) absl::SleepFor(absl::Milliseconds(20));
      const int64_t entered = absl::ToUnixNanos(absl::Now());
      RETURN_IF_ERROR(world.Barrier({"test"})->Wait());
      const int64_t left = absl::ToUnixNanos(absl::Now());
      const Tensor latest = Tensor::FromHost<int64_t>(device, {1}, {entered});
      world.AllReduce(latest, {.purpose = "latest", .op = ReduceOp::kMax})->Join(device.compute());
      EXPECT_GE(left, latest.ToHost<int64_t>()[0]);
    }
    return absl::OkStatus();
  });
}

TEST_P(VerbsTest, Split) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    const int rank = world.rank();
    // By parity, in descending order; the last rank of all stays out.
    const int64_t color = rank == size() - 1 ? -1 : rank % 2;
    ASSIGN_OR_RETURN(const auto half, world.Split(color, -rank, "half"));
    EXPECT_EQ(half == nullptr, color < 0);
    if (half != nullptr) {
      EXPECT_EQ(half->axis(), "half");
      std::vector<int> expected;
      for (int r = size() - 2; r >= 0; --r) {
        if (r % 2 == color) expected.push_back(r);
      }
      EXPECT_EQ(std::vector<int>(half->world_ranks().begin(), half->world_ranks().end()), expected);
      EXPECT_EQ(half->world_ranks()[half->rank()], rank);
      const Tensor sum = Tensor::Full(device, {1}, DType::kI32, rank);
      half->AllReduce(sum, {"sum"})->Join(device.compute());
      EXPECT_EQ(sum.Item(), std::accumulate(expected.begin(), expected.end(), 0));
      ASSIGN_OR_RETURN(const auto alone, half->Split(rank, 0, "alone"));
      EXPECT_EQ(alone->size(), 1);
      alone->AllReduce(sum, {"sum"})->Join(device.compute());
    }
    return world.Barrier({"end"})->Wait();
  });
}

// Rank 0 reduces along "first" with everybody; the others come to it only after they heard from
// rank 0 along "second", whose calls were posted later.
TEST_P(VerbsTest, ACallOnOneGroupDoesNotBlockAnother) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    ASSIGN_OR_RETURN(const auto first, world.Split(0, 0, "first"));
    ASSIGN_OR_RETURN(const auto second, world.Split(0, 0, "second"));
    for (int round = 0; round < 3; ++round) {
      const Tensor x = Tensor::Full(device, {5000}, DType::kF32, 1);
      const Tensor y = Tensor::Full(device, {3000}, DType::kF32, world.rank() + round);
      if (world.rank() == 0) {
        auto slow = first->AllReduce(x, {"first"});
        second->Broadcast(y, 0, {"second"})->Join(device.compute());
        slow->Join(device.compute());
      } else {
        second->Broadcast(y, 0, {"second"})->Join(device.compute());
        first->AllReduce(x, {"first"})->Join(device.compute());
      }
      EXPECT_EQ(x.ToVector()[4999], size());
      EXPECT_EQ(y.ToVector()[2999], round);
    }
    return absl::OkStatus();
  });
}

TEST_P(VerbsTest, CallsKeepTheirTensors) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    const int64_t before = device.stats().current_total_bytes;
    auto work = world.AllReduce(Tensor::Full(device, {100000}, DType::kF32, 1), {"temporary"});
    if (testing::OnCpu() || world.size() > 1) {  // Alone, a GPU is done at once.
      EXPECT_GE(device.stats().current_total_bytes, before + 400000);
    }
    RETURN_IF_ERROR(work->Wait());
    EXPECT_EQ(device.stats().current_total_bytes, before);
    return absl::OkStatus();
  });
}

TEST_P(VerbsTest, WithoutAProgressThread) {
  CommOptions options = SmallPieces();
  options.progress_thread = false;
  OnRanks(GetParam(), options, [&](Device& device, Communicator& world) {
    ASSIGN_OR_RETURN(const auto group, world.Split(0, 0, "group"));
    std::vector<Tensor> inputs;
    for (int r = 0; r < size(); ++r) inputs.push_back(Input(device, 5003, DType::kF32, r));
    const Tensor a = inputs[world.rank()].CopyTo(DType::kF32);
    const Tensor b = inputs[world.rank()].CopyTo(DType::kF32);
    auto later = world.AllReduce(a, {"world"});
    group->AllReduce(b, {"group"})->Join(device.compute());
    later->Join(device.compute());
    EXPECT_TRUE(IsReduced(a, Reduced(inputs, {"world"})));
    EXPECT_EQ(Bytes(b), Bytes(a));
    return absl::OkStatus();
  });
}

// Many calls in flight on overlapping groups, from random delays.
TEST_P(VerbsTest, ManyCallsInFlight) {
  OnRanks(GetParam(), SmallPieces(), [&](Device& device, Communicator& world) {
    const int rank = world.rank();
    ASSIGN_OR_RETURN(const auto rows, world.Split(rank / 2, rank, "rows"));
    ASSIGN_OR_RETURN(const auto columns, world.Split(rank % 2, rank, "columns"));
    Communicator* const groups[] = {&world, rows.get(), columns.get()};
    struct Expected {
      Tensor tensor;
      std::string bytes;
      std::unique_ptr<Work> work;
    };
    std::vector<Expected> expected;
    const RngKey key = MakeRngKey(3, "calls");
    const RngKey delay_key = MakeRngKey(4, "delays", rank);
    for (int i = 0; i < 120; ++i) {
      // Chosen alike on all ranks, so the calls of each group match.
      Communicator& group = *groups[static_cast<int>(UniformAt(key, 2 * i) * 3)];
      const int64_t n = static_cast<int64_t>(std::pow(UniformAt(key, 2 * i + 1), 4) * 3000);
      std::vector<Tensor> inputs;
      for (const int r : group.world_ranks()) inputs.push_back(Input(device, n, DType::kF32, r, i));
      if (UniformAt(delay_key, i) < 0.1) absl::SleepFor(absl::Microseconds(300));
      const Tensor tensor = inputs[group.rank()].CopyTo(DType::kF32);
      if (i % 2 == 0) {
        auto work = group.AllReduce(tensor, {"many"});
        expected.push_back({tensor, Reduced(inputs, {"many"}), std::move(work)});
      } else {
        const Tensor output = Tensor::Zeros(device, {n * group.size()}, DType::kF32);
        auto work = group.AllGather(tensor, output, {"many"});
        expected.push_back({output, Concat(inputs), std::move(work)});
      }
    }
    for (const Expected& call : expected) {
      call.work->Join(device.compute());
      EXPECT_TRUE(IsReduced(call.tensor, call.bytes));
    }
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
