#include "data/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/rng.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Begin = DocumentRule::Begin;

std::vector<std::string> Cut(absl::string_view text, const DocumentRule& rule,
                             size_t piece = 1 << 20) {
  std::vector<std::string> documents;
  DocumentSplitter splitter(rule, [&](absl::string_view document) {
    documents.emplace_back(document);
    return absl::OkStatus();
  });
  for (size_t i = 0; i < text.size(); i += piece) {
    EXPECT_TRUE(splitter.Push(text.substr(i, piece)).ok());
  }
  EXPECT_TRUE(splitter.Finish().ok());
  return documents;
}

TEST(DocumentSplitterTest, Files) {
  EXPECT_THAT(Cut("a\n\nb\nc", {Begin::kFile}), ElementsAre("a\n\nb\nc"));
  EXPECT_THAT(Cut("", {Begin::kFile}), IsEmpty());
  EXPECT_THAT(Cut("\n", {Begin::kFile}), ElementsAre("\n"));
}

TEST(DocumentSplitterTest, Lines) {
  EXPECT_THAT(Cut("a\nb\n\n \nc", {Begin::kLine}), ElementsAre("a\n", "b\n\n \n", "c"));
  EXPECT_THAT(Cut("\n\na\n", {Begin::kLine}), ElementsAre("\n\na\n"));
}

TEST(DocumentSplitterTest, BlankLines) {
  EXPECT_THAT(Cut("\na\nb\n\n\nc\n \t\n  d\n", {Begin::kBlankLine}),
              ElementsAre("\na\nb\n\n\n", "c\n \t\n", "  d\n"));
}

TEST(DocumentSplitterTest, Entries) {
  const char kText[] =
      "\nLark \\Lark\\, n.\n   A frolic.\n\n   Note: see {Lark}.\nnot after a blank line\n\n"
      "Larker \\Lark\"er\\, n.\n\tA catcher.\n\n\tOf larks.\n";
  EXPECT_THAT(
      Cut(kText, {Begin::kEntry}),
      ElementsAre("\nLark \\Lark\\, n.\n   A frolic.\n\n   Note: see {Lark}.\nnot after a blank "
                  "line\n\n",
                  "Larker \\Lark\"er\\, n.\n\tA catcher.\n\n\tOf larks.\n"));
}

TEST(DocumentSplitterTest, Prefixes) {
  EXPECT_THAT(Cut("preface\n# a\nb\n## c\n #d\n", {Begin::kPrefix, "#"}),
              ElementsAre("preface\n", "# a\nb\n", "## c\n #d\n"));
}

TEST(DocumentSplitterTest, WindowsLineEndsAndInvalidUtf8PassThrough) {
  EXPECT_THAT(Cut("a\xff\r\n\r\nb\r\n\r\n", {Begin::kBlankLine}),
              ElementsAre("a\xff\r\n\r\n", "b\r\n\r\n"));
  const std::string zeros("a\0b\n\n\0\n", 7);
  EXPECT_THAT(Cut(zeros, {Begin::kBlankLine}),
              ElementsAre(std::string("a\0b\n\n", 5), std::string("\0\n", 2)));
}

TEST(DocumentSplitterTest, ShortDocumentsAreJoined) {
  EXPECT_THAT(Cut("a\nbb\nccc\nd\ne", {Begin::kLine, "", 5}),
              ElementsAre("a\nbb\n", "ccc\nd\n", "e"));
  EXPECT_THAT(Cut("a\nb\n", {Begin::kLine, "", 1000}), ElementsAre("a\nb\n"));
}

TEST(DocumentSplitterTest, NothingIsLostAndCutsOfTheInputDoNotMatter) {
  const RngKey key = MakeRngKey(1, "text");
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "ab #\t\n\n\n\r"[static_cast<int>(UniformAt(key, i) * 9)];
  for (const Begin begin :
       {Begin::kFile, Begin::kLine, Begin::kBlankLine, Begin::kEntry, Begin::kPrefix}) {
    for (const size_t min_bytes : {0, 20}) {
      const DocumentRule rule = {begin, begin == Begin::kPrefix ? "#" : "", min_bytes};
      const std::vector<std::string> documents = Cut(text, rule);
      std::string joined;
      for (size_t i = 0; i < documents.size(); ++i) {
        joined += documents[i];
        if (i + 1 < documents.size()) {
          EXPECT_GE(documents[i].size(), min_bytes);
        }
      }
      EXPECT_EQ(joined, text);
      for (const size_t piece : {1, 2, 13}) EXPECT_EQ(Cut(text, rule, piece), documents);
    }
  }
}

TEST(DocumentSplitterTest, ErrorsOfTheReceiverStop) {
  DocumentSplitter splitter({Begin::kLine},
                            [](absl::string_view) { return absl::DataLossError("full"); });
  EXPECT_TRUE(splitter.Push("a\n").ok());
  EXPECT_EQ(splitter.Push("b\n").message(), "full");
}

TEST(DocumentRuleTest, PrefixGoesWithItsRule) {
  constexpr ParamInfo kTable[] = {kDocumentsParam, kDocumentPrefixParam, kMinDocumentBytesParam};
  const auto make = [&](const ParamMap& given) -> Status {
    ASSIGN_OR_RETURN(const Params params, Params::Create("test", kTable, given));
    return MakeDocumentRule("test", params).status();
  };
  EXPECT_TRUE(make({}).ok());
  EXPECT_TRUE(make({{"documents", "prefix"}, {"document_prefix", "= "}}).ok());
  for (const char* rule : {"file", "line", "blank_line", "entry"}) {
    EXPECT_TRUE(make({{"documents", rule}}).ok());
    EXPECT_THAT(make({{"documents", rule}, {"document_prefix", "x"}}).message(),
                HasSubstr("only with it"));
  }
  EXPECT_FALSE(make({{"documents", "prefix"}}).ok());
  EXPECT_THAT(make({{"documents", "lines"}}).message(), HasSubstr("'line'"));
}

}  // namespace
}  // namespace trireme
