#include "data/token_shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "core/base/rng.h"
#include "core/io/crc32c.h"
#include "core/io/file.h"
#include "tests/data/write_file.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class TokenShardTest : public ::testing::Test {
 protected:
  // Writes the documents; their text is their first byte repeated.
  void Write(const std::vector<std::vector<int32_t>>& documents, int64_t vocabulary_size) {
    auto writer = TokenShardWriter::Create(path_, "test", vocabulary_size);
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const std::vector<int32_t>& document : documents) {
      const Status status = (*writer)->Add(document, std::string(document.size() + 1, 'a'));
      ASSERT_TRUE(status.ok()) << status;
    }
    const Status status = (*writer)->Finish();
    ASSERT_TRUE(status.ok()) << status;
  }

  std::string Contents() { return *ReadFile(path_); }

  void Overwrite(absl::string_view contents) { testing::WriteTestFile(path_, contents); }

  // Opens the shard and reads all of it.
  Status OpenAndRead() {
    ASSIGN_OR_RETURN(const std::unique_ptr<TokenShard> shard, TokenShard::Open(path_));
    std::vector<int32_t> tokens(shard->num_tokens());
    return shard->Read(0, absl::MakeSpan(tokens));
  }

  // Sets an integer of a valid file at `offset` and makes the checksums fit again.
  template <typename T>
  Status OpenWith(std::string contents, size_t offset, T value, size_t tables_offset) {
    std::memcpy(&contents[offset], &value, sizeof(value));
    const uint32_t tables = Crc32c(&contents[tables_offset], contents.size() - tables_offset);
    std::memcpy(&contents[56], &tables, 4);
    const uint32_t header = Crc32c(contents.data(), 60);
    std::memcpy(&contents[60], &header, 4);
    Overwrite(contents);
    return OpenAndRead();
  }

  testing::TemporaryDirectory directory_;
  std::string path_ = directory_ / "a.tokens";
};

TEST_F(TokenShardTest, RoundTripInEveryWidth) {
  for (const int64_t vocabulary_size : {2, 256, 257, 65536, 65537, 2147483647}) {
    SCOPED_TRACE(vocabulary_size);
    const int32_t last = vocabulary_size - 1;
    Write({{0, 1, last}, {last}, {1, 0, 1, 0, last, 0, 1}}, vocabulary_size);
    const auto shard = TokenShard::Open(path_);
    ASSERT_TRUE(shard.ok()) << shard.status();
    EXPECT_EQ((*shard)->tokenizer(), "test");
    EXPECT_EQ((*shard)->vocabulary_size(), vocabulary_size);
    ASSERT_EQ((*shard)->num_tokens(), 11);
    ASSERT_EQ((*shard)->documents().size(), 3u);
    EXPECT_EQ((*shard)->documents()[2].num_tokens, 7u);
    EXPECT_EQ((*shard)->documents()[2].num_bytes, 8u);
    EXPECT_EQ((*shard)->documents()[2].hash, DocumentHash("aaaaaaaa"));
    std::vector<int32_t> tokens(5);
    ASSERT_TRUE((*shard)->Read(2, absl::MakeSpan(tokens)).ok());
    EXPECT_THAT(tokens, ElementsAre(last, last, 1, 0, 1));
    ASSERT_TRUE((*shard)->Read(11, {}).ok());
  }
}

// The format is what other programs and years will read.
TEST_F(TokenShardTest, BytesAreAsDocumented) {
  Write({{'h', 'i'}, {'!'}}, 256);
  const std::string contents = Contents();
  ASSERT_EQ(contents.size(), 64u + 3 + 1 + 2 * 12 + 4);
  EXPECT_EQ(contents.substr(0, 56), std::string("trirtok\n"
                                                "\1\0\0\0"
                                                "\1\0\0\0"
                                                "\0\1\0\0\0\0\0\0"
                                                "\3\0\0\0\0\0\0\0"
                                                "\2\0\0\0\0\0\0\0"
                                                "test\0\0\0\0\0\0\0\0\0\0\0\0",
                                                56));
  EXPECT_EQ(contents.substr(64, 4), std::string("hi!\0", 4));
  EXPECT_EQ(contents.substr(68, 8), std::string("\2\0\0\0\3\0\0\0", 8));
}

TEST_F(TokenShardTest, LongDocumentsSpanBlocks) {
  for (const int64_t vocabulary_size : {256, 50000, 100000}) {
    std::vector<int32_t> tokens(200001);
    const RngKey key = MakeRngKey(1, "tokens");
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = static_cast<int32_t>(UniformAt(key, i) * vocabulary_size);
    }
    // Blocks of 64 KiB: a document that fills some exactly, then one that begins with a block.
    const std::vector<int32_t> first(tokens.begin(), tokens.begin() + 131072);
    const std::vector<int32_t> second(tokens.begin() + 131072, tokens.end());
    Write({first, second}, vocabulary_size);
    const auto shard = TokenShard::Open(path_);
    ASSERT_TRUE(shard.ok()) << shard.status();
    for (const auto& [begin, size] : {std::pair<int64_t, int64_t>{65530, 20},
                                      {65536, 65536},
                                      {1, 200000},
                                      {0, 200001},
                                      {200000, 1},
                                      {131000, 100}}) {
      std::vector<int32_t> part(size);
      ASSERT_TRUE((*shard)->Read(begin, absl::MakeSpan(part)).ok());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), tokens.begin() + begin));
    }
  }
}

TEST_F(TokenShardTest, ThreadsReadTogether) {
  std::vector<int32_t> tokens(300000, 7);
  Write({tokens}, 256);
  const auto shard = TokenShard::Open(path_);
  ASSERT_TRUE(shard.ok());
  const auto read = [&] {
    std::vector<int32_t> part(300000);
    EXPECT_TRUE((*shard)->Read(0, absl::MakeSpan(part)).ok());
    EXPECT_EQ(part, tokens);
  };
  std::thread other(read);
  read();
  other.join();
}

TEST_F(TokenShardTest, EmptyShard) {
  Write({}, 256);
  const auto shard = TokenShard::Open(path_);
  ASSERT_TRUE(shard.ok()) << shard.status();
  EXPECT_EQ((*shard)->num_tokens(), 0);
  EXPECT_THAT((*shard)->documents(), IsEmpty());
}

TEST_F(TokenShardTest, EveryTruncationIsFound) {
  Write({{1, 2, 3}, {4}, {5, 6}}, 1000);
  const std::string contents = Contents();
  for (size_t size = 0; size < contents.size(); ++size) {
    Overwrite(contents.substr(0, size));
    const Status status = OpenAndRead();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << size << ": " << status;
    EXPECT_THAT(status.message(), HasSubstr(path_));
    EXPECT_THAT(status.message(), HasSubstr("byte "));
  }
}

TEST_F(TokenShardTest, FlippedBitsAreFound) {
  Write({{1, 2, 3}, {4}, {5, 6}}, 256);  // With padding.
  const std::string contents = Contents();
  for (size_t bit = 0; bit < contents.size() * 8; bit += 3) {
    std::string flipped = contents;
    flipped[bit / 8] ^= 1 << bit % 8;
    Overwrite(flipped);
    const Status status = OpenAndRead();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << "bit " << bit << ": " << status;
  }
}

TEST_F(TokenShardTest, TrailingBytesAreFound) {
  Write({{1, 2, 3}}, 256);
  Overwrite(Contents() + "x");
  EXPECT_THAT(OpenAndRead().message(), HasSubstr("the file has 85 bytes, its header asks for 84"));
}

// What a checksum does not stop: a file made to hurt.
TEST_F(TokenShardTest, HostileSizesAreFoundBeforeAllocation) {
  Write({{1, 2, 3}, {4}}, 300);
  const std::string contents = Contents();
  const size_t tables = 64 + 4 * 2;
  for (const size_t offset : {24, 32}) {  // Numbers of tokens and of documents.
    for (const uint64_t value :
         {uint64_t{0}, uint64_t{3}, uint64_t{5}, uint64_t{1} << 32, uint64_t{1} << 62,
          uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{0} / 2 + 1, ~uint64_t{0} / 12 + 1}) {
      const Status status = OpenWith(contents, offset, value, tables);
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << offset << ": " << value;
    }
  }
  EXPECT_THAT(OpenWith(contents, 24, uint64_t{1} << 62, tables).message(),
              HasSubstr("byte 24: 4611686018427387904 tokens in a file of 100 bytes"));
  EXPECT_THAT(OpenWith(contents, 32, uint64_t{1} << 62, tables).message(),
              HasSubstr("byte 32: 4611686018427387904 documents in a file of 100 bytes"));
  EXPECT_THAT(OpenWith(contents, 8, uint32_t{2}, tables).message(), HasSubstr("version 2"));
  EXPECT_THAT(OpenWith(contents, 12, uint32_t{1}, tables).message(), HasSubstr("byte 12"));
  EXPECT_THAT(OpenWith(contents, 12, uint32_t{3}, tables).message(), HasSubstr("byte 12"));
  EXPECT_THAT(OpenWith(contents, 16, uint64_t{0}, tables).message(), HasSubstr("byte 16"));
  EXPECT_THAT(OpenWith(contents, 16, uint64_t{1} << 31, tables).message(), HasSubstr("byte 16"));
  EXPECT_THAT(OpenWith(contents, 0, uint32_t{0}, tables).message(), HasSubstr("not a token shard"));
  // The documents: their lengths must be positive and add up.
  EXPECT_THAT(OpenWith(contents, tables, uint32_t{0}, tables).message(),
              HasSubstr("byte 72: a document without tokens"));
  EXPECT_THAT(OpenWith(contents, tables + 12, uint32_t{2}, tables).message(),
              HasSubstr("the documents have 5 tokens, the file has 4"));
  EXPECT_THAT(OpenWith(contents, tables + 12, ~uint32_t{0}, tables).message(),
              HasSubstr("the documents have 4294967298 tokens, the file has 4"));
  EXPECT_TRUE(OpenWith(contents, tables + 4, uint32_t{9}, tables).ok());
}

TEST_F(TokenShardTest, DamagedBlocksNameTheirOffset) {
  Write({std::vector<int32_t>(200000, 3)}, 256);
  std::string contents = Contents();
  contents[64 + 65536 + 17] ^= 1;
  Overwrite(contents);
  const auto shard = TokenShard::Open(path_);
  ASSERT_TRUE(shard.ok()) << shard.status();
  std::vector<int32_t> tokens(65536);
  EXPECT_TRUE((*shard)->Read(0, absl::MakeSpan(tokens)).ok());
  EXPECT_TRUE((*shard)->Read(131072, absl::MakeSpan(tokens)).ok());
  for (int i = 0; i < 2; ++i) {  // A failed block is not taken for a verified one.
    const Status status = (*shard)->Read(65535, absl::MakeSpan(tokens).subspan(0, 2));
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(status.message(), path_ + ": byte 65600: the checksum of block 1 does not match");
  }
}

TEST_F(TokenShardTest, TokensOutsideTheVocabularyAreFound) {
  Write({{1, 2, 299}}, 300);
  std::string contents = Contents();
  contents[64 + 2] = 44;  // 300 is 44 + 256.
  contents[64 + 3] = 1;
  const uint32_t block = Crc32c(&contents[64], 6);
  std::memcpy(&contents[contents.size() - 4], &block, 4);
  const Status status = OpenWith(contents, 72, uint32_t{3}, 70);
  EXPECT_EQ(status.message(), path_ + ": byte 66: token 300 is outside a vocabulary of 300");
}

TEST_F(TokenShardTest, WriterRejectsBadDocuments) {
  auto writer = TokenShardWriter::Create(path_, "test", 10);
  ASSERT_TRUE(writer.ok());
  EXPECT_FALSE((*writer)->Add({}, "").ok());
  EXPECT_FALSE((*writer)->Add({10}, "a").ok());
  EXPECT_FALSE((*writer)->Add({-1}, "a").ok());
}

TEST_F(TokenShardTest, WithoutFinishNothingRemains) {
  {
    auto writer = TokenShardWriter::Create(path_, "test", 10);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->Add({1, 2}, "ab").ok());
    EXPECT_FALSE(PathExists(path_));
  }
  EXPECT_THAT(*ListDirectory(directory_.path()), IsEmpty());
}

TEST_F(TokenShardTest, AFinishedShardReplacesAnOldOne) {
  Write({{1}}, 10);
  Write({{1, 2, 3}}, 10);
  EXPECT_EQ((*TokenShard::Open(path_))->num_tokens(), 3);
  EXPECT_THAT(*ListDirectory(directory_.path()), ElementsAre("a.tokens"));
}

TEST_F(TokenShardTest, MissingFilesAndFolders) {
  EXPECT_EQ(TokenShard::Open(path_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(TokenShard::Open(directory_.path()).ok());
  EXPECT_FALSE(TokenShardWriter::Create(directory_ / "no/such/a.tokens", "test", 10).ok());
}

TEST_F(TokenShardTest, AFullDiskLeavesTheOldShard) {
  const testing::TemporaryDirectory disk(256 << 10);
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted";
  path_ = disk / "a.tokens";
  Write({{1, 2, 3}}, 10);
  {
    auto writer = TokenShardWriter::Create(path_, "test", 10);
    ASSERT_TRUE(writer.ok());
    const std::vector<int32_t> tokens(1 << 20, 1);
    const Status status = (*writer)->Add(tokens, "");
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(status.message(), HasSubstr(disk.path()));
  }
  EXPECT_EQ((*TokenShard::Open(path_))->num_tokens(), 3);
  EXPECT_THAT(*ListDirectory(disk.path()), ElementsAre("a.tokens"));
}

}  // namespace
}  // namespace trireme
