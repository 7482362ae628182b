// What the tests of mixers share: codecs and bundles to mix, and how one replica mixes.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "parallel/sync/mix_parts.h"
#include "parallel/sync/mixer.h"
#include "tests/testing/ranks.h"

namespace trireme::mixing {

template <typename T>
T ValueOf(StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return *std::move(value);
}

class MixingTest : public ::testing::TestWithParam<testing::TestWorld> {
 protected:
  int size() const { return GetParam().size; }
};

struct CodecCase {
  const char* name;
  ParamMap params;
};
inline const CodecCase kMixedCodecs[] = {
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

inline bool IsLinear(const Codec& codec) { return codec.num_linear_passes() > 0; }

// Pieces of several parameters, one of them cut between blocks, one empty.
inline std::vector<CodecPiece> Pieces(const Codec& codec) {
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
inline std::vector<double> ValuesOf(int k, int64_t t, int64_t n) {
  const RngKey key = MakeRngKey(7, "values", 100 * t + k);
  std::vector<double> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = NormalAt(key, i);
  return values;
}

// Sum 1; of three replicas or more, the second has none.
inline std::vector<double> UnevenWeights(int num_replicas) {
  std::vector<double> weights(num_replicas);
  for (int k = 0; k < num_replicas; ++k) weights[k] = k == 1 && num_replicas > 2 ? 0 : k + 1;
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
  return weights;
}

inline std::vector<double> EvenWeights(int num_replicas) {
  return std::vector<double>(num_replicas, 1.0 / num_replicas);
}

// C(v), with pieces encoded whole, in `dtype`.
inline std::vector<double> Sent(Device& device, const MixBundle& bundle,
                                const std::vector<double>& values, DType dtype) {
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

inline std::vector<double> WeightedSum(const std::vector<std::vector<double>>& all,
                                       absl::Span<const double> weights) {
  std::vector<double> sum(all[0].size(), 0.0);
  for (size_t k = 0; k < all.size(); ++k) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += weights[k] * all[k][i];
  }
  return sum;
}

inline int64_t LinearStateSize(const MixBundle& bundle) {
  int64_t size = 0;
  for (const CodecPiece& piece : bundle.pieces) size += bundle.codec.LinearStateSize(piece);
  return size;
}

inline Tensor LinearState(Device& device, const MixBundle& bundle, DType dtype) {
  const Tensor state = Tensor::Zeros(device, {LinearStateSize(bundle)}, dtype);
  int64_t at = 0;
  for (const CodecPiece& piece : bundle.pieces) {
    const int64_t own = bundle.codec.LinearStateSize(piece);
    bundle.codec.LinearStart(piece, bundle.round.seed, Elements(state, at, own));
    at += own;
  }
  return state;
}

inline double Tolerance(DType dtype) { return dtype == DType::kF64 ? 1e-14 : 2e-6; }

inline void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected,
                       double tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], tolerance) << what << " element " << i;
  }
}

// The same bits on all ranks.
inline void ExpectSame(Communicator& world, const Tensor& values, const std::string& what) {
  const int64_t bytes = values.numel() * DTypeSize(values.dtype());
  const Tensor all =
      Tensor::Empty(values.device(), {world.size() * values.numel()}, values.dtype());
  ThrowIfError(world.AllGather(values, all, {"compare"})->Wait());
  for (int k = 0; k < world.size() && bytes > 0; ++k) {
    EXPECT_EQ(std::memcmp(static_cast<char*>(all.raw()) + k * bytes, values.raw(), bytes), 0)
        << what << " rank " << k;
  }
}

inline int64_t SentSoFar(Communicator& world) {
  const auto sent = world.journal().SentBytes();
  const auto it = sent.find({world.axis(), "exchange"});
  return it == sent.end() ? 0 : it->second;
}

// One mix of this replica, and what it must be.
struct Mixed {
  Tensor values, mean, sent, linear_state, server_error, push_weight;
};

inline Mixed Start(Device& device, DType dtype, const std::vector<double>& values) {
  const int64_t n = static_cast<int64_t>(values.size());
  Mixed mixed;
  mixed.values = Tensor::FromVector(device, {n}, values, dtype);
  mixed.mean = Tensor::Full(device, {n}, dtype, -99);
  mixed.sent = Tensor::Full(device, {n}, dtype, -99);
  return mixed;
}

inline Status Mix(const Mixer& mixer, Communicator& world, const MixBundle& bundle,
                  const Mixed& mixed) {
  ASSIGN_OR_RETURN(const auto mix,
                   mixer.Start({world, bundle, mixed.values, mixed.mean, mixed.sent,
                                mixed.linear_state, mixed.server_error, mixed.push_weight}));
  return mix->Finish();
}

}  // namespace trireme::mixing
