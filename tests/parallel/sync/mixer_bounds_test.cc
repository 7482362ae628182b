// Mixers at their bounds: replicas that take no part, values that are not finite, threads, nothing
// at all, ranks that do not come.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/device/cpu/cpu_device.h"
#include "parallel/sync/mixers.h"
#include "tests/parallel/sync/mixer_case.h"

namespace trireme {
namespace {

using mixing::CodecCase;
using mixing::EvenWeights;
using mixing::IsLinear;
using mixing::kMixedCodecs;
using mixing::LinearState;
using mixing::Mix;
using mixing::Mixed;
using mixing::Pieces;
using mixing::Start;
using mixing::UnevenWeights;
using mixing::ValueOf;
using mixing::ValuesOf;
using ::testing::HasSubstr;
using testing::OnRanks;

class MixerBoundsTest : public mixing::MixingTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, MixerBoundsTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(MixerBoundsTest, WhatTakesNoPartDoesNotPoisonAndWhatDoesIsSeen) {
  if (size() < 3) return;
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const std::vector<double> weights = UnevenWeights(size());
    for (const CodecCase& codec_case : kMixedCodecs) {
      const auto codec = ValueOf(MakeCodec(codec_case.name, codec_case.params));
      const std::vector<CodecPiece> pieces = Pieces(*codec);
      const int64_t n = NumElements(pieces);
      for (const std::string name : {"all_reduce", "all_gather", "scatter_gather"}) {
        if (name == "all_reduce" && !IsLinear(*codec)) continue;
        const auto mixer = ValueOf(MakeMixer(name));
        for (const int bad : {1, 2}) {  // The one without a weight, and one with.
          const MixBundle bundle = {*codec, pieces, {5, 0}, weights};
          std::vector<double> values = ValuesOf(world.rank(), 0, n);
          if (world.rank() == bad) values.assign(n, std::nan(""));
          Mixed mixed = Start(device, DType::kF32, values);
          mixed.linear_state = LinearState(device, bundle, DType::kF32);
          RETURN_IF_ERROR(Mix(*mixer, world, bundle, mixed));
          int64_t not_finite = 0;
          for (const double value : mixed.mean.ToVector()) not_finite += !std::isfinite(value);
          if (bad == 1) {
            EXPECT_EQ(not_finite, 0) << name << " " << codec_case.name;
          } else {
            EXPECT_GT(not_finite, 0) << name << " " << codec_case.name;
          }
        }
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(MixerBoundsTest, ThreadsNeverChangeBitsAndNothingIsLegal) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    CpuDevice threads({3, 0}, device.kernels());
    const std::vector<double> values = ValuesOf(world.rank(), 0, 40'017);
    const std::vector<double> weights = UnevenWeights(size());
    for (const Entry<MixerFactory>& entry : Mixers()) {
      const std::string name = entry.name;
      const auto mixer =
          ValueOf(MakeMixer(name, name == "subset" ? ParamMap{{"participants", "1"}} : ParamMap{}));
      const auto codec =
          ValueOf(name == "all_reduce" ? MakeCodec("rand_k", {{"k", "3"}, {"block", "8"}})
                                       : MakeCodec("top_k", {{"k", "3"}, {"block", "8"}}));
      const std::vector<CodecPiece> pieces = {{1, {40'000}, 0, 40'000}, {2, {17}, 0, 17}};
      std::vector<std::vector<double>> means;
      for (Device* on : {&device, static_cast<Device*>(&threads)}) {
        Mixed mixed = Start(*on, DType::kF32, values);
        RETURN_IF_ERROR(Mix(*mixer, world, {*codec, pieces, {5, 0}, weights}, mixed));
        means.push_back(mixed.mean.ToVector());
      }
      EXPECT_EQ(means[0], means[1]) << name;
      Mixed mixed = Start(device, DType::kF32, {});
      RETURN_IF_ERROR(Mix(*mixer, world, {*codec, {}, {5, 0}, weights}, mixed));
    }
    return absl::OkStatus();
  });
}

TEST_P(MixerBoundsTest, StartWaitsForNobody) {
  if (size() < 2) return;
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const auto codec = ValueOf(MakeCodec("identity"));
    const std::vector<CodecPiece> pieces = {{1, {5000}, 0, 5000}};
    const std::vector<double> weights = EvenWeights(size());
    for (const Entry<MixerFactory>& entry : Mixers()) {
      const std::string name = entry.name;
      const auto mixer =
          ValueOf(MakeMixer(name, name == "subset" ? ParamMap{{"participants", "1"}} : ParamMap{}));
      const Tensor token = Tensor::Zeros(device, {1}, DType::kF32);
      ASSIGN_OR_RETURN(const auto other, world.Split(0, 0, "other"));
      Mixed mixed = Start(device, DType::kF32, ValuesOf(world.rank(), 0, 5000));
      // Ranks start one after another, each when the one before has.
      if (world.rank() > 0) {
        RETURN_IF_ERROR(other->Recv(token, world.rank() - 1, {"turn"})->Wait());
      }
      ASSIGN_OR_RETURN(const auto mix, mixer->Start({world,
                                                     {*codec, pieces, {5, 0}, weights},
                                                     mixed.values,
                                                     mixed.mean,
                                                     mixed.sent,
                                                     {},
                                                     {},
                                                     {}}));
      if (world.rank() + 1 < size()) {
        RETURN_IF_ERROR(other->Send(token, world.rank() + 1, {"turn"})->Wait());
      }
      RETURN_IF_ERROR(mix->Finish());
    }
    return absl::OkStatus();
  });
}

TEST_P(MixerBoundsTest, ARankThatDoesNotFinishIsNamed) {
  if (size() < 2) return;
  CommOptions options;
  options.deadline = absl::Seconds(1);
  const int missing = size() - 1;
  OnRanks(GetParam(), options, [&](Device& device, Communicator& world) -> Status {
    const auto codec = ValueOf(MakeCodec("identity"));
    const std::vector<CodecPiece> pieces = {{1, {5000}, 0, 5000}};
    const std::vector<double> weights = EvenWeights(size());
    // The missing rank comes to the first phase of one, and not to the second; to the others not at
    // all.
    const std::vector<std::string> names = {"scatter_gather", "all_gather", "gossip"};
    std::vector<std::unique_ptr<Communicator>> groups(names.size());
    std::vector<std::unique_ptr<Mixer>> mixers;
    std::vector<std::unique_ptr<PendingMix>> mixes;
    for (size_t i = 0; i < names.size(); ++i) {
      ASSIGN_OR_RETURN(groups[i], world.Split(0, 0, names[i]));
    }
    RETURN_IF_ERROR(world.Barrier({"begin"})->Wait());
    for (size_t i = 0; i < names.size(); ++i) {
      if (world.rank() == missing && i > 0) break;
      mixers.push_back(ValueOf(MakeMixer(names[i])));
      const Mixed mixed = Start(device, DType::kF32, ValuesOf(world.rank(), 0, 5000));
      ASSIGN_OR_RETURN(mixes.emplace_back(), mixers[i]->Start({*groups[i],
                                                               {*codec, pieces, {5, 0}, weights},
                                                               mixed.values,
                                                               mixed.mean,
                                                               mixed.sent,
                                                               {},
                                                               {},
                                                               {}}));
    }
    if (world.rank() == missing) {
      absl::SleepFor(absl::Milliseconds(500));  // Its first phase is done.
      return absl::OkStatus();
    }
    const absl::Time begin = absl::Now();
    for (size_t i = 0; i < names.size(); ++i) {
      const Status status = mixes[i]->Finish();
      if (names[i] == "gossip" && world.rank() != 0 && world.rank() + 1 != missing) {
        EXPECT_TRUE(status.ok()) << status;  // Has neither to send to it nor to hear from it.
        continue;
      }
      EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << names[i];
      EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("rank ", missing)));
      EXPECT_THAT(std::string(status.message()), HasSubstr(names[i] + " rank"));
      EXPECT_THAT(std::string(status.message()), HasSubstr("exchange"));
    }
    EXPECT_LT(absl::Now() - begin, absl::Seconds(4));
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
