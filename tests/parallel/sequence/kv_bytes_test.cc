// What every rank sends, by purpose, against closed forms. n: tokens of the rank, N: of all; e = g
// (d + dv) elements of a token's key and value; s bytes each, a in the accumulation type; c ranks.
//
// For equal parts of L = N / c tokens and d = dv those are the forms of the literature, but for
// two: the gradients of a ring make c - 1 hops and not c, since the owner's part stays at home; and
// the gradients that an all-gather scatters are in the accumulation type.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/autograd/node.h"
#include "parallel/sequence/kv_exchange.h"
#include "tests/parallel/sequence/kv_case.h"

namespace trireme {
namespace {

using testing::Cases;
using testing::KvCase;
using testing::Method;
using testing::Methods;
using testing::OnAxis;
using testing::Place;
using testing::Values;
using Bytes = std::map<std::string, int64_t>;

// Sends nothing: not in the maps that are compared.
void DropZeros(Bytes* bytes) {
  for (auto it = bytes->begin(); it != bytes->end();) {
    it = it->second == 0 ? bytes->erase(it) : std::next(it);
  }
}

// By this rank, by purpose; not the bytes that made the groups.
Bytes Sent(const Communicator& world, const Bytes& before = {}) {
  Bytes bytes;
  for (const auto& [key, sent] : world.journal().SentBytes()) bytes[key.second] += sent;
  for (const auto& [purpose, sent] : before) bytes[purpose] -= sent;
  DropZeros(&bytes);
  return bytes;
}

// Tokens of each rank of a ring, `rank` being this one.
Bytes RingBytes(const std::vector<int64_t>& tokens, int rank, int64_t e, int64_t s, int64_t a) {
  int64_t all = 0;
  for (const int64_t n : tokens) all += n;
  const int64_t next = tokens[(rank + 1) % tokens.size()];
  return {{"ring keys and values", (all - next) * e * s},
          {"ring keys and values again", (all - next) * e * s},
          {"ring key-value gradients", (all - tokens[rank]) * e * a}};
}

Bytes ExpectedBytes(const KvCase& c, const Method& method, const Place& place, int64_t s,
                    int64_t a) {
  const int64_t size = place.size, e = c.kv_heads * (c.width + c.value_width);
  std::vector<int64_t> tokens;
  int64_t all = 0;
  for (const auto& segments : CutSegments(c.Segments(), place.cut, place.size)) {
    tokens.push_back(NumTokens(segments));
    all += tokens.back();
  }
  const int64_t n = tokens[place.rank];
  if (method.method == "ring") return RingBytes(tokens, place.rank, e, s, a);
  if (method.method == "all_gather") {
    return {{"gather keys and values", (size - 1) * n * e * s},
            {"gather keys and values again", (size - 1) * n * e * s},
            {"scatter key-value gradients", (all - n) * e * a}};
  }
  const int64_t u = method.method == "ulysses" ? size : std::stoi(method.params.at("ulysses_size"));
  std::vector<int64_t> groups(size / u, 0);
  for (int64_t i = 0; i < size; ++i) groups[i / u] += tokens[i];
  const int64_t group = groups[place.rank / u];
  const int64_t kv_heads = std::max<int64_t>(1, c.kv_heads / u);  // Of each rank.
  const int64_t kv = kv_heads * (c.width + c.value_width);
  const int64_t q = c.heads / u * c.width, y = c.heads / u * c.value_width;
  Bytes bytes = RingBytes(groups, place.rank / static_cast<int>(u), kv, s, a);
  if (u == 1) return bytes;
  bytes["ulysses queries"] = (u - 1) * n * q * s;
  bytes["ulysses keys and values"] = (u - 1) * n * kv * s;
  bytes["ulysses outputs"] = (group - n) * y * s;
  bytes["ulysses output gradients"] = (u - 1) * n * y * s;
  bytes["ulysses query gradients"] = (group - n) * q * s;
  bytes["ulysses key-value gradients"] = (group - n) * kv * s;
  return bytes;
}

class KvBytesTest : public ::testing::TestWithParam<testing::TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, KvBytesTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(KvBytesTest, EqualClosedForms) {
  for (const KvCase& c : Cases()) {
    for (const DType dtype : {DType::kF64, DType::kBF16}) {
      const Values inputs = c.Inputs(dtype);
      for (const Method& method : Methods(GetParam().size, c)) {
        OnAxis(GetParam(), method,
               [&](Device& device, const KvExchange& exchange, const Place& place,
                   Communicator& world) {
                 const Bytes before = Sent(world);
                 c.Run(device, dtype, inputs, place, exchange);
                 Bytes want = ExpectedBytes(c, method, place, DTypeSize(dtype),
                                            DTypeSize(AccumulationType(dtype)));
                 DropZeros(&want);
                 EXPECT_EQ(Sent(world, before), want) << method.Name() << " " << c.name;
                 return absl::OkStatus();
               });
      }
    }
  }
}

// The forms of the literature for equal parts, W ranks: 2 (W - 1) B L H_kv d s forward for an
// all-gather and a ring, (W - 1) / W B L (2 H + 2 H_kv) d s for Ulysses.
TEST_P(KvBytesTest, EqualPartsGiveTheFormsOfTheLiterature) {
  const KvCase c = {"", {{192}, {100, 92}}, 8, 8, 4, 4};
  const int64_t w = GetParam().size;
  if (192 % (2 * w) != 0) return;
  const int64_t tokens = 2 * 192 / w, s = 4, d = 4;  // B L of a rank.
  const std::map<std::string, int64_t> want = {
      {"all_gather", 2 * (w - 1) * tokens * c.kv_heads * d * s},
      {"ring", 2 * (w - 1) * tokens * c.kv_heads * d * s},
      {"ulysses", (w - 1) * tokens * (2 * c.heads + 2 * c.kv_heads) * d * s / w}};
  const Values inputs = c.Inputs(DType::kF32);
  for (const Method& method : Methods(GetParam().size, c)) {
    if (method.method == "ulysses_ring") continue;
    OnAxis(
        GetParam(), method,
        [&](Device& device, const KvExchange& exchange, const Place& place, Communicator& world) {
          const NoGrad no_grad;
          const Bytes before = Sent(world);
          c.Forward(c.TensorsOf(device, DType::kF32, inputs, place), place, exchange);
          int64_t sent = 0;
          for (const auto& [purpose, bytes] : Sent(world, before)) sent += bytes;
          EXPECT_EQ(sent, want.at(method.method)) << method.Name();
          return absl::OkStatus();
        });
  }
}

}  // namespace
}  // namespace trireme
