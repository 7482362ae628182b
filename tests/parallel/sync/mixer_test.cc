// Every mixer on every world is its definition, computed here one replica after another in f64.
#include "parallel/sync/mixer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/device/cpu/cpu_device.h"
#include "parallel/sync/mixers.h"
#include "tests/parallel/sync/mixer_case.h"

namespace trireme {
namespace {

using mixing::CodecCase;
using mixing::EvenWeights;
using mixing::ExpectNear;
using mixing::ExpectSame;
using mixing::IsLinear;
using mixing::kMixedCodecs;
using mixing::LinearState;
using mixing::Mix;
using mixing::Mixed;
using mixing::Pieces;
using mixing::Sent;
using mixing::SentSoFar;
using mixing::Start;
using mixing::Tolerance;
using mixing::UnevenWeights;
using mixing::ValueOf;
using mixing::ValuesOf;
using mixing::WeightedSum;
using ::testing::HasSubstr;
using testing::OnRanks;

class MixerTest : public mixing::MixingTest {};
INSTANTIATE_TEST_SUITE_P(Worlds, MixerTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST(MixerCasesTest, EveryCodecIsAmongThem) {
  for (const Entry<CodecFactory>& entry : Codecs()) {
    EXPECT_TRUE(std::any_of(std::begin(kMixedCodecs), std::end(kMixedCodecs),
                            [&](const CodecCase& c) { return c.name == std::string(entry.name); }))
        << entry.name;
  }
}

// What all-reduces of a linear codec come to, and each replica's C(v): piece by piece, replica by
// replica. `state` is that of one replica and changes.
std::vector<double> LinearMean(Device& device, const MixBundle& bundle,
                               const std::vector<std::vector<double>>& values,
                               absl::Span<const double> weights, DType dtype, const Tensor& state,
                               std::vector<std::vector<double>>* sent) {
  const int64_t n = static_cast<int64_t>(values[0].size());
  const int passes = bundle.codec.num_linear_passes();
  const Tensor mean = Tensor::Zeros(device, {n}, dtype);
  std::vector<Tensor> decoded, all;
  for (const auto& v : values) {
    all.push_back(Tensor::FromVector(device, {n}, v, dtype));
    decoded.push_back(Tensor::Zeros(device, {n}, dtype));
  }
  int64_t offset = 0, state_offset = 0;
  for (const CodecPiece& piece : bundle.pieces) {
    const int64_t state_size = bundle.codec.LinearStateSize(piece);
    const View own_state = Elements(state, state_offset, state_size);
    for (int pass = 0; pass < passes; ++pass) {
      const int64_t size = bundle.codec.LinearSize(piece, pass);
      std::vector<double> sum(size, 0.0);
      for (size_t k = 0; k < values.size(); ++k) {
        if (weights[k] == 0) continue;
        const Tensor wire = Tensor::Zeros(device, {size}, dtype);
        bundle.codec.LinearEncode(pass, piece, bundle.round, Elements(all[k], offset, piece.size),
                                  own_state, Elements(wire, 0, size));
        const std::vector<double> encoded = wire.ToVector();
        for (int64_t i = 0; i < size; ++i) sum[i] += weights[k] * encoded[i];
        if (passes == 1) {
          bundle.codec.LinearDecode(pass, piece, bundle.round, Elements(wire, 0, size), own_state,
                                    Elements(decoded[k], offset, piece.size));
        }
      }
      const Tensor wire = Tensor::FromVector(device, {size}, sum, dtype);
      bundle.codec.LinearDecode(pass, piece, bundle.round, Elements(wire, 0, size), own_state,
                                Elements(mean, offset, piece.size));
    }
    offset += piece.size;
    state_offset += state_size;
  }
  for (size_t k = 0; k < values.size(); ++k) {
    sent->push_back((passes == 1 ? decoded[k] : mean).ToVector());
  }
  return mean.ToVector();
}

TEST_P(MixerTest, MeansAreTheirDefinition) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const int rank = world.rank();
    for (const CodecCase& codec_case : kMixedCodecs) {
      const auto codec = ValueOf(MakeCodec(codec_case.name, codec_case.params));
      const std::vector<CodecPiece> pieces = Pieces(*codec);
      const int64_t n = NumElements(pieces);
      for (const std::string name : {"all_reduce", "all_gather", "subset"}) {
        if (name == "all_reduce" && !IsLinear(*codec)) continue;
        const int participants = (size() + 1) / 2;
        const auto mixer = ValueOf(MakeMixer(
            name, name == "subset" ? ParamMap{{"participants", absl::StrCat(participants)}}
                                   : ParamMap{}));
        EXPECT_TRUE(mixer->means());
        EXPECT_TRUE(mixer->Check(*codec, size()).ok());
        for (const DType dtype : {DType::kF32, DType::kF64}) {
          for (int64_t round = 0; round < 3; ++round) {
            const std::string what = absl::StrCat(name, " ", codec_case.name, " of ",
                                                  DTypeName(dtype), " round ", round);
            const std::vector<double> given =
                round == 0 ? EvenWeights(size()) : UnevenWeights(size());
            const MixBundle bundle = {*codec, pieces, {5, round}, given};
            const std::vector<double> weights =
                name == "subset" ? DrawScaledSubset(bundle.round, given, participants) : given;

            const Tensor state = LinearState(device, bundle, dtype);
            std::vector<std::vector<double>> values, sent;
            for (int k = 0; k < size(); ++k) values.push_back(ValuesOf(k, round, n));
            std::vector<double> expected;
            if (name == "all_gather" || !IsLinear(*codec)) {
              for (const auto& v : values) sent.push_back(Sent(device, bundle, v, dtype));
              expected = WeightedSum(sent, weights);
            } else {
              expected = LinearMean(device, bundle, values, weights, dtype, state, &sent);
            }
            Mixed mixed = Start(device, dtype, ValuesOf(rank, round, n));
            mixed.linear_state = LinearState(device, bundle, dtype);
            const std::vector<double> before = mixed.values.ToVector();
            const int64_t sent_before = SentSoFar(world);
            RETURN_IF_ERROR(Mix(*mixer, world, bundle, mixed));
            EXPECT_EQ(SentSoFar(world) - sent_before,
                      mixer->SentBytes(bundle, dtype, {rank, size()}))
                << what;

            ExpectNear(mixed.mean.ToVector(), expected, Tolerance(dtype), what);
            if (name != "all_gather") {
              ExpectNear(mixed.linear_state.ToVector(), state.ToVector(), Tolerance(dtype), what);
            }
            ExpectSame(world, mixed.mean, what);
            EXPECT_EQ(mixed.values.ToVector(), before) << what;
            const std::vector<double> own_sent = mixed.sent.ToVector();
            if (weights[rank] == 0) {
              EXPECT_EQ(own_sent, std::vector<double>(n, 0)) << what;
            } else if (name != "all_gather" && codec->num_linear_passes() > 1) {
              EXPECT_EQ(own_sent, mixed.mean.ToVector()) << what;
            } else {
              EXPECT_EQ(own_sent, sent[rank]) << what;
            }

            // In place, and without `sent`: the same bits.
            const std::vector<double> mean = mixed.mean.ToVector();
            mixed.mean = mixed.values;
            mixed.sent = {};
            mixed.linear_state = LinearState(device, bundle, dtype);
            RETURN_IF_ERROR(Mix(*mixer, world, bundle, mixed));
            EXPECT_EQ(mixed.mean.ToVector(), mean) << what;
          }
        }
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(MixerTest, ScatterGatherConservesSums) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const int rank = world.rank();
    const auto mixer = ValueOf(MakeMixer("scatter_gather"));
    for (const CodecCase& codec_case : kMixedCodecs) {
      const auto codec = ValueOf(MakeCodec(codec_case.name, codec_case.params));
      const std::vector<CodecPiece> pieces = Pieces(*codec);
      const int64_t n = NumElements(pieces);
      for (const DType dtype : {DType::kF32, DType::kF64}) {
        // Error feedback on both sides: of the replica (whole) and of the server (its range).
        std::vector<double> own_error(n, 0.0);
        std::vector<std::vector<double>> errors(size(), own_error);
        std::vector<double> server(n, 0.0);  // Of all ranges.
        Tensor server_error;
        for (int64_t round = 0; round < 4; ++round) {
          const std::string what = absl::StrCat(codec_case.name, " ", DTypeName(dtype), " ", round);
          const std::vector<double> weights = UnevenWeights(size());
          const MixBundle bundle = {*codec, pieces, {5, round}, weights};
          const Mixer::Range range = mixer->ServerErrorRange(bundle, {rank, size()});
          if (round == 0) server_error = Tensor::Zeros(device, {range.size()}, dtype);

          // All replicas, one after another.
          std::vector<std::vector<double>> sent(size());
          std::vector<double> own;
          for (int k = 0; k < size(); ++k) {
            std::vector<double> v = ValuesOf(k, round, n);
            for (int64_t i = 0; i < n; ++i) v[i] += errors[k][i];
            v = Tensor::FromVector(device, {n}, v, dtype).ToVector();
            if (k == rank) own = v;
            sent[k] =
                weights[k] == 0 ? std::vector<double>(n, 0.0) : Sent(device, bundle, v, dtype);
            for (int64_t i = 0; i < n; ++i) errors[k][i] = v[i] - sent[k][i];
          }
          std::vector<double> x = WeightedSum(sent, weights);

          Mixed mixed = Start(device, dtype, own);
          mixed.server_error = server_error;
          const int64_t sent_before = SentSoFar(world);
          RETURN_IF_ERROR(Mix(*mixer, world, bundle, mixed));
          EXPECT_EQ(SentSoFar(world) - sent_before, mixer->SentBytes(bundle, dtype, {rank, size()}))
              << what;
          EXPECT_EQ(mixed.sent.ToVector(), sent[rank]) << what;
          ExpectSame(world, mixed.mean, what);

          // What went in is what came out and what is left, of every element.
          const std::vector<double> mean = mixed.mean.ToVector(), left = server_error.ToVector();
          for (int64_t i = range.first; i < range.last; ++i) {
            const double in = x[i] + server[i], out = mean[i] + left[i - range.first];
            EXPECT_NEAR(in, out, (dtype == DType::kF64 ? 2e-15 : 1e-6) * (1 + std::abs(in)))
                << what << " element " << i;
          }
          // The mean is the encoding of that.
          std::vector<int64_t> counts;
          for (int k = 0; k < size(); ++k) {
            counts.push_back(mixer->ServerErrorRange(bundle, {k, size()}).size());
          }
          const Tensor all = Tensor::Empty(device, {n}, dtype);
          Call call{"compare"};
          call.counts = counts;
          RETURN_IF_ERROR(world.AllGather(server_error, all, call)->Wait());
          const std::vector<double> all_left = all.ToVector();
          std::vector<double> encoded(n);
          for (int64_t i = 0; i < n; ++i) encoded[i] = mean[i] + all_left[i];
          ExpectNear(Sent(device, bundle, encoded, dtype), mean, Tolerance(dtype), what);
          server = all_left;
        }
      }
    }
    return absl::OkStatus();
  });
}

TEST(MixPartsTest, RangesAndPartsTileBundlesBetweenBlocks) {
  for (const char* block : {"0", "1", "4", "7", "100"}) {
    const auto codec = ValueOf(MakeCodec("top_k", {{"fraction", "0.5"}, {"block", block}}));
    const int64_t b = codec->block_size();
    for (int64_t cut = 0; cut < 40; ++cut) {
      const std::vector<CodecPiece> pieces = {
          {1, {cut}, 0, cut}, {2, {3}, 0, 3}, {3, {70'000}, 0, 70'000}, {4, {1}, 0, 1}};
      const int64_t total = NumElements(pieces);
      for (int size = 1; size <= 9; ++size) {
        const std::vector<int64_t> begins = CutRanges(*codec, pieces, size);
        ASSERT_EQ(begins.size(), static_cast<size_t>(size + 1));
        ASSERT_EQ(begins[0], 0);
        ASSERT_EQ(begins[size], total);
        int64_t next = 0, bytes = 0;
        for (int k = 0; k < size; ++k) {
          int64_t range_bytes = 0;
          for (const MixPart& part :
               CutParts(*codec, pieces, DType::kF32, {begins[k], begins[k + 1]})) {
            ASSERT_EQ(part.offset, next);
            ASSERT_GT(part.piece.size, 0);
            ASSERT_EQ(part.byte_offset, range_bytes);
            const int64_t end = part.piece.first + part.piece.size;
            if (b == 0) {
              ASSERT_EQ(part.piece.size, part.piece.parameter.numel());
            } else {
              ASSERT_EQ(part.piece.first % b, 0);
              ASSERT_TRUE(end % b == 0 || end == part.piece.parameter.numel());
            }
            next += part.piece.size;
            range_bytes += part.bytes;
          }
          ASSERT_EQ(next, begins[k + 1]);
          if (b > 0) {  // As even as blocks allow.
            ASSERT_LE(begins[k + 1] - begins[k], total / size + b) << size;
          }
          bytes += range_bytes;
        }
        ASSERT_EQ(bytes, BytesOf(CutParts(*codec, pieces, DType::kF32)));
      }
    }
  }
}

TEST(MixerChecksTest, RejectsByName) {
  const auto top_k = ValueOf(MakeCodec("top_k", {{"k", "3"}, {"block", "8"}}));
  const auto identity = ValueOf(MakeCodec("identity"));
  EXPECT_THAT(std::string(ValueOf(MakeMixer("all_reduce"))->Check(*top_k, 4).message()),
              HasSubstr("all_reduce"));
  const auto subset = ValueOf(MakeMixer("subset", {{"participants", "5"}}));
  EXPECT_THAT(std::string(subset->Check(*identity, 4).message()),
              HasSubstr("5 participants of 4 replicas"));
  EXPECT_TRUE(subset->Check(*identity, 5).ok());
  EXPECT_THAT(std::string(MakeMixer("subset").status().message()), HasSubstr("participants"));
  EXPECT_THAT(std::string(MakeMixer("subset", {{"participants", "0"}}).status().message()),
              HasSubstr("participants"));
  EXPECT_THAT(std::string(MakeMixer("al_reduce").status().message()), HasSubstr("all_reduce"));
}

}  // namespace
}  // namespace trireme
