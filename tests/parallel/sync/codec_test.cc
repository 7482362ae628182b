// What every codec of the registry promises, and what each of them is.
#include "parallel/sync/codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <map>
#include <numeric>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "tests/parallel/sync/codec_case.h"

namespace trireme {
namespace {

struct CodecCase {
  std::string name;
  ParamMap params;
};

// Every codec in its default form, and with small blocks where it has blocks.
std::vector<CodecCase> CodecCases() {
  std::vector<CodecCase> cases;
  for (const auto& entry : Codecs()) {
    cases.push_back({entry.name, {}});
    for (const ParamInfo& info : entry.params) {
      if (absl::string_view(info.key) != "block") continue;
      cases.push_back({entry.name, {{"block", "16"}}});
      cases.push_back({entry.name, {{"block", "0"}}});
    }
  }
  cases.push_back({"sign", {{"norm", "l1"}, {"block", "17"}}});
  for (const char* sparse : {"top_k", "rand_k"}) {
    cases.push_back({sparse, {{"k", "3"}, {"block", "16"}}});
    cases.push_back({sparse, {{"fraction", "1"}, {"block", "16"}}});
    cases.push_back({sparse, {{"fraction", "0.3"}, {"block", "300"}}});
  }
  cases.push_back({"rand_k", {{"unbiased", "true"}, {"fraction", "0.25"}, {"block", "16"}}});
  return cases;
}

template <typename T>
class CodecTest : public testing::Test {};
using ValueTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(CodecTest, ValueTypes);

Shape ShapeFor(const Codec& codec, int64_t n) {
  return codec.Check({n}).ok() ? Shape{n} : n % 3 == 0 ? Shape{3, n / 3} : Shape{n, 1};
}

TYPED_TEST(CodecTest, PartsCutBetweenBlocksGiveTheBytesOfTheWhole) {
  for (const CodecCase& c : CodecCases()) {
    const auto codec = CodecOrDie(c.name, c.params);
    for (const int64_t n : {0, 1, 2, 15, 16, 17, 100, 5000}) {
      const Shape shape = ShapeFor(*codec, n);
      if (!codec->Check(shape).ok()) continue;
      const auto v = NormalVector<TypeParam>(n);
      const auto whole = Encoded(*codec, WholePiece(shape), v);
      const int64_t block =
          codec->block_size() == 0 ? std::max<int64_t>(n, 1) : codec->block_size();
      std::vector<uint8_t> parts;
      std::vector<TypeParam> decoded;
      for (int64_t first = 0; first < n;) {
        // One block, then two, then three, ...
        const int64_t size = std::min(n - first, block * (first / block % 3 + 1));
        const CodecPiece piece{7, shape, first, size};
        const std::vector<TypeParam> part(v.begin() + first, v.begin() + first + size);
        const auto bytes = Encoded(*codec, piece, part);
        parts.insert(parts.end(), bytes.begin(), bytes.end());
        const auto back = Decoded<TypeParam>(*codec, piece, bytes);
        decoded.insert(decoded.end(), back.begin(), back.end());
        first += size;
      }
      EXPECT_EQ(whole, parts) << c.name << " " << n;
      EXPECT_EQ(Decoded<TypeParam>(*codec, WholePiece(shape), whole), decoded) << c.name;
    }
  }
}

TYPED_TEST(CodecTest, LosesNoMoreThanItsContraction) {
  const bool is_f32 = sizeof(TypeParam) == 4;
  for (const CodecCase& c : CodecCases()) {
    if (c.name == "rand_k") continue;  // In expectation only; below.
    const auto codec = CodecOrDie(c.name, c.params);
    for (const int64_t n : {1, 2, 15, 16, 33, 100, 5000}) {
      const Shape shape = ShapeFor(*codec, n);
      const double alpha = codec->Contraction(shape);
      ASSERT_GE(alpha, 0);
      ASSERT_LE(alpha, 1);
      if (!codec->Check(shape).ok() || alpha == 0) continue;
      for (const double scale : {1.0, is_f32 ? 1e-43 : 1e-320, is_f32 ? 1e37 : 1e300}) {
        if (c.name == "bf16" && scale != 1) continue;  // The ends of its range.
        for (const int shape_of_values : {0, 1, 2, 3}) {
          auto v = NormalVector<TypeParam>(n, 3, 1);
          for (int64_t i = 0; i < n; ++i) {
            if (shape_of_values == 1) v[i] = v[i] * v[i] * v[i] / 30;
            if (shape_of_values == 2) v[i] = 1;
            if (shape_of_values == 3) v[i] = i == n / 2 ? -1 : TypeParam(0.01);
            v[i] = static_cast<TypeParam>(v[i] * scale);
          }
          auto back = ThereAndBack(*codec, shape, v);
          // Squares of such numbers leave the range; denormals have a grid of their own.
          const double unit = is_f32 ? 0x1p-149 : 0x1p-1074;
          const double grid = n * std::pow(unit / scale, 2);
          std::vector<double> a(n), b(n);
          for (int64_t i = 0; i < n; ++i) a[i] = v[i] / scale, b[i] = back[i] / scale;
          EXPECT_LE(SquaredDistance(a, b), (1 - alpha + 1e-6) * SquaredNorm(a) + grid)
              << c.name << " n " << n << " scale " << scale << " values " << shape_of_values;
        }
      }
    }
  }
}

TYPED_TEST(CodecTest, ZerosStayZerosAndBytesAreAllWritten) {
  for (const CodecCase& c : CodecCases()) {
    const auto codec = CodecOrDie(c.name, c.params);
    for (const int64_t n : {1, 7, 16, 50}) {
      const Shape shape = ShapeFor(*codec, n);
      if (!codec->Check(shape).ok()) continue;
      const std::vector<TypeParam> zeros(n, 0);
      EXPECT_EQ(ThereAndBack(*codec, shape, zeros), zeros) << c.name << " " << n;
      const auto v = NormalVector<TypeParam>(n);
      const CodecPiece piece = WholePiece(shape);
      std::vector<uint8_t> other(codec->EncodedBytes(piece, DTypeOf<TypeParam>::value), 0x5A);
      codec->Encode(piece, {1, 2}, ViewOf(v), absl::MakeSpan(other));
      EXPECT_EQ(Encoded(*codec, piece, v), other) << c.name << " " << n;
    }
  }
}

TYPED_TEST(CodecTest, WhatIsNotFiniteIsSeenInItsBlock) {
  using Limits = std::numeric_limits<TypeParam>;
  for (const CodecCase& c : CodecCases()) {
    const auto codec = CodecOrDie(c.name, c.params);
    const int64_t n = 50, where = 37;
    const Shape shape = ShapeFor(*codec, n);
    for (const TypeParam bad : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}) {
      auto v = NormalVector<TypeParam>(n);
      const auto good = ThereAndBack(*codec, shape, v);
      v[where] = bad;
      const auto back = ThereAndBack(*codec, shape, v);
      const int64_t block = codec->block_size() == 0 ? n : codec->block_size();
      int num_bad = 0;
      for (int64_t i = 0; i < n; ++i) {
        if (i / block == where / block) {
          num_bad += !std::isfinite(back[i]);
        } else {
          EXPECT_EQ(back[i], good[i]) << c.name << " " << i;
        }
      }
      EXPECT_GT(num_bad, 0) << c.name << " " << bad;
    }
  }
}

TYPED_TEST(CodecTest, WhatIsSentAndWhatIsKeptMakeTheWhole) {
  for (const CodecCase& c : CodecCases()) {
    if (c.params.count("unbiased") != 0) continue;
    const auto codec = CodecOrDie(c.name, c.params);
    const int64_t n = 90;
    const Shape shape = ShapeFor(*codec, n);
    if (!codec->Check(shape).ok()) continue;
    std::vector<TypeParam> error(n, 0);
    for (int64_t round = 0; round < 5; ++round) {
      auto v = NormalVector<TypeParam>(n, 10 + round);
      for (int64_t i = 0; i < n; ++i) v[i] += error[i];
      const auto sent = ThereAndBack(*codec, shape, v, {3, round});
      for (int64_t i = 0; i < n; ++i) {
        error[i] = v[i] - sent[i];
        if (c.name == "top_k" || c.name == "rand_k" || c.name == "identity") {
          EXPECT_EQ(sent[i] + error[i], v[i]) << c.name;
        } else {
          const TypeParam size = std::max(std::abs(v[i]), std::abs(sent[i]));
          EXPECT_NEAR(sent[i] + error[i], v[i], size * std::numeric_limits<TypeParam>::epsilon())
              << c.name;
        }
      }
    }
  }
}

TYPED_TEST(CodecTest, LinearEncodingsAddUp) {
  for (const CodecCase& c : CodecCases()) {
    const auto codec = CodecOrDie(c.name, c.params);
    const Shape shape = ShapeFor(*codec, 50);
    if (codec->num_linear_passes() != 1 || !codec->Check(shape).ok()) continue;
    const CodecPiece piece = WholePiece(shape);
    const auto a = NormalVector<TypeParam>(50, 1), b = NormalVector<TypeParam>(50, 2);
    std::vector<TypeParam> wire_a(codec->LinearSize(piece, 0)), wire_b(wire_a.size());
    codec->LinearEncode(0, piece, {4, 9}, ViewOf(a), {}, ViewOf(wire_a));
    codec->LinearEncode(0, piece, {4, 9}, ViewOf(b), {}, ViewOf(wire_b));
    for (size_t i = 0; i < wire_a.size(); ++i) wire_a[i] += wire_b[i];
    std::vector<TypeParam> sum(50, -1);
    codec->LinearDecode(0, piece, {4, 9}, ViewOf(wire_a), {}, ViewOf(sum));
    const auto sent_a = ThereAndBack(*codec, shape, a, {4, 9});
    const auto sent_b = ThereAndBack(*codec, shape, b, {4, 9});
    for (int i = 0; i < 50; ++i) EXPECT_EQ(sum[i], sent_a[i] + sent_b[i]) << c.name;
  }
}

TEST(CodecBytesTest, EqualTheFormulas) {
  const auto bytes = [](const char* name, const ParamMap& params, int64_t n, DType dtype) {
    return CodecOrDie(name, params)->EncodedBytes(WholePiece({n}), dtype);
  };
  EXPECT_EQ(bytes("identity", {}, 1000, DType::kF64), 8000);
  EXPECT_EQ(bytes("f16", {}, 1001, DType::kF64), 2002);
  EXPECT_EQ(bytes("bf16", {}, 1001, DType::kF32), 2002);
  EXPECT_EQ(bytes("int8", {{"block", "100"}}, 1001, DType::kF32), 1001 + 11 * 4);
  EXPECT_EQ(bytes("fp8_e4m3", {{"block", "0"}}, 1001, DType::kF64), 1001 + 8);
  // The last block has one element: half a byte becomes one.
  EXPECT_EQ(bytes("e3m0", {{"block", "100"}}, 1001, DType::kF32), 500 + 1 + 11 * 4);
  EXPECT_EQ(bytes("sign", {{"block", "100"}}, 1001, DType::kF32), 10 * 13 + 1 + 11 * 4);
  EXPECT_EQ(bytes("two_bit", {{"block", "100"}}, 1001, DType::kF32), 10 * 25 + 1 + 11 * 16);
  EXPECT_EQ(bytes("rand_k", {{"fraction", "0.1"}, {"block", "100"}}, 1001, DType::kF32), 101 * 4);
  // Indices of 1, 2 and 4 bytes; a bit for each element where that is less; none when all go.
  EXPECT_EQ(bytes("top_k", {{"k", "5"}, {"block", "256"}}, 512, DType::kF32), 2 * 5 * 5);
  EXPECT_EQ(bytes("top_k", {{"k", "5"}, {"block", "257"}}, 257, DType::kF64), 5 * 10);
  EXPECT_EQ(bytes("top_k", {{"k", "5"}, {"block", "0"}}, 1 << 16, DType::kF32), 5 * 6);
  EXPECT_EQ(bytes("top_k", {{"k", "5"}, {"block", "0"}}, (1 << 16) + 1, DType::kF32), 5 * 8);
  EXPECT_EQ(bytes("top_k", {{"k", "40"}, {"block", "256"}}, 256, DType::kF32), 40 * 4 + 32);
  EXPECT_EQ(bytes("top_k", {{"fraction", "1"}, {"block", "256"}}, 300, DType::kF32), 300 * 4);
  EXPECT_EQ(
      CodecOrDie("powersgd", {{"rank", "3"}})->EncodedBytes(WholePiece({10, 4, 5}), DType::kF32),
      3 * (10 + 20) * 4);
}

// The table of docs/compression.md has a line for each codec, and the numbers that are so.
TEST(CodecDocumentTest, ItsNumbersAreThose) {
  std::ifstream file(TRIREME_SOURCE_DIR "/docs/compression.md");
  std::map<std::string, std::vector<std::string>> lines;
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> cells = absl::StrSplit(line, " | ");
    if (cells.size() == 6 && absl::StartsWith(cells[0], "| ")) lines[cells[0].substr(2)] = cells;
  }
  const Shape shape = {1024, 1024};
  const auto v = NormalVector<float>(shape.numel());
  for (const auto& entry : Codecs()) {
    ASSERT_EQ(lines.count(entry.name), 1u) << entry.name;
    const std::vector<std::string>& cells = lines[entry.name];
    const auto codec = CodecOrDie(entry.name);
    const double bytes = codec->EncodedBytes(WholePiece(shape), DType::kF32);
    EXPECT_EQ(cells[1], absl::StrFormat("%.4f", bytes / shape.numel())) << entry.name;
    const double alpha = codec->Contraction(shape);
    EXPECT_EQ(cells[2], alpha == 0 ? "none" : absl::StrFormat("%.4f", alpha)) << entry.name;
    const double lost = SquaredDistance(ThereAndBack(*codec, shape, v), v) / SquaredNorm(v);
    EXPECT_NEAR(std::stod(cells[3]), lost, 6e-5) << entry.name;
  }
  EXPECT_EQ(lines.size(), Codecs().size() + 1);  // And the head.
}

TEST(CodecChecksTest, WhatMakesNoSenseIsRefusedByName) {
  const auto message = [](absl::string_view name, const ParamMap& params) {
    return std::string(MakeCodec(name, params).status().message());
  };
  EXPECT_NE(message("top_j", {}).find("did you mean 'top_k'"), std::string::npos);
  EXPECT_NE(message("top_k", {{"k", "17"}, {"block", "16"}})
                .find("k = 17 is larger than its blocks of 16"),
            std::string::npos);
  EXPECT_NE(message("rand_k", {{"fraction", "0"}}).find("keeps nothing"), std::string::npos);
  EXPECT_FALSE(MakeCodec("top_k", {{"fraction", "1.5"}}).ok());
  EXPECT_FALSE(MakeCodec("powersgd", {{"rank", "0"}}).ok());
  EXPECT_FALSE(MakeCodec("sign", {{"norm", "l3"}}).ok());
  const Status k = CodecOrDie("top_k", {{"k", "9"}})->Check({2, 4});
  EXPECT_EQ(k.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(k.message().find("k = 9 is larger than the vector [2, 4]"), absl::string_view::npos);
  EXPECT_TRUE(CodecOrDie("top_k", {{"k", "8"}})->Check({2, 4}).ok());
  const Status low_rank = CodecOrDie("powersgd")->Check({64});
  EXPECT_EQ(low_rank.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(low_rank.message().find("powersgd on vectors"), absl::string_view::npos);
}

}  // namespace
}  // namespace trireme
