#include "data/ngram_entropy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/rng.h"
#include "core/io/file.h"
#include "tests/data/write_file.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

std::vector<double> Entropies(absl::string_view text, size_t piece = 1 << 20) {
  NgramEntropy entropy;
  for (size_t i = 0; i < text.size(); i += piece) entropy.Add(text.substr(i, piece));
  return *entropy.BitsPerByte();
}

auto Near(double value) { return DoubleNear(value, 1e-12); }

// The definition: each byte with its k predecessors, counted in an ordered map of strings.
double Definition(const std::string& text, size_t order) {
  std::map<std::string, double> contexts, sequences;
  double total = 0;
  for (size_t i = order; i < text.size(); ++i) {
    ++contexts[text.substr(i - order, order)];
    ++sequences[text.substr(i - order, order + 1)];
    ++total;
  }
  double entropy = 0;
  for (const auto& [sequence, count] : sequences) {
    entropy -= count / total * std::log2(count / contexts[sequence.substr(0, order)]);
  }
  return entropy;
}

TEST(NgramEntropyTest, KnownStrings) {
  EXPECT_THAT(Entropies(""), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(Entropies("a"), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(Entropies("aaaaaaaa"), ElementsAre(0, 0, 0, 0));
  // A byte says which follows.
  EXPECT_THAT(Entropies("abababab"), ElementsAre(Near(1), Near(0), Near(0), Near(0)));
  // Two bytes do: after a comes a or b.
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "aab";
  const std::vector<double> entropies = Entropies(text);
  EXPECT_NEAR(entropies[0], std::log2(3) - 2.0 / 3, 1e-12);
  EXPECT_NEAR(entropies[1], 2.0 / 3, 1e-3);
  EXPECT_NEAR(entropies[2], 0, 1e-12);
}

TEST(NgramEntropyTest, EqualsItsDefinition) {
  for (const size_t length : {1, 2, 3, 4, 5, 100, 5000}) {
    std::string text;
    const RngKey key = MakeRngKey(length, "text");
    for (size_t i = 0; i < length; ++i) {
      const double u = UniformAt(key, i);
      text += static_cast<char>(u * u * (i % 3 == 0 ? 256 : 5));
    }
    const std::vector<double> whole = Entropies(text), pieces = Entropies(text, 7);
    for (int order = 0; order <= kMaxEntropyOrder; ++order) {
      const double definition = Definition(text, order);
      EXPECT_NEAR(whole[order], definition, 1e-9) << length << ", " << order;
      EXPECT_NEAR(pieces[order], definition, 1e-9) << length << ", " << order;
    }
  }
}

TEST(NgramEntropyTest, MemoryIsBounded) {
  NgramEntropy entropy(/*max_sequences=*/4);
  entropy.Add("abcabcabcabc");
  EXPECT_TRUE(entropy.BitsPerByte().ok());
  entropy.Add("xyz");
  EXPECT_EQ(entropy.BitsPerByte().status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(NgramEntropyTest, Files) {
  const testing::TemporaryDirectory directory;
  testing::WriteTestFile(directory / "a", "abab");
  testing::WriteTestFile(directory / "b", "abab");
  EXPECT_THAT(*CorpusBitsPerByte({directory / "a", directory / "b"}),
              ElementsAre(Near(1), Near(0), Near(0), Near(0)));
  EXPECT_FALSE(CorpusBitsPerByte({directory / "c"}).ok());
}

// The corpus of the demo. A sort of all sequences, written separately, gives the same four numbers.
TEST(NgramEntropyTest, Dictionary) {
  const std::string path = "/usr/share/dictd/gcide.dict.dz";
  if (!PathExists(path)) GTEST_SKIP() << "the package dict-gcide is not installed";
  const auto entropies = CorpusBitsPerByte({path});
  ASSERT_TRUE(entropies.ok()) << entropies.status();
  EXPECT_THAT(*entropies, ElementsAre(DoubleNear(4.664, 0.001), DoubleNear(3.477, 0.001),
                                      DoubleNear(2.609, 0.001), DoubleNear(2.098, 0.001)));
}

}  // namespace
}  // namespace trireme
