// Plans of recurrences against a walk over tokens one by one.
#include "parallel/sequence/recurrence_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace trireme {
namespace {

using ::testing::ElementsAre;

constexpr SequenceCut kCuts[] = {SequenceCut::kContiguous, SequenceCut::kZigzag};

TokenLayout LayoutOf(const std::vector<std::vector<int64_t>>& samples, SequenceCut cut, int size,
                     int rank) {
  TokenLayout layout;
  std::vector<Segment> whole;
  for (size_t s = 0; s < samples.size(); ++s) {
    const int64_t sample = 10 - static_cast<int64_t>(s);  // Not in order.
    int64_t begin = 3;
    for (const int64_t length : samples[s]) {
      layout.documents.push_back({sample, begin, length});
      begin += length;
    }
    whole.push_back({sample, 3, begin - 3});
  }
  layout.axis_segments = CutSegments(whole, cut, size);
  layout.segments = layout.axis_segments[rank];
  return layout;
}

TEST(SlotOwnersTest, ZigzagComesBack) {
  EXPECT_THAT(SlotOwners(SequenceCut::kContiguous, 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(SlotOwners(SequenceCut::kZigzag, 3), ElementsAre(0, 1, 2, 2, 1, 0));
  EXPECT_THAT(SlotOwners(SequenceCut::kZigzag, 1), ElementsAre(0, 0));
}

TEST(RecurrencePlanTest, ByHand) {
  // Pieces of 3, 2, 2, 2 tokens; a document begins at the second piece's last token.
  const TokenLayout layout = LayoutOf({{4, 5}}, SequenceCut::kContiguous, 4, 1);
  const RecurrencePlan plan = PlanRecurrence(layout, SequenceCut::kContiguous, 1, false);
  using Run = RecurrencePlan::Run;
  EXPECT_THAT(plan.runs,
              ElementsAre(Run{{0, 1}, 1, 0, true, false}, Run{{1, 2}, 1, 0, false, true}));
  EXPECT_THAT(plan.resets,
              ElementsAre(ElementsAre(1), ElementsAre(1), ElementsAre(0), ElementsAre(0)));
  EXPECT_THAT(PlanRecurrence(layout, SequenceCut::kContiguous, 1, true).resets,
              ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(0), ElementsAre(0)));
}

// The state before each token, as the names of the tokens that are in it, by the slots and by the
// definition: all earlier tokens of the document, and the state that continues.
class Walk {
 public:
  Walk(const std::vector<std::vector<int64_t>>& samples, SequenceCut cut, int size, bool continued)
      : samples_(samples), cut_(cut), size_(size), continued_(continued) {}

  void Check() const {
    std::vector<RecurrencePlan> plans;
    std::vector<TokenLayout> layouts;
    for (int rank = 0; rank < size_; ++rank) {
      layouts.push_back(LayoutOf(samples_, cut_, size_, rank));
      plans.push_back(PlanRecurrence(layouts.back(), cut_, rank, continued_));
      EXPECT_EQ(plans[rank].resets, plans[0].resets);
      EXPECT_EQ(plans[rank].tokens, plans[0].tokens);
      CheckRows(layouts[rank], plans[rank]);
    }
    const std::vector<int64_t> lines = SamplesOf(layouts[0]);
    ASSERT_EQ(static_cast<int64_t>(lines.size()), plans[0].num_lines);
    int64_t num_tokens = 0;
    for (int64_t line = 0; line < plans[0].num_lines; ++line) {
      State state;
      if (continued_) state.push_back(-1);
      for (int slot = 0; slot < plans[0].num_slots(); ++slot) {
        const int owner = plans[0].owners[slot];
        num_tokens += FollowSlot(layouts[owner], plans[owner], slot, line, &state);
      }
    }
    EXPECT_EQ(num_tokens, NumTokens(OrderTokens(layouts[0].axis_segments).segments));
  }

 private:
  using State = std::vector<int64_t>;  // Positions; -1: what continued.

  static void CheckRows(const TokenLayout& layout, const RecurrencePlan& plan) {
    int64_t row = 0;
    const auto runs = DocumentRuns(layout.segments, layout.documents);
    ASSERT_EQ(runs.size(), plan.runs.size());
    for (size_t i = 0; i < runs.size(); ++i) {
      EXPECT_EQ(plan.runs[i].rows.begin, row);
      EXPECT_LT(row, plan.runs[i].rows.end);
      EXPECT_EQ(runs[i].rows.begin, row);
      EXPECT_EQ(runs[i].rows.end, plan.runs[i].rows.end);
      row = plan.runs[i].rows.end;
    }
    EXPECT_EQ(row, NumTokens(layout.segments));
  }

  // `state` enters the slot, and leaves it. Returns how many tokens it has.
  int64_t FollowSlot(const TokenLayout& layout, const RecurrencePlan& plan, int slot, int64_t line,
                     State* state) const {
    std::vector<std::pair<int64_t, int64_t>> tokens;  // By row: sample and position.
    for (const Segment& segment : layout.segments) {
      for (int64_t i = 0; i < segment.length; ++i) {
        tokens.emplace_back(segment.sample, segment.begin + i);
      }
    }
    const int64_t sample = SamplesOf(layout)[line];
    State local;  // That the tokens of this slot alone leave.
    int64_t count = 0;
    for (const RecurrencePlan::Run& run : plan.runs) {
      if (run.slot != slot || run.line != line) continue;
      State inside = run.entered ? *state : State();
      for (int64_t row = run.rows.begin; row < run.rows.end; ++row) {
        const auto [of, position] = tokens.at(row);
        EXPECT_EQ(of, sample);
        EXPECT_EQ(inside, Before(sample, position)) << "position " << position;
        inside.push_back(position);
        if (run.leaves) local.push_back(position);
        ++count;
      }
    }
    EXPECT_EQ(count, plan.tokens[slot][line]);
    if (plan.resets[slot][line]) state->clear();
    state->insert(state->end(), local.begin(), local.end());
    return count;
  }

  State Before(int64_t sample, int64_t position) const {
    State state;
    int64_t begin = 3;
    for (const int64_t length : samples_.at(10 - sample)) {
      if (position >= begin && position < begin + length) {
        if (continued_ && begin == 3) state.push_back(-1);
        for (int64_t p = begin; p < position; ++p) state.push_back(p);
      }
      begin += length;
    }
    return state;
  }

  const std::vector<std::vector<int64_t>> samples_;
  const SequenceCut cut_;
  const int size_;
  const bool continued_;
};

// Every way to cut up to ten tokens into up to three documents, on one to five ranks.
TEST(RecurrencePlanTest, StatesHoldTheTokensOfTheDefinition) {
  for (int64_t a = 1; a <= 10; ++a) {
    for (int64_t b = 0; a + b <= 10; ++b) {
      for (int64_t c = 0; a + b + c <= 10; c += b == 0 ? 11 : 1) {
        std::vector<int64_t> documents = {a};
        if (b > 0) documents.push_back(b);
        if (c > 0) documents.push_back(c);
        for (const SequenceCut cut : kCuts) {
          for (int size = 1; size <= 5; ++size) {
            for (const bool continued : {false, true}) {
              SCOPED_TRACE(::testing::Message() << a << " " << b << " " << c << " "
                                                << SequenceCutName(cut) << " over " << size);
              Walk({documents}, cut, size, continued).Check();
            }
          }
        }
      }
    }
  }
}

TEST(RecurrencePlanTest, SeveralSamples) {
  for (const SequenceCut cut : kCuts) {
    for (const int size : {1, 2, 3, 4, 8}) {
      for (const bool continued : {false, true}) {
        Walk({{31, 1, 41, 28}, {1}, {7, 0, 90}, {2, 2, 1}, {17}}, cut, size, continued).Check();
      }
    }
  }
}

// Any lengths of the pieces do, as long as they follow each other in the order of slots.
TEST(RecurrencePlanTest, AnyBoundaries) {
  TokenLayout layout;
  layout.documents = {{0, 0, 50}};
  layout.axis_segments = {{{0, 0, 13}, {0, 41, 9}}, {}, {{0, 13, 7}, {0, 20, 21}}};
  layout.segments = layout.axis_segments[2];
  const RecurrencePlan plan = PlanRecurrence(layout, SequenceCut::kZigzag, 2, false);
  using Run = RecurrencePlan::Run;
  EXPECT_THAT(plan.runs,
              ElementsAre(Run{{0, 7}, 2, 0, true, true}, Run{{7, 28}, 3, 0, true, true}));
  EXPECT_THAT(plan.resets, ElementsAre(ElementsAre(1), ElementsAre(0), ElementsAre(0),
                                       ElementsAre(0), ElementsAre(0), ElementsAre(0)));
}

// Each memory's line goes the way of its sample; a memory may take no row of a run.
TEST(RecurrencePlanTest, MemoriesByHand) {
  const TokenLayout layout = LayoutOf({{4, 5}}, SequenceCut::kContiguous, 4, 1);
  const RecurrencePlan plan = PlanRecurrence(layout, SequenceCut::kContiguous, 1, false);
  const RecurrencePlan memories = PlanMemories(plan, {2, {{1, 1}, {0, 2}}});
  using Run = RecurrencePlan::Run;
  EXPECT_EQ(memories.num_lines, 2);
  EXPECT_THAT(memories.runs,
              ElementsAre(Run{{0, 1}, 1, 0, true, false}, Run{{1, 2}, 1, 1, true, false},
                          Run{{2, 2}, 1, 0, false, true}, Run{{2, 4}, 1, 1, false, true}));
  EXPECT_THAT(memories.resets, ElementsAre(ElementsAre(1, 1), ElementsAre(1, 1), ElementsAre(0, 0),
                                           ElementsAre(0, 0)));
  EXPECT_TRUE(memories.tokens.empty());
}

TEST(RecurrencePlanDeathTest, PiecesOutOfOrder) {
  TokenLayout layout;
  layout.documents = {{0, 0, 8}};
  layout.axis_segments = {{{0, 4, 4}}, {{0, 0, 4}}};
  layout.segments = layout.axis_segments[0];
  EXPECT_DEATH(PlanRecurrence(layout, SequenceCut::kContiguous, 0, false), "out of the order");
  layout.documents = {{0, 0, 7}};
  layout.axis_segments = {{{0, 0, 8}}};
  EXPECT_DEATH(PlanRecurrence(layout, SequenceCut::kContiguous, 0, false),
               "position 7 of sample 0");
}

}  // namespace
}  // namespace trireme
