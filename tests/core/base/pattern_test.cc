#include "core/base/pattern.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(MatchesPatternTest, StarsStandForAnyText) {
  EXPECT_TRUE(MatchesPattern("*", "layers.0.mixer.wq"));
  EXPECT_TRUE(MatchesPattern("layers.*.wq", "layers.0.mixer.wq"));
  EXPECT_TRUE(MatchesPattern("*norm*", "layers.0.mixer_norm.gain"));
  EXPECT_TRUE(MatchesPattern("head.weight", "head.weight"));
  EXPECT_FALSE(MatchesPattern("head", "head.weight"));
  EXPECT_FALSE(MatchesPattern("*.wq", "layers.0.mixer.wq.extra"));
  EXPECT_FALSE(MatchesPattern("a*b*a", "ab"));  // Pieces do not overlap.
  EXPECT_FALSE(MatchesPattern("aba*aba", "aba"));
}

}  // namespace
}  // namespace trireme
