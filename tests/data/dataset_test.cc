#include "data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/io/file.h"
#include "data/token_shard.h"
#include "data/tokenize.h"
#include "data/tokenizer.h"
#include "tests/data/write_file.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

class DatasetTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& contents) {
    testing::WriteTestFile(directory_ / name, contents);
    return directory_ / name;
  }

  StatusOr<TokenizeReport> Tokenize(const std::vector<std::string>& inputs, const ParamMap& given,
                                    const std::string& output) {
    ASSIGN_OR_RETURN(const Params params, Params::Create("tokenize", TokenizeParams(), given));
    return TokenizeFiles(inputs, params, output);
  }

  testing::TemporaryDirectory directory_;
};

std::string Paragraphs(int n) {
  std::string text;
  for (int i = 0; i < n; ++i)
    absl::StrAppend(&text, "paragraph ", i, "\r\nsays \xe9", i * i, "\n\n");
  return text;
}

// The same samples, whether tokens are made in memory or come from one or several shards.
TEST_F(DatasetTest, TextAndItsShardsAreTheSame) {
  const std::string a = Write("a.txt", Paragraphs(50)), b = Write("b.txt", Paragraphs(7));
  const ParamMap rule = {{"documents", "blank_line"}};
  const auto report = Tokenize({a, b}, rule, directory_ / "both.tokens");
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_TRUE(Tokenize({a}, rule, directory_ / "part-0.tokens").ok());
  ASSERT_TRUE(Tokenize({b}, rule, directory_ / "part-1.tokens").ok());
  const int64_t num_bytes = Paragraphs(50).size() + Paragraphs(7).size();
  EXPECT_EQ(report->num_documents, 57);
  EXPECT_EQ(report->num_tokens, num_bytes);
  EXPECT_EQ(report->num_bytes, num_bytes);
  EXPECT_EQ(report->bits_per_byte.size(), 4u);

  std::vector<std::unique_ptr<Dataset>> datasets;
  for (const auto& [name, params] : std::vector<std::pair<std::string, ParamMap>>{
           {"text", {{"files", absl::StrCat(a, ",", b)}, {"documents", "blank_line"}}},
           {"tokens", {{"files", directory_ / "both.tokens"}}},
           {"tokens", {{"files", directory_ / "part-*.tokens"}}}}) {
    ParamMap with_fraction = params;
    with_fraction["validation_fraction"] = "0.3";
    auto dataset = MakeDataset(name, with_fraction, {16});
    ASSERT_TRUE(dataset.ok()) << dataset.status();
    datasets.push_back(*std::move(dataset));
  }
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    const int64_t num_samples = datasets[0]->num_samples(split);
    ASSERT_GT(num_samples, 3);
    for (const auto& dataset : datasets) {
      ASSERT_EQ(dataset->num_samples(split), num_samples);
      EXPECT_EQ(dataset->num_classes(), 256);
      EXPECT_TRUE(dataset->is_text());
      for (int64_t i = 0; i < num_samples; ++i) {
        HostBatch expected, batch;
        ASSERT_TRUE(datasets[0]->Fill(split, {{i, i}}, &expected).ok());
        ASSERT_TRUE(dataset->Fill(split, {{i, i}}, &batch).ok());
        EXPECT_EQ(batch.tokens, expected.tokens);
        EXPECT_EQ(batch.labels, expected.labels);
        EXPECT_EQ(batch.label_bytes, expected.label_bytes);
      }
    }
  }
}

TEST_F(DatasetTest, DamageIsReportedByFill) {
  const std::string text = Write("a.txt", Paragraphs(5000));
  const std::string path = directory_ / "a.tokens";
  ASSERT_TRUE(Tokenize({text}, {}, path).ok());
  std::string contents = *ReadFile(path);
  contents[64 + 70000] ^= 4;
  Write("a.tokens", contents);
  const auto dataset =
      MakeDataset("tokens", {{"files", path}, {"validation_fraction", "0"}}, {100});
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  HostBatch batch;
  EXPECT_TRUE((*dataset)->Fill(Split::kTrain, {{0, 0}}, &batch).ok());
  const Status status = (*dataset)->Fill(Split::kTrain, {{0, 700}}, &batch);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr(path + ": byte 65600"));
}

TEST_F(DatasetTest, TokenizeErrors) {
  EXPECT_THAT(Tokenize({Write("empty", "")}, {}, directory_ / "o").status().message(),
              HasSubstr("hold no text"));
  EXPECT_EQ(Tokenize({directory_ / "missing"}, {}, directory_ / "o").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_FALSE(Tokenize({Write("a", "text")}, {{"documents", "prefix"}}, directory_ / "o").ok());
  EXPECT_FALSE(Tokenize({Write("a", "text")}, {}, directory_ / "no/o").ok());
  EXPECT_FALSE(PathExists(directory_ / "o"));
}

TEST_F(DatasetTest, Errors) {
  const auto message = [](absl::string_view name, const ParamMap& params) {
    return std::string(MakeDataset(name, params, {8}).status().message());
  };
  EXPECT_THAT(message("token", {}), HasSubstr("'tokens'"));
  EXPECT_THAT(message("tokens", {}), HasSubstr("files is required"));
  EXPECT_THAT(message("tokens", {{"file", "x"}}), HasSubstr("'files'"));
  EXPECT_THAT(message("tokens", {{"files", directory_ / "*"}}), HasSubstr("no file matches"));
  EXPECT_THAT(message("text", {{"files", Write("empty", "")}}), HasSubstr("hold no text"));
  EXPECT_THAT(message("text", {{"files", Write("a", "some text")}, {"validation_fraction", "1.5"}}),
              HasSubstr("validation_fraction"));
  EXPECT_THAT(message("tokens", {{"files", Write("b", std::string(100, 'x'))}}),
              HasSubstr("not a token shard"));
}

TEST_F(DatasetTest, TokenizersDoNotMix) {
  for (const char* name : {"a", "b"}) {
    auto writer = TokenShardWriter::Create(directory_ / name, name, 256);
    ASSERT_TRUE((*writer)->Add(std::vector<int32_t>(100, 1), "x").ok());
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  EXPECT_THAT(MakeDataset("tokens", {{"files", directory_ / "[ab]"}}, {8}).status().message(),
              HasSubstr("b holds tokens of 'b'"));
}

TEST_F(DatasetTest, SyntheticIsAFunctionOfItsSeed) {
  const auto make = [](const std::string& seed) {
    return *MakeDataset("synthetic",
                        {{"seed", seed},
                         {"vocabulary_size", "1000"},
                         {"num_tokens", "5000"},
                         {"max_document_tokens", "30"},
                         {"validation_fraction", "0.2"}},
                        {32});
  };
  const auto a = make("1"), b = make("2");
  EXPECT_EQ(a->fingerprint(), make("1")->fingerprint());
  EXPECT_NE(a->fingerprint(), b->fingerprint());
  EXPECT_GT(a->num_samples(Split::kTrain), 100);
  EXPECT_GT(a->num_samples(Split::kValidation), 10);
  HostBatch batch;
  ASSERT_TRUE(a->Fill(Split::kTrain, {{0, 3}}, &batch).ok());
  EXPECT_THAT(batch.tokens,
              ::testing::Each(::testing::AllOf(::testing::Ge(0), ::testing::Lt(1000))));
  EXPECT_THAT(batch.labels, ::testing::Contains(kIgnoredLabel));
}

// Every key of a sample comes twice, the second time with its value as the label.
TEST(MqarTest, QueriesAskForTheValuesOfTheirKeys) {
  for (const int64_t length : {16, 33, 64}) {  // 16: a query in every place.
    const ParamMap params = {{"num_pairs", "4"}, {"vocabulary_size", "41"}, {"num_samples", "50"}};
    auto dataset = MakeDataset("mqar", params, {length});
    ASSERT_TRUE(dataset.ok()) << dataset.status();
    EXPECT_TRUE((*dataset)->has_accuracy());
    HostBatch batch;
    ASSERT_TRUE((*dataset)->Fill(Split::kTrain, {{7, 49}, {3, 0}, {4, 0}}, &batch).ok());
    ASSERT_EQ(static_cast<int64_t>(batch.tokens.size()), 3 * length);
    ASSERT_EQ(batch.labels.size(), batch.tokens.size());
    EXPECT_EQ(batch.segments[1], (Segment{3, 0, length}));
    for (int sample = 0; sample < 3; ++sample) {
      const int32_t* const tokens = &batch.tokens[sample * length];
      std::map<int32_t, int32_t> values;
      for (int pair = 0; pair < 4; ++pair) {
        EXPECT_GE(tokens[2 * pair], 1);
        EXPECT_LT(tokens[2 * pair], 20);
        EXPECT_GE(tokens[2 * pair + 1], 20);
        EXPECT_LT(tokens[2 * pair + 1], 41);
        values[tokens[2 * pair]] = tokens[2 * pair + 1];
      }
      EXPECT_EQ(values.size(), 4u);
      for (int64_t i = 0; i < length; ++i) {
        const int32_t label = batch.labels[sample * length + i];
        if (label == kIgnoredLabel) continue;
        EXPECT_GE(i, 8);
        ASSERT_EQ(values.count(tokens[i]), 1u);
        EXPECT_EQ(values[tokens[i]], label);
        values.erase(tokens[i]);
      }
      EXPECT_TRUE(values.empty());
    }
    // A function of the index and the split, not of the place in a batch.
    EXPECT_TRUE(
        std::equal(&batch.tokens[length], &batch.tokens[2 * length], &batch.tokens[2 * length]));
    HostBatch held_out;
    ASSERT_TRUE((*dataset)->Fill(Split::kValidation, {{3, 0}}, &held_out).ok());
    EXPECT_FALSE(std::equal(held_out.tokens.begin(), held_out.tokens.end(), &batch.tokens[length]));
  }
}

TEST(MqarTest, SizesThatDoNotFit) {
  EXPECT_THAT(MakeDataset("mqar", {{"num_pairs", "5"}}, {19}).status().message(),
              HasSubstr("sequence_length of at least 20, not 19"));
  EXPECT_THAT(
      MakeDataset("mqar", {{"num_pairs", "5"}, {"vocabulary_size", "11"}}, {20}).status().message(),
      HasSubstr("vocabulary_size of at least 12, not 11"));
  EXPECT_TRUE(MakeDataset("mqar", {{"num_pairs", "5"}, {"vocabulary_size", "12"}}, {20}).ok());
}

TEST(DatasetsTest, EveryEntryIsDocumented) {
  for (const auto& entry : Datasets()) {
    EXPECT_GT(std::string(entry.doc).size(), 10u);
    EXPECT_FALSE(entry.params.empty());
  }
}

TEST(TokenizerTest, BytesThereAndBack) {
  const auto tokenizer = MakeTokenizer("bytes");
  ASSERT_TRUE(tokenizer.ok());
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  std::vector<int32_t> tokens = {7};
  (*tokenizer)->Encode(all, &tokens);
  ASSERT_EQ(tokens.size(), 256u);
  EXPECT_EQ(tokens[255], 255);
  EXPECT_EQ(*(*tokenizer)->Decode(tokens), all);
  EXPECT_FALSE((*tokenizer)->Decode({256}).ok());
  EXPECT_FALSE((*tokenizer)->Decode({-1}).ok());
  EXPECT_THAT(MakeTokenizer("byte").status().message(), HasSubstr("'bytes'"));
}

}  // namespace
}  // namespace trireme
