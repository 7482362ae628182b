#include "data/idx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>

#include "core/io/file.h"
#include "data/dataset.h"
#include "tests/data/write_file.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Idx(std::vector<uint32_t> dims, const std::string& values) {
  std::string file = {0, 0, 8, static_cast<char>(dims.size())};
  for (const uint32_t dim : dims) {
    for (const int shift : {24, 16, 8, 0}) file += static_cast<char>(dim >> shift);
  }
  return file + values;
}

class IdxTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& contents) {
    testing::WriteTestFile(directory_ / name, contents);
    return directory_ / name;
  }
  Status ReadStatus(const std::string& contents) {
    return ReadIdx(Write("idx", contents)).status();
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(IdxTest, ReadsArrays) {
  const auto array = ReadIdx(Write("idx", Idx({2, 3}, "abcdef")));
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_THAT(array->dims, ElementsAre(2, 3));
  EXPECT_EQ(array->values, "abcdef");
  EXPECT_EQ(ReadIdx(Write("idx", Idx({0, 5}, "")))->values, "");
  const std::string large(3 << 20, 'x');
  EXPECT_EQ(ReadIdx(Write("idx", Idx({3 << 20}, large)))->values, large);
}

TEST_F(IdxTest, EveryTruncationIsFound) {
  const std::string contents = Idx({2, 3}, "abcdef");
  for (size_t size = 0; size < contents.size(); ++size) {
    const Status status = ReadStatus(contents.substr(0, size));
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << size;
    EXPECT_THAT(status.message(), HasSubstr(absl::StrCat("idx: byte ", size, " of")));
  }
}

TEST_F(IdxTest, WrongHeadersAreFound) {
  EXPECT_THAT(ReadStatus("PNG or so").message(), HasSubstr("byte 0 of the IDX data: not an IDX"));
  EXPECT_THAT(ReadStatus(std::string("\0\0\x0d\1\0\0\0\1abcd", 12)).message(),
              HasSubstr("byte 2 of the IDX data: type 13"));
  EXPECT_THAT(ReadStatus(std::string("\0\0\x8\0", 4)).message(), HasSubstr("no dimensions"));
  EXPECT_THAT(ReadStatus(Idx({2, 3}, "abcdefg")).message(), HasSubstr("byte 18"));
}

TEST_F(IdxTest, HostileSizesAreFoundBeforeAllocation) {
  const uint32_t huge = ~uint32_t{0};
  EXPECT_EQ(ReadStatus(Idx({huge, huge, huge, huge}, "abc")).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReadStatus(Idx({huge}, "abc")).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ReadStatus(Idx({0, huge, huge, huge, huge}, "")), absl::OkStatus());
  EXPECT_EQ(ReadStatus(Idx({huge, huge, 0}, "")).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReadIdx(Write("idx", Idx({3, 2}, "abcdef")), 5).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(ReadIdx(Write("idx", Idx({3, 2}, "abcdef")), 6).ok());
}

TEST_F(IdxTest, Gzip) {
  const std::string path = directory_ / "idx.gz";
  const std::string contents = Idx({4}, "abcd");
  gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(gzwrite(file, contents.data(), contents.size()), static_cast<int>(contents.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
  EXPECT_EQ(ReadIdx(path)->values, "abcd");
  const std::string packed = *ReadFile(path);
  Write("cut.gz", packed.substr(0, packed.size() - 1));
  EXPECT_EQ(ReadIdx(directory_ / "cut.gz").status().code(), absl::StatusCode::kDataLoss);
}

class IdxImagesTest : public IdxTest {
 protected:
  StatusOr<std::unique_ptr<Dataset>> Make(ParamMap params) {
    params.try_emplace("images", Write("images", Idx({3, 1, 2}, std::string("\0\xff"
                                                                            "abcd",
                                                                            6))));
    params.try_emplace("labels", Write("labels", Idx({3}, {1, 0, 9})));
    return MakeDataset("idx_images", params, {});
  }
};

TEST_F(IdxImagesTest, FillsFeaturesAndLabels) {
  const auto dataset = Make({{"validation_fraction", "0"}});
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ((*dataset)->num_samples(Split::kTrain), 3);
  EXPECT_EQ((*dataset)->num_samples(Split::kValidation), 0);
  EXPECT_EQ((*dataset)->num_classes(), 10);
  EXPECT_FALSE((*dataset)->is_text());
  EXPECT_EQ((*dataset)->feature_shape(), Shape({1, 2}));
  HostBatch batch;
  batch.labels = {5, 5, 5};  // Replaced, not appended to.
  ASSERT_TRUE((*dataset)->Fill(Split::kTrain, {{70, 2}, {71, 0}}, &batch).ok());
  EXPECT_THAT(batch.features, ElementsAre(FloatEq('c' / 255.f), FloatEq('d' / 255.f), 0, 1));
  EXPECT_EQ(batch.feature_shape, Shape({1, 2}));
  EXPECT_THAT(batch.labels, ElementsAre(9, 1));
  EXPECT_THAT(batch.documents, IsEmpty());
  EXPECT_EQ(batch.segments[0].sample, 70);
  EXPECT_EQ(batch.segments[1].length, 1);
  EXPECT_THAT(batch.label_bytes, IsEmpty());
  EXPECT_TRUE(batch.tokens.empty());
}

TEST_F(IdxImagesTest, ValidationFiles) {
  const auto dataset = Make({{"validation_images", Write("held_out", Idx({2, 1, 2}, "wxyz"))},
                             {"validation_labels", Write("held_out_labels", Idx({2}, {3, 4}))}});
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ((*dataset)->num_samples(Split::kTrain), 3);
  EXPECT_EQ((*dataset)->num_samples(Split::kValidation), 2);
  HostBatch batch;
  ASSERT_TRUE((*dataset)->Fill(Split::kValidation, {{0, 1}}, &batch).ok());
  EXPECT_THAT(batch.features, ElementsAre(FloatEq('y' / 255.f), FloatEq('z' / 255.f)));
  EXPECT_THAT(batch.labels, ElementsAre(4));
}

TEST_F(IdxImagesTest, TheSplitIsByContent) {
  const int n = 400;
  std::string pixels, labels;
  for (int i = 0; i < n; ++i) {
    pixels += {static_cast<char>(i), static_cast<char>(i / 256)};
    labels += static_cast<char>(i % 10);
  }
  const auto dataset = Make({{"images", Write("many", Idx({n, 1, 2}, pixels))},
                             {"labels", Write("many_labels", Idx({n}, labels))},
                             {"validation_fraction", "0.25"}});
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const int64_t held_out = (*dataset)->num_samples(Split::kValidation);
  EXPECT_EQ((*dataset)->num_samples(Split::kTrain) + held_out, n);
  EXPECT_NEAR(held_out, n / 4, 30);
}

TEST_F(IdxImagesTest, FilesThatDoNotFit) {
  const auto message = [&](const ParamMap& params) {
    return std::string(Make(params).status().message());
  };
  EXPECT_THAT(message({{"labels", Write("two", Idx({2}, "ab"))}}), HasSubstr("[3, 1, 2]"));
  EXPECT_THAT(message({{"labels", Write("flat", Idx({3, 1}, "abc"))}}),
              HasSubstr("flat has 2; expected"));
  EXPECT_THAT(message({{"images", Write("one", Idx({3}, "abc"))}}),
              HasSubstr("one has 1 dimensions"));
  EXPECT_THAT(message({{"num_classes", "9"}}), HasSubstr("label 9 of image 2"));
  EXPECT_THAT(message({{"validation_images", "x"}}), HasSubstr("go together"));
  EXPECT_THAT(message({{"validation_images", Write("wide", Idx({1, 1, 3}, "abc"))},
                       {"validation_labels", Write("l", Idx({1}, {1}))}}),
              HasSubstr("[1, 2]"));
  EXPECT_THAT(message({{"validation_fraction", "0.0001"}}), HasSubstr("leaves 3 images"));
  EXPECT_THAT(message({{"images", Write("none", Idx({0, 2, 2}, ""))},
                       {"labels", Write("no_labels", Idx({0}, ""))}}),
              HasSubstr("[0, 2, 2]"));
  EXPECT_THAT(message({{"images", directory_ / "missing"}}), HasSubstr("missing"));
}

TEST_F(IdxImagesTest, Fingerprint) {
  const ParamMap all = {{"validation_fraction", "0"}};
  const uint64_t base = (*Make(all))->fingerprint();
  EXPECT_EQ((*Make(all))->fingerprint(), base);
  ParamMap other = all;
  other["labels"] = Write("other", Idx({3}, {1, 0, 8}));
  EXPECT_NE((*Make(other))->fingerprint(), base);
}

TEST(FashionMnistTest, HasItsImages) {
  const std::string folder = "/usr/share/datasets/fashion-mnist/";
  if (!PathExists(folder)) GTEST_SKIP() << "the package dataset-fashion-mnist is not installed";
  const auto dataset = MakeDataset("idx_images",
                                   {{"images", folder + "train-images-idx3-ubyte.gz"},
                                    {"labels", folder + "train-labels-idx1-ubyte.gz"},
                                    {"validation_images", folder + "t10k-images-idx3-ubyte.gz"},
                                    {"validation_labels", folder + "t10k-labels-idx1-ubyte.gz"}},
                                   {});
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ((*dataset)->num_samples(Split::kTrain), 60000);
  EXPECT_EQ((*dataset)->num_samples(Split::kValidation), 10000);
  EXPECT_EQ((*dataset)->feature_shape(), Shape({28, 28}));
  std::vector<SampleRef> all;
  for (int64_t i = 0; i < 10000; ++i) all.push_back({i, i});
  HostBatch batch;
  ASSERT_TRUE((*dataset)->Fill(Split::kValidation, all, &batch).ok());
  for (int label = 0; label < 10; ++label) {
    EXPECT_EQ(std::count(batch.labels.begin(), batch.labels.end(), label), 1000);
  }
}

}  // namespace
}  // namespace trireme
