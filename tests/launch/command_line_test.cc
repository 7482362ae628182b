#include "launch/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Flag kFlags[] = {
    {"run_dir", "DIR", "where"},
    {"set", "PATH=VALUE", "what", true},
    {"ranks", "N", "how many"},
    {"single", nullptr, "alone"},
};
constexpr CommandSpec kSpec = {"row", "Rows.", "FILE...", 0, 2, kFlags, "trireme row a b"};

StatusOr<CommandLine> Parse(const std::vector<std::string>& args) {
  return CommandLine::Parse(kSpec, args);
}
std::string ErrorOf(const std::vector<std::string>& args) {
  return std::string(Parse(args).status().message());
}

TEST(CommandLineTest, BothSpellingsOfFlagsAndValues) {
  const StatusOr<CommandLine> line =
      Parse({"a", "--run-dir", "x", "--set=m.a=1", "--single", "--set", "m.b=", "--", "--ranks"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->String("run_dir"), "x");
  EXPECT_THAT(line->All("set"), ElementsAre("m.a=1", "m.b="));
  EXPECT_TRUE(line->Has("single"));
  EXPECT_FALSE(line->Has("ranks"));
  EXPECT_EQ(line->String("ranks", "7"), "7");
  EXPECT_THAT(line->positional(), ElementsAre("a", "--ranks"));
}

TEST(CommandLineTest, Integers) {
  const StatusOr<CommandLine> line = Parse({"--ranks=0"});
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(*line->Int("ranks", 1, 0), 0);
  EXPECT_EQ(line->Int("ranks", 1, 1).status().message(), "--ranks = '0' is not an integer >= 1");
  EXPECT_EQ(*line->Int("absent", 5, 1), 5);
}

TEST(CommandLineTest, Errors) {
  EXPECT_EQ(ErrorOf({"--rnaks", "2"}), "unknown flag of row '--rnaks'; did you mean '--ranks'?");
  EXPECT_THAT(ErrorOf({"-r"}), HasSubstr("unknown flag of row '--r'"));
  EXPECT_EQ(ErrorOf({"--run_dir"}), "--run_dir needs a value: DIR");
  EXPECT_EQ(ErrorOf({"--single=yes"}), "--single takes no value");
  EXPECT_EQ(ErrorOf({"--ranks", "1", "--ranks=2"}), "--ranks is given twice");
  EXPECT_EQ(ErrorOf({"a", "b", "c"}), "row: unexpected argument 'c'");
  CommandSpec needy = kSpec;
  needy.min_positional = 1;
  EXPECT_EQ(CommandLine::Parse(needy, {}).status().message(), "row needs FILE...");
  EXPECT_TRUE(CommandLine::Parse(needy, {"--help"}).ok());
}

TEST(CommandLineTest, HelpHasEveryFlagAndTheExample) {
  const std::string help = HelpText(kSpec);
  for (const Flag& flag : kFlags) EXPECT_THAT(help, HasSubstr(flag.name));
  EXPECT_THAT(help, HasSubstr("usage: trireme row FILE... [flags]"));
  EXPECT_THAT(help, HasSubstr("example:\n  trireme row a b\n"));
}

}  // namespace
}  // namespace trireme
