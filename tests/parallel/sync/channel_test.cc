// Memories lose nothing: what went in is what came out and what is left, for every codec and mixer.
#include "parallel/sync/channel.h"

#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using testing::OnRanks;

const CodecPiece kPieces[] = {{11, {5, 7}, 0, 35}, {22, {20, 13}, 0, 260}, {33, {3, 1}, 0, 3}};
constexpr int64_t kElements = 298;

// Of replica k at round t.
double ValueAt(int k, int64_t t, int64_t i) {
  return NormalAt(MakeRngKey(3, "channel", 100 * t + k), i);
}

std::vector<double> Weights(int num_replicas) {
  std::vector<double> weights;
  for (int k = 0; k < num_replicas; ++k) {
    weights.push_back(2.0 * (k + 1) / (num_replicas * (num_replicas + 1)));
  }
  return weights;
}

Tensor State(const Channel& channel, const std::string& name, int64_t* first) {
  for (const ExchangeState& state : channel.States()) {
    if (state.name != name) continue;
    *first = state.first;
    return state.data;
  }
  return {};
}

// sum_k w_k memory_k, and what second encodings lost, of all replicas.
struct Left {
  std::vector<double> memories, errors;
};
Left LeftIn(Communicator& world, Device& device, const Channel& channel,
            const std::vector<double>& weights) {
  int64_t first = 0;
  const Tensor memories = State(channel, "memory", &first).CopyTo(DType::kF64);
  ThrowIfError(world.AllReduce(memories, {.purpose = "compare", .weights = weights})->Wait());
  const Tensor errors = Tensor::Zeros(device, {kElements}, DType::kF64);
  const Tensor own = State(channel, "server_error", &first);
  if (own.defined()) errors.View1D(first, own.numel()).CopyFrom(own);
  ThrowIfError(world.AllReduce(errors, {"compare"})->Wait());
  return {memories.ToVector(), errors.ToVector()};
}

class ChannelTest : public ::testing::TestWithParam<testing::TestWorld> {
 protected:
  int size() const { return GetParam().size; }

  // Calls fn with every codec and each mixer that takes it.
  void ForEach(const std::function<Status(const std::string& what, const Codec& codec,
                                          const Mixer& mixer, Device&, Communicator&)>& fn) {
    OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
      for (const Entry<CodecFactory>& entry : Codecs()) {
        ASSIGN_OR_RETURN(const auto codec, MakeCodec(entry.name));
        for (const std::string name : {"all_reduce", "all_gather", "scatter_gather", "subset"}) {
          ASSIGN_OR_RETURN(
              const auto mixer,
              MakeMixer(name, name == "subset"
                                  ? ParamMap{{"participants", absl::StrCat((size() + 1) / 2)}}
                                  : ParamMap{}));
          if (!mixer->Check(*codec, size()).ok()) continue;
          RETURN_IF_ERROR(
              fn(absl::StrCat(entry.name, " by ", name), *codec, *mixer, device, world));
        }
      }
      return absl::OkStatus();
    });
  }
};
INSTANTIATE_TEST_SUITE_P(Worlds, ChannelTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(ChannelTest, ErrorFeedbackConservesTheSumOfAllRounds) {
  ForEach([&](const std::string& what, const Codec& codec, const Mixer& mixer, Device& device,
              Communicator& world) -> Status {
    ChannelOptions options = {codec, mixer};
    options.memory = ExchangeMemory::kErrorFeedback;
    Channel channel(world, device, DType::kF64, kPieces, options);
    const std::vector<double> weights = Weights(size());
    std::vector<double> in(kElements, 0.0), out(kElements, 0.0);
    for (int64_t round = 0; round < 4; ++round) {
      std::vector<double> values(kElements);
      for (int64_t i = 0; i < kElements; ++i) {
        values[i] = ValueAt(world.rank(), round, i);
        for (int k = 0; k < size(); ++k) in[i] += weights[k] * ValueAt(k, round, i);
      }
      channel.values().CopyFrom(Tensor::FromVector(device, {kElements}, values, DType::kF64));
      RETURN_IF_ERROR(channel.Start(round, weights));
      RETURN_IF_ERROR(channel.Finish());
      const std::vector<double> mean = channel.mean().ToVector();
      for (int64_t i = 0; i < kElements; ++i) out[i] += mean[i];
      const Left left = LeftIn(world, device, channel, weights);
      for (int64_t i = 0; i < kElements; ++i) {
        const double kept = left.memories[i] + left.errors[i];
        const double lost = std::abs(in[i] - out[i] - kept);
        if (lost <= 4e-15 * (1 + std::abs(in[i]) + std::abs(kept))) continue;
        ADD_FAILURE() << what << " round " << round << " element " << i << ": " << lost;
        return absl::OkStatus();
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(ChannelTest, DifferencesKeepTheMeanOfTheMemories) {
  // mean = sum_k w_k h_k, less what the second encodings lost so far.
  ForEach([&](const std::string& what, const Codec& codec, const Mixer& mixer, Device& device,
              Communicator& world) -> Status {
    ChannelOptions options = {codec, mixer};
    options.memory = ExchangeMemory::kDifference;
    Channel channel(world, device, DType::kF64, kPieces, options);
    const std::vector<double> weights = Weights(size());
    for (int64_t round = 0; round < 4; ++round) {
      std::vector<double> values(kElements);
      for (int64_t i = 0; i < kElements; ++i) values[i] = ValueAt(world.rank(), round, i);
      channel.values().CopyFrom(Tensor::FromVector(device, {kElements}, values, DType::kF64));
      RETURN_IF_ERROR(channel.Start(round, weights));
      RETURN_IF_ERROR(channel.Finish());
      const Left left = LeftIn(world, device, channel, weights);
      const std::vector<double> mean = channel.mean().ToVector();
      for (int64_t i = 0; i < kElements; ++i) {
        const double wrong = std::abs(mean[i] + left.errors[i] - left.memories[i]);
        if (wrong <= 1e-14 * (1 + std::abs(mean[i]))) continue;
        ADD_FAILURE() << what << " round " << round << " element " << i << ": " << wrong;
        return absl::OkStatus();
      }
    }
    return absl::OkStatus();
  });
}

TEST(ChannelMemoryTest, SparseCodecsLeaveTheRestBitForBit) {
  OnRanks({testing::TestWorld::kSelf, 1}, {}, [](Device& device, Communicator& world) -> Status {
    ASSIGN_OR_RETURN(const auto mixer, MakeMixer("all_gather"));
    for (const char* name : {"top_k", "rand_k"}) {
      ASSIGN_OR_RETURN(const auto codec, MakeCodec(name));
      ChannelOptions options = {*codec, *mixer};
      options.memory = ExchangeMemory::kErrorFeedback;
      Channel channel(world, device, DType::kF32, kPieces, options);
      Tensor before = Tensor::Zeros(device, {kElements}, DType::kF32);
      for (int64_t round = 0; round < 3; ++round) {
        std::vector<double> values(kElements);
        for (int64_t i = 0; i < kElements; ++i) values[i] = ValueAt(0, round, i);
        channel.values().CopyFrom(Tensor::FromVector(device, {kElements}, values, DType::kF32));
        before.Accumulate(channel.values());
        RETURN_IF_ERROR(channel.Start(round, std::vector<double>{1.0}));
        RETURN_IF_ERROR(channel.Finish());
        int64_t first = 0;
        const Tensor error = State(channel, "memory", &first);
        const std::vector<double> sent = channel.mean().ToVector(), left = error.ToVector();
        const std::vector<double> all = before.ToVector();
        int64_t num_sent = 0;
        for (int64_t i = 0; i < kElements; ++i) {
          EXPECT_TRUE((sent[i] == all[i] && left[i] == 0) || (sent[i] == 0 && left[i] == all[i]))
              << name << " element " << i;
          num_sent += sent[i] != 0;
        }
        EXPECT_GT(num_sent, 0);
        EXPECT_LT(num_sent, kElements);
        before.CopyFrom(error);
      }
    }
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
