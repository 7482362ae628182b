#include "core/io/crc32c.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace trireme {
namespace {

using Extend = uint32_t (*)(uint32_t, const void*, size_t);

class Crc32cTest : public ::testing::TestWithParam<Extend> {
 protected:
  void SetUp() override {
    if (GetParam() == internal::ExtendCrc32cSse42 && !internal::HaveSse42()) {
      GTEST_SKIP() << "the processor has no SSE4.2";
    }
  }
};

// RFC 3720, appendix B.4, and the check value of the catalogue of CRC algorithms.
TEST_P(Crc32cTest, KnownAnswers) {
  std::vector<uint8_t> bytes(32, 0);
  EXPECT_EQ(GetParam()(0, bytes.data(), 32), 0x8A9136AA);
  std::fill(bytes.begin(), bytes.end(), 0xFF);
  EXPECT_EQ(GetParam()(0, bytes.data(), 32), 0x62A8AB43);
  for (int i = 0; i < 32; ++i) bytes[i] = i;
  EXPECT_EQ(GetParam()(0, bytes.data(), 32), 0x46DD794E);
  for (int i = 0; i < 32; ++i) bytes[i] = 31 - i;
  EXPECT_EQ(GetParam()(0, bytes.data(), 32), 0x113FDB5C);
  EXPECT_EQ(GetParam()(0, "123456789", 9), 0xE3069283);
  EXPECT_EQ(GetParam()(0, nullptr, 0), 0);
}

TEST_P(Crc32cTest, EverySplitAndAlignmentAgrees) {
  std::string text(61, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 37);
  for (size_t begin = 0; begin < 9; ++begin) {
    const uint32_t whole = Crc32c(text.data() + begin, text.size() - begin);
    for (size_t cut = begin; cut <= text.size(); ++cut) {
      const uint32_t first = GetParam()(0, text.data() + begin, cut - begin);
      EXPECT_EQ(GetParam()(first, text.data() + cut, text.size() - cut), whole);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Implementations, Crc32cTest,
                         ::testing::Values(&internal::ExtendCrc32cTables,
                                           &internal::ExtendCrc32cSse42));

}  // namespace
}  // namespace trireme
