// Mixers between neighbours, and what is drawn for a round.

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
using mixing::ExpectNear;
using mixing::kMixedCodecs;
using mixing::Mix;
using mixing::Mixed;
using mixing::Pieces;
using mixing::Sent;
using mixing::SentSoFar;
using mixing::Start;
using mixing::ValueOf;
using mixing::ValuesOf;
using mixing::WeightedSum;
using testing::OnRanks;

class NeighbourMixersTest : public mixing::MixingTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, NeighbourMixersTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(NeighbourMixersTest, GossipConservesThePushSumMean) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const int rank = world.rank();
    const std::vector<double> even = EvenWeights(size());
    for (const CodecCase& codec_case : kMixedCodecs) {
      const auto codec = ValueOf(MakeCodec(codec_case.name, codec_case.params));
      const std::vector<CodecPiece> pieces = Pieces(*codec);
      const int64_t n = NumElements(pieces);
      for (const std::string name : {"gossip", "random_partner"}) {
        const auto mixer = ValueOf(MakeMixer(name));
        EXPECT_FALSE(mixer->means());
        for (const bool regular : {true, false}) {
          if (!regular && name != "gossip") continue;
          std::vector<std::vector<double>> z;
          std::vector<double> w(size(), 1.0);
          for (int k = 0; k < size(); ++k) {
            z.push_back(ValuesOf(k, 0, n));
            if (!regular) w[k] = 0.5 + k;
          }
          const std::vector<double> kept = WeightedSum(z, w);
          Mixed mixed = Start(device, DType::kF64, z[rank]);
          mixed.push_weight = Tensor::Full(device, {1}, DType::kF64, w[rank]);
          for (int64_t round = 0; round < 5; ++round) {
            const std::string what = absl::StrCat(name, " ", codec_case.name, " ", round);
            const MixBundle bundle = {*codec, pieces, {3, round}, even};
            const int64_t sent_before = SentSoFar(world);
            const bool in_place = round % 2 == 1;
            if (in_place) mixed.mean = mixed.values;
            RETURN_IF_ERROR(Mix(*mixer, world, bundle, mixed));
            EXPECT_EQ(SentSoFar(world) - sent_before,
                      mixer->SentBytes(bundle, DType::kF64, {rank, size()}))
                << what;
            // All replicas, one after another.
            std::vector<std::vector<double>> c, next(size(), std::vector<double>(n));
            std::vector<double> next_w(size());
            for (int k = 0; k < size(); ++k) c.push_back(Sent(device, bundle, z[k], DType::kF64));
            EXPECT_EQ(mixed.sent.numel(), n);
            const std::vector<int> partners = DrawPartners(bundle.round, size());
            for (int k = 0; k < size(); ++k) {
              const int from = name == "gossip" ? (k - GossipShift(round, size()) + size()) % size()
                                                : partners[k];
              if (from == k) {
                next[k] = z[k];
                next_w[k] = w[k];
                continue;
              }
              next_w[k] = (w[k] + w[from]) / 2;
              for (int64_t i = 0; i < n; ++i) {
                next[k][i] =
                    (w[k] * z[k][i] - w[k] / 2 * c[k][i] + w[from] / 2 * c[from][i]) / next_w[k];
              }
            }
            z = next;
            w = next_w;
            ExpectNear(mixed.mean.ToVector(), z[rank], 1e-13, what);
            EXPECT_DOUBLE_EQ(mixed.push_weight.Item(), w[rank]) << what;
            if (regular) {
              EXPECT_EQ(mixed.push_weight.Item(), 1) << what;
            }
            // sum_k w_k z_k, of what the replicas really have.
            const Tensor sum = mixed.mean.CopyTo(DType::kF64);
            Scale(Elements(sum, 0, n), mixed.push_weight.Item());
            RETURN_IF_ERROR(world.AllReduce(sum, {"compare"})->Wait());
            ExpectNear(sum.ToVector(), kept, 1e-13 * size() * size(), what);
            if (!in_place) mixed.values.CopyFrom(mixed.mean);
          }
        }
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(NeighbourMixersTest, GossipOfAPowerOfTwoReachesTheMeanInALogarithmOfRounds) {
  if ((size() & (size() - 1)) != 0) return;
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const auto codec = ValueOf(MakeCodec("identity"));
    const std::vector<CodecPiece> pieces = {{1, {6}, 0, 6}};
    const auto mixer = ValueOf(MakeMixer("gossip"));
    const std::vector<double> even = EvenWeights(size());
    std::vector<std::vector<double>> all;
    for (int k = 0; k < size(); ++k) all.push_back(ValuesOf(k, 0, 6));
    Mixed mixed = Start(device, DType::kF64, all[world.rank()]);
    mixed.mean = mixed.values;
    for (int64_t round = 0; (1 << round) < size(); ++round) {
      RETURN_IF_ERROR(Mix(*mixer, world, {*codec, pieces, {3, round}, even}, mixed));
    }
    ExpectNear(mixed.mean.ToVector(), WeightedSum(all, even), 1e-15, "mean");
    return absl::OkStatus();
  });
}

TEST(DrawTest, PartnersAreAMatchingAndEveryPairMeets) {
  for (int size = 1; size <= 9; ++size) {
    std::vector<std::vector<int>> met(size, std::vector<int>(size, 0));
    const int kRounds = 400;
    for (int64_t round = 0; round < kRounds; ++round) {
      const std::vector<int> partners = DrawPartners({9, round}, size);
      int alone = 0;
      for (int k = 0; k < size; ++k) {
        ASSERT_EQ(partners[partners[k]], k);
        alone += partners[k] == k;
        ++met[k][partners[k]];
      }
      ASSERT_EQ(alone, size % 2);
    }
    // Each other replica as often: 400 draws of probability p, within 5 standard deviations.
    const double p = size % 2 == 1 ? 1.0 / size : 1.0 / (size - 1);
    for (int k = 0; k < size; ++k) {
      for (int j = 0; j < size; ++j) {
        if (j == k && size % 2 == 0) continue;
        EXPECT_NEAR(met[k][j], kRounds * p, 5 * std::sqrt(kRounds * p * (1 - p)) + 1e-9);
      }
    }
    if (size > 2) {
      EXPECT_NE(DrawPartners({9, 0}, 9), DrawPartners({10, 0}, 9));
    }
  }
}

TEST(DrawTest, GossipShiftsRunThroughThePowersBelowTheSize) {
  EXPECT_EQ(GossipShift(3, 1), 0);
  for (int size = 2; size <= 17; ++size) {
    std::vector<int> shifts;
    for (int shift = 1; shift < size; shift *= 2) shifts.push_back(shift);
    for (int64_t round = 0; round < 40; ++round) {
      EXPECT_EQ(GossipShift(round, size), shifts[round % shifts.size()]);
    }
  }
}

TEST(DrawTest, SubsetsHaveTheirSizeAndSumToOne) {
  const std::vector<double> weights = {0.1, 0.0, 0.4, 0.2, 0.3};
  for (int m = 1; m <= 5; ++m) {
    std::vector<int> drawn(5, 0);
    for (int64_t round = 0; round < 500; ++round) {
      const std::vector<double> even = DrawScaledSubset({4, round}, EvenWeights(5), m);
      const std::vector<double> chosen = DrawScaledSubset({4, round}, weights, m);
      double sum = 0, given = 0;
      int count = 0;
      for (int k = 0; k < 5; ++k) {
        count += even[k] != 0;
        drawn[k] += even[k] != 0;
        sum += chosen[k];
        if (even[k] != 0) {
          EXPECT_DOUBLE_EQ(even[k], 1.0 / m);
          given += weights[k];
        } else {
          EXPECT_EQ(chosen[k], 0);
        }
      }
      EXPECT_EQ(count, m);
      EXPECT_NEAR(sum, 1, 1e-15);
      for (int k = 0; k < 5 && given > 0; ++k) {
        if (even[k] != 0) {
          EXPECT_DOUBLE_EQ(chosen[k], weights[k] / given);
        }
      }
      if (given == 0) {
        EXPECT_EQ(chosen[1], 1);  // The one without a weight, alone.
      }
    }
    const double p = m / 5.0;
    for (const int count : drawn)
      EXPECT_NEAR(count, 500 * p, 5 * std::sqrt(500 * p * (1 - p)) + 1e-9);
  }
}

}  // namespace
}  // namespace trireme
