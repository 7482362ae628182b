// Every mixer on every world is its definition, computed here one replica after another in f64.
#include "parallel/sync/mixer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/device/cpu/cpu_device.h"
#include "parallel/sync/mix_parts.h"
#include "parallel/sync/mixers.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using testing::OnRanks;

template <typename T>
T ValueOf(StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return *std::move(value);
}

struct CodecCase {
  const char* name;
  ParamMap params;
};
const CodecCase kCodecs[] = {
    {"identity", {}},
    {"f16", {}},
    {"bf16", {}},
    {"int8", {{"block", "8"}}},
    {"fp8_e4m3", {{"block", "16"}}},
    {"e3m0", {{"block", "32"}}},
    {"two_bit", {{"block", "64"}}},
    {"sign", {{"block", "8"}}},
    {"top_k", {{"k", "3"}, {"block", "8"}}},
    {"top_k", {{"fraction", "0.4"}, {"block", "0"}}},
    {"rand_k", {{"k", "3"}, {"block", "8"}}},
    {"powersgd", {}},
};

TEST(MixerCasesTest, EveryCodecIsAmongThem) {
  for (const Entry<CodecFactory>& entry : Codecs()) {
    EXPECT_TRUE(std::any_of(std::begin(kCodecs), std::end(kCodecs), [&](const CodecCase& c) {
      return c.name == std::string(entry.name);
    })) << entry.name;
  }
}

bool IsLinear(const Codec& codec) { return codec.num_linear_passes() > 0; }

// Pieces of several parameters, one of them cut between blocks, one empty.
std::vector<CodecPiece> Pieces(const Codec& codec) {
  const bool whole = codec.block_size() == 0;
  std::vector<CodecPiece> pieces = {
      {11, {5, 7}, 0, 35},
      {22, {whole ? 0 : 9, 3}, 0, 0},
      {33, {20, 13}, whole ? 0 : 64, whole ? 260 : 196},
      {44, {2, 2}, 0, 4},
  };
  return pieces;
}

// What replica k has in round t.
std::vector<double> ValuesOf(int k, int64_t t, int64_t n) {
  const RngKey key = MakeRngKey(7, "values", 100 * t + k);
  std::vector<double> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = NormalAt(key, i);
  return values;
}

// Sum 1; of three replicas or more, the second has none.
std::vector<double> UnevenWeights(int num_replicas) {
  std::vector<double> weights(num_replicas);
  for (int k = 0; k < num_replicas; ++k) weights[k] = k == 1 && num_replicas > 2 ? 0 : k + 1;
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
  return weights;
}

std::vector<double> EvenWeights(int num_replicas) {
  return std::vector<double>(num_replicas, 1.0 / num_replicas);
}

// C(v), with pieces encoded whole, in `dtype`.
std::vector<double> Sent(Device& device, const MixBundle& bundle, const std::vector<double>& values,
                         DType dtype) {
  const int64_t n = static_cast<int64_t>(values.size());
  const Tensor v = Tensor::FromVector(device, {n}, values, dtype);
  int64_t offset = 0;
  for (const CodecPiece& piece : bundle.pieces) {
    std::vector<uint8_t> bytes(bundle.codec.EncodedBytes(piece, dtype));
    const View view = Elements(v, offset, piece.size);
    bundle.codec.Encode(piece, bundle.round, view, absl::MakeSpan(bytes));
    bundle.codec.Decode(piece, bundle.round, bytes, view);
    offset += piece.size;
  }
  return v.ToVector();
}

std::vector<double> WeightedSum(const std::vector<std::vector<double>>& all,
                                absl::Span<const double> weights) {
  std::vector<double> sum(all[0].size(), 0.0);
  for (size_t k = 0; k < all.size(); ++k) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += weights[k] * all[k][i];
  }
  return sum;
}

int64_t LinearStateSize(const MixBundle& bundle) {
  int64_t size = 0;
  for (const CodecPiece& piece : bundle.pieces) size += bundle.codec.LinearStateSize(piece);
  return size;
}

Tensor LinearState(Device& device, const MixBundle& bundle, DType dtype) {
  const Tensor state = Tensor::Zeros(device, {LinearStateSize(bundle)}, dtype);
  int64_t at = 0;
  for (const CodecPiece& piece : bundle.pieces) {
    const int64_t own = bundle.codec.LinearStateSize(piece);
    bundle.codec.LinearStart(piece, bundle.round.seed, Elements(state, at, own));
    at += own;
  }
  return state;
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

double Tolerance(DType dtype) { return dtype == DType::kF64 ? 1e-14 : 2e-6; }

void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected,
                double tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], tolerance) << what << " element " << i;
  }
}

// The same bits on all ranks.
void ExpectSame(Communicator& world, const Tensor& values, const std::string& what) {
  const int64_t bytes = values.numel() * DTypeSize(values.dtype());
  const Tensor all =
      Tensor::Empty(values.device(), {world.size() * values.numel()}, values.dtype());
  ThrowIfError(world.AllGather(values, all, {"compare"})->Wait());
  for (int k = 0; k < world.size() && bytes > 0; ++k) {
    EXPECT_EQ(std::memcmp(static_cast<char*>(all.raw()) + k * bytes, values.raw(), bytes), 0)
        << what << " rank " << k;
  }
}

int64_t SentSoFar(Communicator& world) {
  const auto sent = world.journal().SentBytes();
  const auto it = sent.find({world.axis(), "exchange"});
  return it == sent.end() ? 0 : it->second;
}

class MixerTest : public ::testing::TestWithParam<testing::TestWorld> {
 protected:
  int size() const { return GetParam().size; }
};
INSTANTIATE_TEST_SUITE_P(Worlds, MixerTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

// One mix of this replica, and what it must be.
struct Mixed {
  Tensor values, mean, sent, linear_state, server_error, push_weight;
};

Mixed Start(Device& device, DType dtype, const std::vector<double>& values) {
  const int64_t n = static_cast<int64_t>(values.size());
  Mixed mixed;
  mixed.values = Tensor::FromVector(device, {n}, values, dtype);
  mixed.mean = Tensor::Full(device, {n}, dtype, -99);
  mixed.sent = Tensor::Full(device, {n}, dtype, -99);
  return mixed;
}

Status Mix(const Mixer& mixer, Communicator& world, const MixBundle& bundle, const Mixed& mixed) {
  ASSIGN_OR_RETURN(const auto mix,
                   mixer.Start({world, bundle, mixed.values, mixed.mean, mixed.sent,
                                mixed.linear_state, mixed.server_error, mixed.push_weight}));
  return mix->Finish();
}

TEST_P(MixerTest, MeansAreTheirDefinition) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const int rank = world.rank();
    for (const CodecCase& codec_case : kCodecs) {
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
    for (const CodecCase& codec_case : kCodecs) {
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

TEST_P(MixerTest, GossipConservesThePushSumMean) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const int rank = world.rank();
    const std::vector<double> even = EvenWeights(size());
    for (const CodecCase& codec_case : kCodecs) {
      const auto codec = ValueOf(MakeCodec(codec_case.name, codec_case.params));
      const std::vector<CodecPiece> pieces = Pieces(*codec);
      const int64_t n = NumElements(pieces);
      for (const std::string name : {"gossip", "random_partner"}) {
        const auto mixer = ValueOf(MakeMixer(name));
        EXPECT_FALSE(mixer->means());
        for (const bool regular : {true, false}) {
          if (!regular && name != "gossip") continue;
          std::vector<std::vector<double>> z;
          std::vector<double> w(size(), 1.0);
          for (int k = 0; k < size(); ++k) {
            z.push_back(ValuesOf(k, 0, n));
            if (!regular) w[k] = 0.5 + k;
          }
          const std::vector<double> kept = WeightedSum(z, w);
          Mixed mixed = Start(device, DType::kF64, z[rank]);
          mixed.push_weight = Tensor::Full(device, {1}, DType::kF64, w[rank]);
          for (int64_t round = 0; round < 5; ++round) {
            const std::string what = absl::StrCat(name, " ", codec_case.name, " ", round);
            const MixBundle bundle = {*codec, pieces, {3, round}, even};
            const int64_t sent_before = SentSoFar(world);
            const bool in_place = round % 2 == 1;
            if (in_place) mixed.mean = mixed.values;
            RETURN_IF_ERROR(Mix(*mixer, world, bundle, mixed));
            EXPECT_EQ(SentSoFar(world) - sent_before,
                      mixer->SentBytes(bundle, DType::kF64, {rank, size()}))
                << what;
            // All replicas, one after another.
            std::vector<std::vector<double>> c, next(size(), std::vector<double>(n));
            std::vector<double> next_w(size());
            for (int k = 0; k < size(); ++k) c.push_back(Sent(device, bundle, z[k], DType::kF64));
            EXPECT_EQ(mixed.sent.numel(), n);
            const std::vector<int> partners = DrawPartners(bundle.round, size());
            for (int k = 0; k < size(); ++k) {
              const int from = name == "gossip" ? (k - GossipShift(round, size()) + size()) % size()
                                                : partners[k];
              if (from == k) {
                next[k] = z[k];
                next_w[k] = w[k];
                continue;
              }
              next_w[k] = (w[k] + w[from]) / 2;
              for (int64_t i = 0; i < n; ++i) {
                next[k][i] =
                    (w[k] * z[k][i] - w[k] / 2 * c[k][i] + w[from] / 2 * c[from][i]) / next_w[k];
              }
            }
            z = next;
            w = next_w;
            ExpectNear(mixed.mean.ToVector(), z[rank], 1e-13, what);
            EXPECT_DOUBLE_EQ(mixed.push_weight.Item(), w[rank]) << what;
            if (regular) {
              EXPECT_EQ(mixed.push_weight.Item(), 1) << what;
            }
            // sum_k w_k z_k, of what the replicas really have.
            const Tensor sum = mixed.mean.CopyTo(DType::kF64);
            Scale(Elements(sum, 0, n), mixed.push_weight.Item());
            RETURN_IF_ERROR(world.AllReduce(sum, {"compare"})->Wait());
            ExpectNear(sum.ToVector(), kept, 1e-13 * size() * size(), what);
            if (!in_place) mixed.values.CopyFrom(mixed.mean);
          }
        }
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(MixerTest, GossipOfAPowerOfTwoReachesTheMeanInALogarithmOfRounds) {
  if ((size() & (size() - 1)) != 0) return;
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const auto codec = ValueOf(MakeCodec("identity"));
    const std::vector<CodecPiece> pieces = {{1, {6}, 0, 6}};
    const auto mixer = ValueOf(MakeMixer("gossip"));
    const std::vector<double> even = EvenWeights(size());
    std::vector<std::vector<double>> all;
    for (int k = 0; k < size(); ++k) all.push_back(ValuesOf(k, 0, 6));
    Mixed mixed = Start(device, DType::kF64, all[world.rank()]);
    mixed.mean = mixed.values;
    for (int64_t round = 0; (1 << round) < size(); ++round) {
      RETURN_IF_ERROR(Mix(*mixer, world, {*codec, pieces, {3, round}, even}, mixed));
    }
    ExpectNear(mixed.mean.ToVector(), WeightedSum(all, even), 1e-15, "mean");
    return absl::OkStatus();
  });
}

TEST(DrawTest, PartnersAreAMatchingAndEveryPairMeets) {
  for (int size = 1; size <= 9; ++size) {
    std::vector<std::vector<int>> met(size, std::vector<int>(size, 0));
    const int kRounds = 400;
    for (int64_t round = 0; round < kRounds; ++round) {
      const std::vector<int> partners = DrawPartners({9, round}, size);
      int alone = 0;
      for (int k = 0; k < size; ++k) {
        ASSERT_EQ(partners[partners[k]], k);
        alone += partners[k] == k;
        ++met[k][partners[k]];
      }
      ASSERT_EQ(alone, size % 2);
    }
    // Each other replica as often: 400 draws of probability p, within 5 standard deviations.
    const double p = size % 2 == 1 ? 1.0 / size : 1.0 / (size - 1);
    for (int k = 0; k < size; ++k) {
      for (int j = 0; j < size; ++j) {
        if (j == k && size % 2 == 0) continue;
        EXPECT_NEAR(met[k][j], kRounds * p, 5 * std::sqrt(kRounds * p * (1 - p)) + 1e-9);
      }
    }
    if (size > 2) {
      EXPECT_NE(DrawPartners({9, 0}, 9), DrawPartners({10, 0}, 9));
    }
  }
}

TEST(DrawTest, GossipShiftsRunThroughThePowersBelowTheSize) {
  EXPECT_EQ(GossipShift(3, 1), 0);
  for (int size = 2; size <= 17; ++size) {
    std::vector<int> shifts;
    for (int shift = 1; shift < size; shift *= 2) shifts.push_back(shift);
    for (int64_t round = 0; round < 40; ++round) {
      EXPECT_EQ(GossipShift(round, size), shifts[round % shifts.size()]);
    }
  }
}

TEST(DrawTest, SubsetsHaveTheirSizeAndSumToOne) {
  const std::vector<double> weights = {0.1, 0.0, 0.4, 0.2, 0.3};
  for (int m = 1; m <= 5; ++m) {
    std::vector<int> drawn(5, 0);
    for (int64_t round = 0; round < 500; ++round) {
      const std::vector<double> even = DrawScaledSubset({4, round}, EvenWeights(5), m);
      const std::vector<double> chosen = DrawScaledSubset({4, round}, weights, m);
      double sum = 0, given = 0;
      int count = 0;
      for (int k = 0; k < 5; ++k) {
        count += even[k] != 0;
        drawn[k] += even[k] != 0;
        sum += chosen[k];
        if (even[k] != 0) {
          EXPECT_DOUBLE_EQ(even[k], 1.0 / m);
          given += weights[k];
        } else {
          EXPECT_EQ(chosen[k], 0);
        }
      }
      EXPECT_EQ(count, m);
      EXPECT_NEAR(sum, 1, 1e-15);
      for (int k = 0; k < 5 && given > 0; ++k) {
        if (even[k] != 0) {
          EXPECT_DOUBLE_EQ(chosen[k], weights[k] / given);
        }
      }
      if (given == 0) {
        EXPECT_EQ(chosen[1], 1);  // The one without a weight, alone.
      }
    }
    const double p = m / 5.0;
    for (const int count : drawn)
      EXPECT_NEAR(count, 500 * p, 5 * std::sqrt(500 * p * (1 - p)) + 1e-9);
  }
}

TEST_P(MixerTest, WhatTakesNoPartDoesNotPoisonAndWhatDoesIsSeen) {
  if (size() < 3) return;
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const std::vector<double> weights = UnevenWeights(size());
    for (const CodecCase& codec_case : kCodecs) {
      const auto codec = ValueOf(MakeCodec(codec_case.name, codec_case.params));
      const std::vector<CodecPiece> pieces = Pieces(*codec);
      const int64_t n = NumElements(pieces);
      for (const std::string name : {"all_reduce", "all_gather", "scatter_gather"}) {
        if (name == "all_reduce" && !IsLinear(*codec)) continue;
        const auto mixer = ValueOf(MakeMixer(name));
        for (const int bad : {1, 2}) {  // The one without a weight, and one with.
          const MixBundle bundle = {*codec, pieces, {5, 0}, weights};
          std::vector<double> values = ValuesOf(world.rank(), 0, n);
          if (world.rank() == bad) values.assign(n, std::nan(""));
          Mixed mixed = Start(device, DType::kF32, values);
          mixed.linear_state = LinearState(device, bundle, DType::kF32);
          RETURN_IF_ERROR(Mix(*mixer, world, bundle, mixed));
          int64_t not_finite = 0;
          for (const double value : mixed.mean.ToVector()) not_finite += !std::isfinite(value);
          if (bad == 1) {
            EXPECT_EQ(not_finite, 0) << name << " " << codec_case.name;
          } else {
            EXPECT_GT(not_finite, 0) << name << " " << codec_case.name;
          }
        }
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(MixerTest, ThreadsNeverChangeBitsAndNothingIsLegal) {
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    CpuDevice threads({3, 0}, device.kernels());
    const std::vector<double> values = ValuesOf(world.rank(), 0, 40'017);
    const std::vector<double> weights = UnevenWeights(size());
    for (const Entry<MixerFactory>& entry : Mixers()) {
      const std::string name = entry.name;
      const auto mixer =
          ValueOf(MakeMixer(name, name == "subset" ? ParamMap{{"participants", "1"}} : ParamMap{}));
      const auto codec =
          ValueOf(name == "all_reduce" ? MakeCodec("rand_k", {{"k", "3"}, {"block", "8"}})
                                       : MakeCodec("top_k", {{"k", "3"}, {"block", "8"}}));
      const std::vector<CodecPiece> pieces = {{1, {40'000}, 0, 40'000}, {2, {17}, 0, 17}};
      std::vector<std::vector<double>> means;
      for (Device* on : {&device, static_cast<Device*>(&threads)}) {
        Mixed mixed = Start(*on, DType::kF32, values);
        RETURN_IF_ERROR(Mix(*mixer, world, {*codec, pieces, {5, 0}, weights}, mixed));
        means.push_back(mixed.mean.ToVector());
      }
      EXPECT_EQ(means[0], means[1]) << name;
      Mixed mixed = Start(device, DType::kF32, {});
      RETURN_IF_ERROR(Mix(*mixer, world, {*codec, {}, {5, 0}, weights}, mixed));
    }
    return absl::OkStatus();
  });
}

TEST_P(MixerTest, StartWaitsForNobody) {
  if (size() < 2) return;
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    const auto codec = ValueOf(MakeCodec("identity"));
    const std::vector<CodecPiece> pieces = {{1, {5000}, 0, 5000}};
    const std::vector<double> weights = EvenWeights(size());
    for (const Entry<MixerFactory>& entry : Mixers()) {
      const std::string name = entry.name;
      const auto mixer =
          ValueOf(MakeMixer(name, name == "subset" ? ParamMap{{"participants", "1"}} : ParamMap{}));
      const Tensor token = Tensor::Zeros(device, {1}, DType::kF32);
      ASSIGN_OR_RETURN(const auto other, world.Split(0, 0, "other"));
      Mixed mixed = Start(device, DType::kF32, ValuesOf(world.rank(), 0, 5000));
      // Ranks start one after another, each when the one before has.
      if (world.rank() > 0) {
        RETURN_IF_ERROR(other->Recv(token, world.rank() - 1, {"turn"})->Wait());
      }
      ASSIGN_OR_RETURN(const auto mix, mixer->Start({world,
                                                     {*codec, pieces, {5, 0}, weights},
                                                     mixed.values,
                                                     mixed.mean,
                                                     mixed.sent,
                                                     {},
                                                     {},
                                                     {}}));
      if (world.rank() + 1 < size()) {
        RETURN_IF_ERROR(other->Send(token, world.rank() + 1, {"turn"})->Wait());
      }
      RETURN_IF_ERROR(mix->Finish());
    }
    return absl::OkStatus();
  });
}

TEST_P(MixerTest, ARankThatDoesNotFinishIsNamed) {
  if (size() < 2) return;
  CommOptions options;
  options.deadline = absl::Seconds(1);
  const int missing = size() - 1;
  OnRanks(GetParam(), options, [&](Device& device, Communicator& world) -> Status {
    const auto codec = ValueOf(MakeCodec("identity"));
    const std::vector<CodecPiece> pieces = {{1, {5000}, 0, 5000}};
    const std::vector<double> weights = EvenWeights(size());
    // The missing rank comes to the first phase of one, and not to the second; to the others not at
    // all.
    const std::vector<std::string> names = {"scatter_gather", "all_gather", "gossip"};
    std::vector<std::unique_ptr<Communicator>> groups(names.size());
    std::vector<std::unique_ptr<Mixer>> mixers;
    std::vector<std::unique_ptr<PendingMix>> mixes;
    for (size_t i = 0; i < names.size(); ++i) {
      ASSIGN_OR_RETURN(groups[i], world.Split(0, 0, names[i]));
    }
    RETURN_IF_ERROR(world.Barrier({"begin"})->Wait());
    for (size_t i = 0; i < names.size(); ++i) {
      if (world.rank() == missing && i > 0) break;
      mixers.push_back(ValueOf(MakeMixer(names[i])));
      const Mixed mixed = Start(device, DType::kF32, ValuesOf(world.rank(), 0, 5000));
      ASSIGN_OR_RETURN(mixes.emplace_back(), mixers[i]->Start({*groups[i],
                                                               {*codec, pieces, {5, 0}, weights},
                                                               mixed.values,
                                                               mixed.mean,
                                                               mixed.sent,
                                                               {},
                                                               {},
                                                               {}}));
    }
    if (world.rank() == missing) {
      absl::SleepFor(absl::Milliseconds(500));  // Its first phase is done.
      return absl::OkStatus();
    }
    const absl::Time begin = absl::Now();
    for (size_t i = 0; i < names.size(); ++i) {
      const Status status = mixes[i]->Finish();
      if (names[i] == "gossip" && world.rank() != 0 && world.rank() + 1 != missing) {
        EXPECT_TRUE(status.ok()) << status;  // Has neither to send to it nor to hear from it.
        continue;
      }
      EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << names[i];
      EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("rank ", missing)));
      EXPECT_THAT(std::string(status.message()), HasSubstr(names[i] + " rank"));
      EXPECT_THAT(std::string(status.message()), HasSubstr("exchange"));
    }
    EXPECT_LT(absl::Now() - begin, absl::Seconds(4));
    return absl::OkStatus();
  });
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
