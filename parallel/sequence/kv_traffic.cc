#include "parallel/sequence/kv_traffic.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "parallel/sequence/kv_exchanges.h"

namespace trireme {
namespace {

// A group that a method runs over: this rank's place in it, and the tokens of each.
struct KvGroup {
  std::string name;
  std::vector<int64_t> tokens;
  int rank;

  int size() const { return static_cast<int>(tokens.size()); }
  int64_t mine() const { return tokens[rank]; }
  int64_t all() const { return std::accumulate(tokens.begin(), tokens.end(), int64_t{0}); }
};

// e: elements of a token's keys and values.
void AddRing(const KvGroup& group, int64_t e, DType dtype, Pass pass, Traffic* traffic) {
  const int64_t hops = group.size() - 1, next = group.tokens[(group.rank + 1) % group.size()];
  const auto add = [&](const char* purpose, int64_t tokens, DType type) {
    traffic->Add(group.name, purpose, Verb::kSend, group.size(), tokens * e * DTypeSize(type),
                 hops);
  };
  if (hops == 0) return;
  if (pass == Pass::kForward) return add("ring keys and values", group.all() - next, dtype);
  add("ring keys and values again", group.all() - next, dtype);
  add("ring key-value gradients", group.all() - group.mine(), AccumulationType(dtype));
}

void AddGathered(const KvGroup& group, int64_t e, DType dtype, Pass pass, Traffic* traffic) {
  const int64_t gathered = (group.size() - 1) * group.mine() * e * DTypeSize(dtype);
  const auto add = [&](const char* purpose, Verb verb, int64_t bytes) {
    traffic->Add(group.name, purpose, verb, group.size(), bytes);
  };
  if (pass == Pass::kForward) return add("gather keys and values", Verb::kAllGather, gathered);
  add("gather keys and values again", Verb::kAllGather, gathered);
  add("scatter key-value gradients", Verb::kReduceScatter,
      (group.all() - group.mine()) * e * DTypeSize(AccumulationType(dtype)));
}

// heads: those of a rank after the change.
void AddHeadChanges(const KvGroup& group, const AttentionHeads& heads, DType dtype, Pass pass,
                    Traffic* traffic) {
  const int64_t scattered = (group.size() - 1) * group.mine() * DTypeSize(dtype);
  const int64_t gathered = (group.all() - group.mine()) * DTypeSize(dtype);
  const int64_t q = heads.heads * heads.width, y = heads.heads * heads.value_width;
  const int64_t kv = heads.kv_heads * (heads.width + heads.value_width);
  const auto add = [&](const char* purpose, int64_t bytes) {
    traffic->Add(group.name, purpose, Verb::kAllToAll, group.size(), bytes);
  };
  if (pass == Pass::kForward) {
    add("ulysses queries", scattered * q);
    add("ulysses keys and values", scattered * kv);
    add("ulysses outputs", gathered * y);
  } else {
    add("ulysses output gradients", scattered * y);
    add("ulysses query gradients", gathered * q);
    add("ulysses key-value gradients", gathered * kv);
  }
}

}  // namespace

void AddKvTraffic(const KvExchangePlan& plan, const AttentionHeads& heads,
                  absl::Span<const int64_t> tokens, int rank, DType dtype, Pass pass,
                  Traffic* traffic) {
  const int u = plan.ulysses_size, size = static_cast<int>(tokens.size());
  KvGroup between = {u == 1 ? "sequence" : absl::StrCat("sequence.outer", u),
                     std::vector<int64_t>(size / u, 0), rank / u};
  for (int i = 0; i < size; ++i) between.tokens[i / u] += tokens[i];
  AttentionHeads mine = heads;
  if (u > 1) {
    const absl::Span<const int64_t> neighbours = tokens.subspan(between.rank * u, u);
    mine.heads = heads.heads / u;
    mine.kv_heads = std::max<int64_t>(1, heads.kv_heads / u);
    AddHeadChanges(
        {absl::StrCat("sequence.inner", u), {neighbours.begin(), neighbours.end()}, rank % u}, mine,
        dtype, pass, traffic);
  }
  const int64_t e = mine.kv_heads * (mine.width + mine.value_width);
  (plan.between == MakeKvAllGather ? AddGathered : AddRing)(between, e, dtype, pass, traffic);
}

}  // namespace trireme
