#include "data/token_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/rng.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Documents = std::vector<std::string>;

std::vector<int32_t> Bytes(absl::string_view text) {
  std::vector<int32_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<uint8_t>(c));
  return tokens;
}

std::vector<std::unique_ptr<TokenCorpus>> MakeCorpora(const std::vector<Documents>& parts) {
  std::vector<std::unique_ptr<TokenCorpus>> corpora;
  for (const Documents& part : parts) {
    auto corpus = std::make_unique<MemoryCorpus>(256);
    for (const std::string& text : part) EXPECT_TRUE(corpus->Add(Bytes(text), text).ok());
    corpora.push_back(std::move(corpus));
  }
  return corpora;
}

std::unique_ptr<Dataset> Make(const std::vector<Documents>& parts, int64_t sequence_length,
                              double validation_fraction = 0) {
  auto dataset =
      MakeTokenDataset("test", MakeCorpora(parts), {sequence_length, validation_fraction});
  EXPECT_TRUE(dataset.ok()) << dataset.status();
  return *std::move(dataset);
}

HostBatch Get(const Dataset& dataset, Split split, std::vector<SampleRef> refs) {
  HostBatch batch;
  const Status status = dataset.Fill(split, refs, &batch);
  EXPECT_TRUE(status.ok()) << status;
  return batch;
}

// What a batch must be, written down plainly: token by token over the concatenated documents.
void ExpectIsDefinition(const std::vector<Documents>& parts, int64_t sequence_length,
                        double fraction, Split split) {
  std::vector<int32_t> tokens;
  std::vector<int> document_of;
  int num_documents = 0;
  for (const Documents& part : parts) {
    for (const std::string& text : part) {
      const bool held_out = DocumentHash(text) < ValidationThreshold(fraction);
      if (held_out != (split == Split::kValidation)) continue;
      for (const int32_t token : Bytes(text)) {
        tokens.push_back(token);
        document_of.push_back(num_documents);
      }
      ++num_documents;
    }
  }
  const int64_t num_pairs = static_cast<int64_t>(tokens.size()) - 1;
  const std::unique_ptr<Dataset> dataset = Make(parts, sequence_length, fraction);
  const int64_t num_samples = split == Split::kTrain
                                  ? num_pairs / sequence_length
                                  : (num_pairs + sequence_length - 1) / sequence_length;
  ASSERT_EQ(dataset->num_samples(split), num_samples);

  // Backwards and with shifted numbers, so that neither order nor `sample` matters for the
  // contents.
  std::vector<SampleRef> refs;
  HostBatch expected;
  for (int64_t w = num_samples - 1; w >= 0; --w) {
    refs.push_back({1000 + w, w});
    const int64_t begin = w * sequence_length;
    const int64_t end = std::min(begin + sequence_length, num_pairs);
    expected.segments.push_back({1000 + w, 0, end - begin});
    for (int64_t i = begin; i < end; ++i) {
      const bool counts = document_of[i] == document_of[i + 1];
      const bool begins = i == begin || document_of[i] != document_of[i - 1];
      expected.tokens.push_back(tokens[i]);
      expected.labels.push_back(counts ? tokens[i + 1] : kIgnoredLabel);
      if (begins) expected.documents.push_back({1000 + w, i - begin, 0});
      ++expected.documents.back().length;
      expected.label_bytes.push_back(counts);
    }
  }
  const HostBatch batch = Get(*dataset, split, refs);
  EXPECT_EQ(batch.tokens, expected.tokens);
  EXPECT_EQ(batch.labels, expected.labels);
  EXPECT_EQ(batch.label_bytes, expected.label_bytes);
  EXPECT_EQ(batch.segments, expected.segments);
  EXPECT_EQ(batch.documents, expected.documents);
}

// Documents of 1 to max_length bytes; many are a single byte.
std::vector<Documents> RandomParts(int num_documents, int max_length, uint64_t seed) {
  const RngKey key = MakeRngKey(seed, "documents");
  std::vector<Documents> parts(3);
  uint64_t draw = 0;
  for (int d = 0; d < num_documents; ++d) {
    const double u = UniformAt(key, draw++);
    std::string text(1 + static_cast<int>(u * u * max_length), '\0');
    for (char& c : text) c = static_cast<char>(UniformAt(key, draw++) * 256);
    parts[d * 3 / num_documents].push_back(text);
  }
  return parts;
}

TEST(TokenDatasetTest, BatchesAreTheirDefinition) {
  for (const int64_t sequence_length : {1, 2, 3, 8, 100}) {
    for (const double fraction : {0.0, 0.3, 1.0}) {
      SCOPED_TRACE(absl::StrCat("L = ", sequence_length, ", fraction = ", fraction));
      const std::vector<Documents> parts = RandomParts(100, 40, sequence_length);
      if (fraction < 1) ExpectIsDefinition(parts, sequence_length, fraction, Split::kTrain);
      if (fraction > 0) ExpectIsDefinition(parts, sequence_length, fraction, Split::kValidation);
    }
  }
}

TEST(TokenDatasetTest, ManyDocumentsAndRareOnes) {
  const std::vector<Documents> parts = RandomParts(20000, 4, 5);
  ExpectIsDefinition(parts, 64, 0.5, Split::kTrain);
  ExpectIsDefinition(parts, 64, 0.002, Split::kTrain);
  ExpectIsDefinition(parts, 64, 0.002, Split::kValidation);  // Gaps of many landmarks.
}

TEST(TokenDatasetTest, OneDocument) {
  const auto dataset = Make({{"abcdefg"}}, 3);
  EXPECT_EQ(dataset->num_samples(Split::kTrain), 2);
  const HostBatch batch = Get(*dataset, Split::kTrain, {{0, 1}});
  EXPECT_THAT(batch.tokens, ElementsAre('d', 'e', 'f'));
  EXPECT_THAT(batch.labels, ElementsAre('e', 'f', 'g'));
  EXPECT_THAT(batch.documents, ElementsAre(Segment{0, 0, 3}));
  EXPECT_THAT(batch.label_bytes, ElementsAre(1, 1, 1));
}

TEST(TokenDatasetTest, ADocumentThatEndsWithTheWindowDoesNotPredictTheNext) {
  const auto dataset = Make({{"abc", "def", "g"}}, 3);
  const HostBatch batch = Get(*dataset, Split::kTrain, {{0, 0}, {1, 1}});
  EXPECT_THAT(batch.tokens, ElementsAre('a', 'b', 'c', 'd', 'e', 'f'));
  EXPECT_THAT(batch.labels, ElementsAre('b', 'c', -1, 'e', 'f', -1));
  EXPECT_THAT(batch.documents, ElementsAre(Segment{0, 0, 3}, Segment{1, 0, 3}));
  EXPECT_THAT(batch.label_bytes, ElementsAre(1, 1, 0, 1, 1, 0));
}

TEST(TokenDatasetTest, SingleTokenDocumentsPredictNothing) {
  const auto dataset = Make({{"a", "b"}, {"c", "d"}}, 2);
  const HostBatch batch = Get(*dataset, Split::kTrain, {{0, 0}});
  EXPECT_THAT(batch.labels, ElementsAre(-1, -1));
  EXPECT_THAT(batch.documents, ElementsAre(Segment{0, 0, 1}, Segment{0, 1, 1}));
  EXPECT_THAT(batch.label_bytes, ElementsAre(0, 0));
}

TEST(TokenDatasetTest, ValidationCoversEveryTokenOnceWithARaggedEnd) {
  const auto dataset = Make({{"abcdefgh"}}, 3, 1);
  EXPECT_EQ(dataset->num_samples(Split::kTrain), 0);
  EXPECT_EQ(dataset->num_samples(Split::kValidation), 3);
  const HostBatch batch = Get(*dataset, Split::kValidation, {{0, 0}, {1, 1}, {2, 2}});
  EXPECT_THAT(batch.labels, ElementsAre('b', 'c', 'd', 'e', 'f', 'g', 'h'));
  EXPECT_EQ(batch.segments[2].length, 1);
  EXPECT_THAT(batch.label_bytes, ElementsAre(1, 1, 1, 1, 1, 1, 1));
}

// Tokens that stand for several bytes: every cut adds up to the bytes of the document.
TEST(TokenDatasetTest, BytesOfTokensAddUp) {
  const DocumentRecord document = {7, 24, 0};
  for (uint64_t cut = 0; cut <= 7; ++cut) {
    EXPECT_EQ(BytesOfTokens(document, 0, cut) + BytesOfTokens(document, cut, 7), 24);
  }
  const DocumentRecord longest = {~uint32_t{0}, ~uint32_t{0} - 1, 0};
  EXPECT_EQ(BytesOfTokens(longest, 0, ~uint32_t{0}), int64_t{~uint32_t{0} - 1});
  auto corpus = std::make_unique<MemoryCorpus>(1000);
  ASSERT_TRUE(corpus->Add({500, 999, 0}, "twelve bytes").ok());
  std::vector<std::unique_ptr<TokenCorpus>> corpora;
  corpora.push_back(std::move(corpus));
  const auto dataset = MakeTokenDataset("test", std::move(corpora), {2, 0});
  ASSERT_TRUE(dataset.ok());
  const HostBatch batch = Get(**dataset, Split::kTrain, {{0, 0}});
  EXPECT_THAT(batch.tokens, ElementsAre(500, 999));
  EXPECT_THAT(batch.labels, ElementsAre(999, 0));
  EXPECT_THAT(batch.label_bytes,
              ElementsAre(4, 4));  // Of 12, the first 4 are predicted from nothing.
}

TEST(TokenDatasetTest, ASplitWithoutSamplesIsAnError) {
  const auto none = MakeTokenDataset("test", MakeCorpora({{"abc"}}), {3, 0});
  EXPECT_EQ(none.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(none.status().message(),
              HasSubstr("the train split has 1 documents with 3 tokens: no sample of 3 + 1"));
  // One document is in one split only.
  const auto half = MakeTokenDataset("test", MakeCorpora({{"abcdef"}}), {3, 0.5});
  EXPECT_THAT(half.status().message(), HasSubstr("split has 0 documents"));
  EXPECT_FALSE(MakeTokenDataset("test", MakeCorpora({{"abcdef"}}), {0, 0}).ok());
}

TEST(TokenDatasetTest, VocabulariesDoNotMix) {
  std::vector<std::unique_ptr<TokenCorpus>> corpora = MakeCorpora({{"abc"}});
  corpora.push_back(std::make_unique<MemoryCorpus>(300));
  const auto dataset = MakeTokenDataset("test", std::move(corpora), {1, 0});
  EXPECT_THAT(dataset.status().message(), HasSubstr("256 and 300"));
}

TEST(TokenDatasetTest, FingerprintTellsTheSamples) {
  const auto base = Make({{"abcdef", "ghi"}}, 2);
  EXPECT_EQ(base->fingerprint(), Make({{"abcdef", "ghi"}}, 2)->fingerprint());
  EXPECT_NE(base->fingerprint(), Make({{"abcdef", "ghj"}}, 2)->fingerprint());
  EXPECT_NE(base->fingerprint(), Make({{"abcdef", "ghi"}}, 3)->fingerprint());
  EXPECT_NE(base->fingerprint(), Make({{"ghi", "abcdef"}}, 2)->fingerprint());
}

TEST(MemoryCorpusTest, RejectsWhatDoesNotFit) {
  MemoryCorpus corpus(300);
  EXPECT_FALSE(corpus.Add({}, "").ok());
  EXPECT_FALSE(corpus.Add({1, 300}, "ab").ok());
  EXPECT_FALSE(corpus.Add({-1}, "a").ok());
  EXPECT_EQ(corpus.num_tokens(), 0);
}

TEST(TokenWidthTest, IsTheFewestBytes) {
  EXPECT_EQ(TokenWidth(1), 1);
  EXPECT_EQ(TokenWidth(256), 1);
  EXPECT_EQ(TokenWidth(257), 2);
  EXPECT_EQ(TokenWidth(65536), 2);
  EXPECT_EQ(TokenWidth(65537), 4);
  for (const int width : {1, 2, 4}) {
    const std::vector<int32_t> tokens = {0, 1, (1 << (8 * std::min(width, 3))) - 1};
    std::string packed;
    PackTokens(tokens, width, &packed);
    EXPECT_EQ(packed.size(), static_cast<size_t>(3 * width));
    std::vector<int32_t> unpacked(3);
    UnpackTokens(packed.data(), width, absl::MakeSpan(unpacked));
    EXPECT_EQ(unpacked, tokens);
  }
}

TEST(ValidationThresholdTest, CoversTheWholeRange) {
  EXPECT_EQ(ValidationThreshold(0), 0u);
  EXPECT_EQ(ValidationThreshold(1), uint64_t{1} << 32);
  EXPECT_EQ(ValidationThreshold(0.25), uint64_t{1} << 30);
}

// The split is part of what a checkpoint and a published loss mean: it may never change.
TEST(DocumentHashTest, IsPinned) {
  EXPECT_EQ(DocumentHash(""), 2802244911u);
  EXPECT_EQ(DocumentHash("Zythum"), 3444297999u);
}

}  // namespace
}  // namespace trireme
