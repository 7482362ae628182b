// Every rank gathers all keys and values and attends with its own queries (Grattafiori et al. 2024,
// Llama 3, section 3.3.2; Sun et al. 2025, LASP-2, algorithm 7). One collective forward; nothing of
// it is kept for backward, which gathers again and reduces the gradients to their owners in the
// accumulation type.
//
// Bytes sent by a rank with n of the N tokens of c ranks, e = g (d + dv) elements each, of s bytes
// (a in the accumulation type):
//   forward   (c - 1) n e s
//   backward  the same, and  (N - n) e a
#include <vector>

#include "core/autograd/node.h"
#include "parallel/sequence/kv_block.h"
#include "parallel/sequence/kv_exchanges.h"
#include "parallel/sequence/partial_attention.h"

namespace trireme {
namespace {

class KvAllGather : public KvExchange {
 public:
  explicit KvAllGather(Communicator& axis) : axis_(axis) {}

  Tensor operator()(const Tensor& q, const Tensor& k, const Tensor& v, const TokenLayout& layout,
                    int64_t window, double scale) const override {
    const KvShape shape = CheckedKvShape(q, k, v, layout, axis_.rank(), axis_.size());
    const Tokens tokens(layout, shape, q.device(), window);
    PartialAttention attention(q, shape.value_width, scale);
    attention.Add(Gather(k, v, tokens, "gather keys and values"), tokens.ranges);
    const Tensor y = attention.Output();
    return Record("kv_all_gather", {q, k, v}, y,
                  [=, this, q = q.Detach(), k = k.Detach(), v = v.Detach(), y = y.Detach(),
                   lse = attention.lse()](absl::Span<const Tensor> grads) -> Grads {
                    return Backward(q, k, v, y, lse, grads[0], tokens, scale);
                  });
  }

 private:
  // Of all ranks.
  struct Tokens {
    Tokens(const TokenLayout& layout, const KvShape& shape, Device& device, int64_t window)
        : shape(shape), order(OrderTokens(layout.axis_segments)) {
      for (const std::vector<Segment>& segments : layout.axis_segments) {
        counts.push_back(NumTokens(segments));
        sizes.push_back(counts.back() * shape.elements());
        all += counts.back();
      }
      ranges = CausalKeyRanges(device, layout, order.segments, window);
    }

    KvShape shape;
    TokenOrder order;
    std::vector<int64_t> counts, sizes;  // Of each rank: tokens, and elements of their block.
    int64_t all = 0;
    KeyRanges ranges;
  };

  KvBlock Gather(const Tensor& k, const Tensor& v, const Tokens& tokens,
                 const char* purpose) const {
    Device& device = k.device();
    const Tensor by_rank = EmptyKv(device, tokens.shape, tokens.all, k.dtype()).flat;
    axis_.AllGather(PackKv(k, v).flat, by_rank, {.purpose = purpose, .counts = tokens.sizes})
        ->Join(device.compute());
    const KvBlock keys = EmptyKv(device, tokens.shape, tokens.all, k.dtype());
    SortKv(by_rank, tokens.shape, tokens.counts, tokens.order, keys);
    return keys;
  }

  Grads Backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& y,
                 const Tensor& lse, const Tensor& dy, const Tokens& tokens, double scale) const {
    Device& device = q.device();
    PartialAttentionBackward attention(q, y, lse, dy, scale);
    Tensor by_rank;
    {
      const KvBlock gradients = ZeroKv(device, tokens.shape, tokens.all, lse.dtype());
      attention.Add(Gather(k, v, tokens, "gather keys and values again"), tokens.ranges, gradients);
      by_rank = EmptyKv(device, tokens.shape, tokens.all, lse.dtype()).flat;
      UnsortKv(gradients, tokens.shape, tokens.counts, tokens.order, by_rank);
    }
    const KvBlock own = EmptyKv(device, tokens.shape, k.dim(0), lse.dtype());
    axis_
        .ReduceScatter(by_rank, own.flat,
                       {.purpose = "scatter key-value gradients", .counts = tokens.sizes})
        ->Join(device.compute());
    return {attention.dq(), InType(own.k, k.dtype()), InType(own.v, v.dtype())};
  }

  Communicator& axis_;
};

}  // namespace

std::unique_ptr<KvExchange> MakeKvAllGather(Communicator& axis) {
  return std::make_unique<KvAllGather>(axis);
}

}  // namespace trireme
