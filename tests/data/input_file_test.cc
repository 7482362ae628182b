#include "data/input_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "tests/data/write_file.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Gzip(const std::string& text) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = text.size();
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = packed.size();
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

class InputFileTest : public ::testing::Test {
 protected:
  StatusOr<std::string> ReadAll(const std::string& contents, size_t piece) {
    testing::WriteTestFile(path_, contents);
    ASSIGN_OR_RETURN(const std::unique_ptr<InputFile> file, InputFile::Open(path_));
    std::string text, buffer(piece, '\0');
    for (;;) {
      ASSIGN_OR_RETURN(const size_t n, file->Read(buffer.data(), piece));
      text.append(buffer, 0, n);
      if (n < piece) return text;
    }
  }

  testing::TemporaryDirectory directory_;
  std::string path_ = directory_ / "text";
};

TEST_F(InputFileTest, PlainAndGzipInPiecesOfAnySize) {
  std::string text;
  for (int i = 0; i < 15000; ++i) text += absl::StrCat("line ", i * i, "\r\n\xff");
  for (const size_t piece : {5, 65536, 1 << 20}) {
    EXPECT_EQ(*ReadAll(text, piece), text);
    EXPECT_EQ(*ReadAll(Gzip(text), piece), text);
    EXPECT_EQ(*ReadAll(Gzip(text) + Gzip("") + Gzip(text), piece), text + text);
  }
}

TEST_F(InputFileTest, SmallFiles) {
  EXPECT_EQ(*ReadAll("", 10), "");
  EXPECT_EQ(*ReadAll("\x1f", 10), "\x1f");
  EXPECT_EQ(*ReadAll("ab", 2), "ab");
  EXPECT_EQ(*ReadAll(Gzip(""), 10), "");
}

TEST_F(InputFileTest, EveryTruncationOfGzipIsFound) {
  const std::string packed = Gzip("some text that is long enough, long enough, long enough");
  for (size_t size = 2; size < packed.size(); ++size) {
    const Status status = ReadAll(packed.substr(0, size), 100).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << size;
    EXPECT_EQ(status.message(), absl::StrCat(path_, ": byte ", size, ": gzip data end too early"));
  }
}

TEST_F(InputFileTest, CorruptGzipIsFound) {
  const std::string text = "some text that is long enough, long enough, long enough";
  const std::string packed = Gzip(text);
  int num_found = 0;
  for (size_t bit = 20 * 8; bit < packed.size() * 8; ++bit) {  // Data and checksum.
    std::string damaged = packed;
    damaged[bit / 8] ^= 1 << bit % 8;
    const StatusOr<std::string> result = ReadAll(damaged, 100);
    // The last byte of the data has bits that mean nothing.
    if (result.ok()) {
      EXPECT_EQ(*result, text) << bit;
    } else {
      EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss) << bit;
      ++num_found;
    }
  }
  EXPECT_GT(num_found, static_cast<int>(packed.size() - 20) * 8 - 8);
  EXPECT_THAT(ReadAll(packed + "garbage", 100).status().message(), HasSubstr(path_ + ": byte "));
  EXPECT_EQ(ReadAll("\x1f\x8bno gzip at all", 100).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(InputFileTest, MissingFile) {
  EXPECT_EQ(InputFile::Open(path_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(InputFile::Open(directory_.path()).ok());
}

TEST_F(InputFileTest, FileLists) {
  for (const char* name : {"b.txt", "a.txt", "c.dat"}) {
    testing::WriteTestFile(directory_ / name, "x");
  }
  EXPECT_THAT(*ExpandFileList(directory_ / "*.txt"),
              ElementsAre(directory_ / "a.txt", directory_ / "b.txt"));
  EXPECT_THAT(*ExpandFileList(absl::StrCat(directory_ / "c.dat", ", ", directory_ / "a*", ",")),
              ElementsAre(directory_ / "c.dat", directory_ / "a.txt"));
  testing::WriteTestFile(directory_ / "d[1].txt", "x");
  EXPECT_THAT(*ExpandFileList(directory_ / "d[1].txt"), ElementsAre(directory_ / "d[1].txt"));
  const Status none =
      ExpandFileList(absl::StrCat(directory_ / "a.txt", ",", directory_ / "*.no")).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(none.message(), HasSubstr("*.no"));
  EXPECT_EQ(ExpandFileList(" , ").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme
