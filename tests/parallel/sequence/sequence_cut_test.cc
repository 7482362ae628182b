#include "parallel/sequence/sequence_cut.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "tests/testing/batches.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr SequenceCut kCuts[] = {SequenceCut::kContiguous, SequenceCut::kZigzag};

TEST(SequenceCutTest, PiecesByHand) {
  const std::vector<Segment> whole = {{7, 10, 13}};
  EXPECT_THAT(CutSegments(whole, SequenceCut::kContiguous, 3),
              ElementsAre(ElementsAre(Segment{7, 10, 5}), ElementsAre(Segment{7, 15, 4}),
                          ElementsAre(Segment{7, 19, 4})));
  // Six pieces: 3, 2, 2, 2, 2, 2. Those of the last rank touch.
  EXPECT_THAT(CutSegments(whole, SequenceCut::kZigzag, 3),
              ElementsAre(ElementsAre(Segment{7, 10, 3}, Segment{7, 21, 2}),
                          ElementsAre(Segment{7, 13, 2}, Segment{7, 19, 2}),
                          ElementsAre(Segment{7, 15, 4})));
  EXPECT_THAT(CutSegments({{1, 0, 1}, {2, 0, 0}}, SequenceCut::kZigzag, 2),
              ElementsAre(ElementsAre(Segment{1, 0, 1}), IsEmpty()));
}

// Every length up to several pieces a rank: the pieces tile the sample, and shares are equal up to
// one token.
TEST(SequenceCutTest, PiecesTileEveryLength) {
  for (const SequenceCut cut : kCuts) {
    for (int size = 1; size <= 9; ++size) {
      for (int64_t length = 0; length <= 5 * size + 3; ++length) {
        SCOPED_TRACE(::testing::Message()
                     << SequenceCutName(cut) << " " << length << " tokens, " << size << " ranks");
        const auto ranks = CutSegments({{4, 100, length}}, cut, size);
        ASSERT_EQ(static_cast<int>(ranks.size()), size);
        std::vector<int> owners(length, 0);
        int64_t least = length, most = 0;
        for (const std::vector<Segment>& segments : ranks) {
          int64_t previous_end = -1;
          for (const Segment& segment : segments) {
            EXPECT_EQ(segment.sample, 4);
            EXPECT_GT(segment.length, 0);
            EXPECT_GT(segment.begin, previous_end);  // In order, and not touching.
            previous_end = segment.begin + segment.length;
            for (int64_t p = segment.begin; p < previous_end; ++p) ++owners.at(p - 100);
          }
          least = std::min(least, NumTokens(segments));
          most = std::max(most, NumTokens(segments));
        }
        EXPECT_EQ(std::count(owners.begin(), owners.end(), 1), length);
        EXPECT_LE(most - least, 1);
      }
    }
  }
}

// What a causal mask makes a rank compute: pairs of its queries and the keys before them.
TEST(SequenceCutTest, ZigzagBalancesCausalWork) {
  const auto most_over_mean = [](SequenceCut cut) {
    double most = 0, sum = 0;
    for (const std::vector<Segment>& segments : CutSegments({{0, 0, 8000}}, cut, 8)) {
      double pairs = 0;
      for (const Segment& segment : segments) {
        for (int64_t i = 0; i < segment.length; ++i) pairs += segment.begin + i + 1;
      }
      most = std::max(most, pairs);
      sum += pairs;
    }
    return most / (sum / 8);
  };
  EXPECT_LT(most_over_mean(SequenceCut::kZigzag), 1.01);
  EXPECT_GT(most_over_mean(SequenceCut::kContiguous), 1.8);
}

// A group of neighbours under the zigzag cut for all has the zigzag cut for the groups, whenever
// pieces are equal; in general a piece or two, in order.
TEST(SequenceCutTest, NeighboursHaveZigzagTogether) {
  const auto fine = CutSegments({{0, 0, 240}}, SequenceCut::kZigzag, 6);
  const auto coarse = CutSegments({{0, 0, 240}}, SequenceCut::kZigzag, 3);
  for (int group = 0; group < 3; ++group) {
    EXPECT_EQ(OrderTokens(absl::MakeSpan(fine).subspan(2 * group, 2)).segments, coarse[group]);
  }
}

TEST(OrderTokensTest, RunsLeadFromRanksToTheOrder) {
  const std::vector<Segment> whole = {{5, 0, 11}, {3, 4, 1}, {9, 2, 30}};
  for (const SequenceCut cut : kCuts) {
    for (const int size : {1, 2, 3, 4, 8}) {
      const auto ranks = CutSegments(whole, cut, size);
      const TokenOrder order = OrderTokens(ranks);
      EXPECT_THAT(order.segments, ElementsAre(whole[1], whole[0], whole[2]));
      const auto places = [](absl::Span<const Segment> segments) {
        std::vector<std::pair<int64_t, int64_t>> places;
        for (const Segment& segment : segments) {
          for (int64_t i = 0; i < segment.length; ++i) {
            places.emplace_back(segment.sample, segment.begin + i);
          }
        }
        return places;
      };
      const auto all = places(order.segments);
      std::vector<int> filled(all.size(), 0);
      for (const TokenOrder::Run& run : order.runs) {
        const auto own = places(ranks[run.rank]);
        for (int64_t i = 0; i < run.length; ++i) {
          EXPECT_EQ(own.at(run.from + i), all.at(run.to + i));
          ++filled[run.to + i];
        }
      }
      EXPECT_EQ(std::count(filled.begin(), filled.end(), 1), NumTokens(whole));
    }
  }
}

TEST(CutBatchTest, RanksAddUpToTheWhole) {
  HostBatch whole = testing::PackedDocuments({{3, 14, 6}, {1}, {2, 2}, {37}}, 50, 8, 100);
  for (size_t i = 0; i < whole.labels.size(); ++i) {
    if (whole.labels[i] != kIgnoredLabel) whole.label_bytes[i] = 1 + static_cast<int64_t>(i) % 7;
  }
  std::map<std::pair<int64_t, int64_t>, size_t> packed;
  for (const Segment& segment : whole.segments) {
    for (int64_t i = 0; i < segment.length; ++i) {
      packed.emplace(std::pair(segment.sample, segment.begin + i), packed.size());
    }
  }
  for (const SequenceCut cut : kCuts) {
    for (const int size : {1, 2, 3, 4, 8}) {
      size_t num_tokens = 0;
      int64_t num_targets = 0, num_bytes = 0;
      for (int rank = 0; rank < size; ++rank) {
        const HostBatch batch = CutBatch(whole, cut, size, rank);
        EXPECT_EQ(batch.documents, whole.documents);
        EXPECT_EQ(batch.axis_segments, CutSegments(whole.segments, cut, size));
        EXPECT_EQ(batch.segments, batch.axis_segments[rank]);
        size_t i = 0;
        for (const Segment& segment : batch.segments) {
          for (int64_t p = segment.begin; p < segment.begin + segment.length; ++p, ++i) {
            const size_t at = packed.at({segment.sample, p});
            EXPECT_EQ(batch.tokens.at(i), whole.tokens[at]);
            EXPECT_EQ(batch.labels.at(i), whole.labels[at]);
            EXPECT_EQ(batch.label_bytes.at(i), whole.label_bytes[at]);
          }
        }
        EXPECT_EQ(batch.tokens.size(), i);
        EXPECT_EQ(batch.labels.size(), i);
        EXPECT_EQ(batch.label_bytes.size(), i);
        num_tokens += i;
        num_targets += i - std::count(batch.labels.begin(), batch.labels.end(), kIgnoredLabel);
        num_bytes +=
            std::accumulate(batch.label_bytes.begin(), batch.label_bytes.end(), int64_t{0});
      }
      EXPECT_EQ(num_tokens, whole.tokens.size());
      EXPECT_EQ(num_targets, 65 - 7);  // The last token of each document predicts nothing.
      EXPECT_EQ(num_bytes,
                std::accumulate(whole.label_bytes.begin(), whole.label_bytes.end(), int64_t{0}));
    }
  }
}

TEST(CutBatchTest, FeaturesAreRowsOfTokens) {
  HostBatch whole;
  whole.segments = {{0, 0, 3}, {1, 0, 2}};
  whole.feature_shape = {2, 1};
  whole.features = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  whole.labels = {0, 1, 2, 3, 4};
  const HostBatch batch = CutBatch(whole, SequenceCut::kContiguous, 2, 1);
  EXPECT_THAT(batch.features, ElementsAre(4, 5, 8, 9));
  EXPECT_THAT(batch.labels, ElementsAre(2, 4));
  EXPECT_EQ(batch.feature_shape, whole.feature_shape);
  EXPECT_THAT(batch.label_bytes, IsEmpty());
}

TEST(CutBatchDeathTest, ABatchIsCutOnce) {
  const HostBatch cut =
      CutBatch(testing::PackedDocuments({{8}}, 50, 8), SequenceCut::kZigzag, 2, 0);
  EXPECT_DEATH(CutBatch(cut, SequenceCut::kZigzag, 2, 0), "cut once");
}

TEST(CheckSequenceLengthTest, NamesTheSizes) {
  EXPECT_TRUE(CheckSequenceLength(4, 4).ok());
  EXPECT_EQ(CheckSequenceLength(3, 4).message(),
            "sequence length 3 is shorter than the sequence axis of 4 ranks: some would have no "
            "token");
}

}  // namespace
}  // namespace trireme
