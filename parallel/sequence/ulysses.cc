// Ranks change tokens for heads, so that each has whole sequences of some heads, and change back
// after attention (Jacobs et al. 2023, DeepSpeed Ulysses). Between groups of such ranks another
// method runs, with the tokens of a group as those of one rank (Fang & Zhao 2024, USP). Key-value
// heads fewer than ranks are copied to the ranks whose query heads read them.
//
// Bytes sent by a rank with n of the N tokens of u ranks, h heads, G = max(g, u) for key-value
// heads, widths d and dv, elements of s bytes:
//   forward   (u - 1) n (h d + G (d + dv)) s / u  of q, k, v;   (N - n) h dv s / u  of outputs
//   backward  (N - n) (h d + G (d + dv)) s / u  of their gradients;   (u - 1) n h dv s / u
#include <algorithm>
#include <utility>
#include <vector>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/ops/ops.h"
#include "parallel/sequence/kv_block.h"
#include "parallel/sequence/kv_exchanges.h"
#include "parallel/sequence/partial_attention.h"

namespace trireme {
namespace {

// The tokens of a group of ranks.
struct GroupTokens {
  std::vector<int64_t> counts;   // Of each rank.
  std::vector<int64_t> offsets;  // Where they begin, one rank after another.
  int64_t all = 0;
  TokenOrder order;

  explicit GroupTokens(absl::Span<const std::vector<Segment>> ranks) : order(OrderTokens(ranks)) {
    for (const std::vector<Segment>& segments : ranks) {
      offsets.push_back(all);
      counts.push_back(NumTokens(segments));
      all += counts.back();
    }
  }
};

// Rank p has heads [p H / u, p H / u + max(1, H / u)) of H.
struct HeadCut {
  int64_t heads, ranks;
  int64_t size() const { return std::max<int64_t>(1, heads / ranks); }
  int64_t begin(int64_t rank) const { return rank * heads / ranks; }
  bool copied() const { return heads < ranks; }
};

std::vector<int64_t> Times(std::vector<int64_t> counts, int64_t factor) {
  for (int64_t& count : counts) count *= factor;
  return counts;
}

// x [n, H, w], all heads of this rank's tokens -> [all, heads of this rank, w] in order.
Tensor TokensForHeads(const Tensor& x, const GroupTokens& tokens, Communicator& group,
                      const char* purpose) {
  Device& device = x.device();
  const HeadCut cut = {x.dim(1), group.size()};
  const int64_t n = x.dim(0), width = x.dim(2), row = cut.size() * width;
  const auto empty = [&](const Shape& shape) {
    return Tensor::Empty(device, shape, x.dtype(), MemoryKind::kCommunication, purpose);
  };
  const Tensor by_rank = empty({tokens.all, cut.size(), width});
  {
    const Tensor parts = empty({group.size(), n, cut.size(), width});
    for (int p = 0; p < group.size(); ++p) {
      parts.AsStrided({n, cut.size(), width}, {row, width, 1}, p * n * row)
          .CopyFrom(Slice(x, 1, cut.begin(p), cut.size()));
    }
    const std::vector<int64_t> sent(group.size(), n * row);
    group.AllToAll(parts, sent, by_rank, Times(tokens.counts, row), {.purpose = purpose})
        ->Join(device.compute());
  }
  const Tensor y =
      Tensor::Empty(device, by_rank.shape(), x.dtype(), MemoryKind::kActivations, purpose);
  for (const TokenOrder::Run& run : tokens.order.runs) {
    Slice(y, 0, run.to, run.length)
        .CopyFrom(Slice(by_rank, 0, tokens.offsets[run.rank] + run.from, run.length));
  }
  return y;
}

// The transpose: x [all, heads of this rank, w] -> [n, heads, w]; copies of a head are summed, in
// the accumulation type.
Tensor HeadsForTokens(const Tensor& x, int64_t heads, const GroupTokens& tokens,
                      Communicator& group, const char* purpose) {
  Device& device = x.device();
  const HeadCut cut = {heads, group.size()};
  const int64_t n = tokens.counts[group.rank()], width = x.dim(2), row = cut.size() * width;
  const auto empty = [&](const Shape& shape) {
    return Tensor::Empty(device, shape, x.dtype(), MemoryKind::kCommunication, purpose);
  };
  const Tensor parts = empty({group.size(), n, cut.size(), width});
  {
    const Tensor by_rank = empty({tokens.all, cut.size(), width});
    for (const TokenOrder::Run& run : tokens.order.runs) {
      Slice(by_rank, 0, tokens.offsets[run.rank] + run.from, run.length)
          .CopyFrom(Slice(x, 0, run.to, run.length));
    }
    const std::vector<int64_t> received(group.size(), n * row);
    group.AllToAll(by_rank, Times(tokens.counts, row), parts, received, {.purpose = purpose})
        ->Join(device.compute());
  }
  const DType dtype = cut.copied() ? AccumulationType(x.dtype()) : x.dtype();
  const Tensor y =
      Tensor::Zeros(device, {n, heads, width}, dtype, MemoryKind::kActivations, purpose);
  for (int p = 0; p < group.size(); ++p) {
    Slice(y, 1, cut.begin(p), cut.size())
        .Accumulate(parts.AsStrided({n, cut.size(), width}, {row, width, 1}, p * n * row));
  }
  return InType(y, x.dtype());
}

class Ulysses : public KvExchange {
 public:
  Ulysses(Communicator& inner, Communicator& outer, std::unique_ptr<KvExchange> between)
      : inner_(inner), outer_(outer), between_(std::move(between)) {}

  Tensor operator()(const Tensor& q, const Tensor& k, const Tensor& v, const TokenLayout& layout,
                    int64_t window, double scale) const override {
    const int size = inner_.size();
    const KvShape shape =
        CheckedKvShape(q, k, v, layout, outer_.rank() * size + inner_.rank(), outer_.size() * size);
    CHECK(q.dim(1) % size == 0 && (shape.kv_heads % size == 0 || size % shape.kv_heads == 0))
        << q.dim(1) << " heads, " << shape.kv_heads << " key-value heads over " << size
        << " ranks [ulysses]";
    const absl::Span<const std::vector<Segment>> ranks = layout.axis_segments;
    const GroupTokens tokens(ranks.subspan(outer_.rank() * size, size));
    TokenLayout groups;
    groups.segments = tokens.order.segments;
    for (int i = 0; i < outer_.size(); ++i) {
      groups.axis_segments.push_back(OrderTokens(ranks.subspan(i * size, size)).segments);
    }
    groups.documents = layout.documents;

    const Tensor all_q = Scatter(q, tokens, "ulysses queries", "ulysses query gradients");
    const Tensor all_kv = Scatter(Concat({k, v}, 2), tokens, "ulysses keys and values",
                                  "ulysses key-value gradients");
    const Tensor all_y =
        (*between_)(all_q, Slice(all_kv, 2, 0, shape.width),
                    Slice(all_kv, 2, shape.width, shape.value_width), groups, window, scale);
    const Tensor y = HeadsForTokens(all_y.Detach(), q.dim(1), tokens, inner_, "ulysses outputs");
    return Record("ulysses_gather_heads", {all_y}, y,
                  [=, this](absl::Span<const Tensor> grads) -> Grads {
                    return {TokensForHeads(grads[0], tokens, inner_, "ulysses output gradients")};
                  });
  }

 private:
  Tensor Scatter(const Tensor& x, const GroupTokens& tokens, const char* purpose,
                 const char* gradient_purpose) const {
    const Tensor y = TokensForHeads(x.Detach(), tokens, inner_, purpose);
    return Record("ulysses_scatter_heads", {x}, y,
                  [=, this, heads = x.dim(1)](absl::Span<const Tensor> grads) -> Grads {
                    return {HeadsForTokens(grads[0], heads, tokens, inner_, gradient_purpose)};
                  });
  }

  Communicator& inner_;
  Communicator& outer_;
  const std::unique_ptr<KvExchange> between_;
};

}  // namespace

std::unique_ptr<KvExchange> MakeUlysses(Communicator& inner, Communicator& outer,
                                        std::unique_ptr<KvExchange> between) {
  return std::make_unique<Ulysses>(inner, outer, std::move(between));
}

}  // namespace trireme
