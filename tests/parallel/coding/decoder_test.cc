#include "parallel/coding/decoder.h"

#include "tests/parallel/coding/code_checks.h"

namespace trireme {
namespace {

TEST(DecoderTest, KeepsTheDecodingsAskedForLast) {
  const auto code = CodeOf("fractional_repetition", 4, {{"s", "1"}});
  Decoder decoder(*code, 2);
  const auto ask = [&](uint64_t survivors) {
    const StatusOr<const Decoding*> decoding = decoder.Decode(Arrived(4, survivors));
    ASSERT_TRUE(decoding.ok());
    EXPECT_EQ((*decoding)->terms, code->Decode(Arrived(4, survivors))->terms);
  };
  ask(0b1111);
  ask(0b0111);
  ask(0b1111);
  EXPECT_EQ(decoder.num_solved(), 2);
  ask(0b1110);  // In place of 0111.
  ask(0b1111);
  EXPECT_EQ(decoder.num_solved(), 3);
  ask(0b0111);
  EXPECT_EQ(decoder.num_solved(), 4);
}

TEST(DecoderTest, WhatDoesNotDecodeIsNotKept) {
  const auto code = CodeOf("uncoded", 2);
  Decoder decoder(*code, 1);
  EXPECT_EQ(decoder.Decode(Arrived(2, 1)).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(decoder.Decode(Arrived(2, 3)).ok());
}

}  // namespace
}  // namespace trireme
