// What every rank sends, by purpose, against the closed forms of kv_traffic.h. For equal parts of L
// = N / c tokens and d = dv those are the forms of the literature, but for two: the gradients of a
// ring make c - 1 hops and not c, since the owner's part stays at home; and the gradients that an
// all-gather scatters are in the accumulation type.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/autograd/node.h"
#include "parallel/sequence/kv_traffic.h"
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

// By purpose; what is zero left out.
Bytes ExpectedBytes(const KvCase& c, const Method& method, const Place& place, DType dtype) {
  const auto plan = PlanKvExchange(method.method, method.params, place.size);
  EXPECT_TRUE(plan.ok()) << plan.status();
  std::vector<int64_t> tokens;
  for (const auto& segments : CutSegments(c.Segments(), place.cut, place.size)) {
    tokens.push_back(NumTokens(segments));
  }
  Traffic traffic;
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    AddKvTraffic(*plan, {c.heads, c.kv_heads, c.width, c.value_width}, tokens, place.rank, dtype,
                 pass, &traffic);
  }
  Bytes bytes;
  for (const auto& [key, entry] : traffic.entries) bytes[key.second] += entry.sent_bytes;
  DropZeros(&bytes);
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
                 EXPECT_EQ(Sent(world, before), ExpectedBytes(c, method, place, dtype))
                     << method.Name() << " " << c.name;
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
