// Blocks of keys and values travel around the ring of ranks, c - 1 hops; each rank joins what its
// queries see of a block to its partial output while the next block is under way (Liu et al. 2023,
// Ring Attention). Backward lets them travel again, and with each block, one step behind, the
// gradients that the ranks on its way add to it, in the accumulation type; the last hop brings them
// home.
//
// The owner's own part of the gradients stays at home, so that they make c - 1 hops, not c.
// Bytes sent by a rank, of blocks b of n_b tokens with e = g (d + dv) elements each, of s bytes (a
// in the accumulation type):
//   forward   sum n_b e s  over all blocks but the next rank's
//   backward  the same, and  sum n_b e a  over all blocks but its own
#include <utility>
#include <vector>

#include "core/autograd/node.h"
#include "parallel/sequence/kv_block.h"
#include "parallel/sequence/kv_exchanges.h"
#include "parallel/sequence/partial_attention.h"

namespace trireme {
namespace {

class KvRing : public KvExchange {
 public:
  explicit KvRing(Communicator& axis) : axis_(axis) {}

  Tensor operator()(const Tensor& q, const Tensor& k, const Tensor& v, const TokenLayout& layout,
                    int64_t window, double scale) const override {
    const KvShape shape = CheckedKvShape(q, k, v, layout, axis_.rank(), axis_.size());
    Device& device = q.device();
    PartialAttention attention(q, shape.value_width, scale);
    KvBlock keys = PackKv(k, v);
    for (int step = 0; step < axis_.size(); ++step) {
      Hop hop = StartHop(keys, shape, layout, step, "ring keys and values");
      attention.Add(keys, RangesAt(step, device, layout, window));
      keys = Finish(std::move(hop), device);
    }
    const Tensor y = attention.Output();
    return Record("kv_ring", {q, k, v}, y,
                  [=, this, q = q.Detach(), k = k.Detach(), v = v.Detach(), y = y.Detach(),
                   lse = attention.lse()](absl::Span<const Tensor> grads) -> Grads {
                    PartialAttentionBackward backward(q, y, lse, grads[0], scale);
                    const KvBlock dkv = Backward(backward, PackKv(k, v), shape, layout, window);
                    return {backward.dq(), InType(dkv.k, k.dtype()), InType(dkv.v, v.dtype())};
                  });
  }

 private:
  // A block on its way to the next rank, another one arriving; nothing after the last step.
  struct Hop {
    std::unique_ptr<Work> out, in;
    KvBlock arriving;
  };

  int next() const { return (axis_.rank() + 1) % axis_.size(); }
  int previous() const { return (axis_.rank() + axis_.size() - 1) % axis_.size(); }
  // The owner of the block that this rank has in a step.
  int OwnerAt(int step) const { return (axis_.rank() + axis_.size() - step) % axis_.size(); }

  int64_t TokensAt(int step, const TokenLayout& layout) const {
    return NumTokens(layout.axis_segments[OwnerAt(step)]);
  }
  KeyRanges RangesAt(int step, Device& device, const TokenLayout& layout, int64_t window) const {
    return CausalKeyRanges(device, layout, layout.axis_segments[OwnerAt(step)], window);
  }

  Hop StartHop(const KvBlock& keys, const KvShape& shape, const TokenLayout& layout, int step,
               const char* purpose) const {
    Hop hop;
    if (step + 1 == axis_.size()) return hop;
    hop.arriving =
        EmptyKv(keys.flat.device(), shape, TokensAt(step + 1, layout), keys.flat.dtype());
    hop.in = axis_.Recv(hop.arriving.flat, previous(), {.purpose = purpose});
    hop.out = axis_.Send(keys.flat, next(), {.purpose = purpose});
    return hop;
  }

  static KvBlock Finish(Hop hop, Device& device) {
    if (hop.in != nullptr) hop.in->Join(device.compute());
    if (hop.out != nullptr) hop.out->Join(device.compute());
    return hop.arriving;
  }

  // The gradients of this rank's keys and values. What a rank sends to the next in a step: its
  // block, then, after the computation, the gradients of the block; they are received in that
  // order.
  KvBlock Backward(PartialAttentionBackward& backward, KvBlock keys, const KvShape& shape,
                   const TokenLayout& layout, int64_t window) const {
    constexpr Call kGradients = {.purpose = "ring key-value gradients"};
    Device& device = keys.flat.device();
    const DType dtype = AccumulationType(keys.flat.dtype());
    KvBlock own;
    std::unique_ptr<Work> sent;
    for (int step = 0; step < axis_.size(); ++step) {
      const int64_t tokens = TokensAt(step, layout);
      KvBlock so_far;  // By the ranks between the owner and this one.
      std::unique_ptr<Work> received;
      if (step > 1) {
        so_far = EmptyKv(device, shape, tokens, dtype);
        received = axis_.Recv(so_far.flat, previous(), kGradients);
      }
      Hop hop = StartHop(keys, shape, layout, step, "ring keys and values again");
      const KvBlock gradients = ZeroKv(device, shape, tokens, dtype);
      backward.Add(keys, RangesAt(step, device, layout, window), gradients);
      if (step == 0) {
        own = gradients;
      } else {
        if (received != nullptr) {
          received->Join(device.compute());
          gradients.flat.Accumulate(so_far.flat);
        }
        if (sent != nullptr) sent->Join(device.compute());
        sent = axis_.Send(gradients.flat, next(), kGradients);
      }
      keys = Finish(std::move(hop), device);
    }
    if (sent != nullptr) {
      const KvBlock by_others = EmptyKv(device, shape, NumTokens(layout.segments), dtype);
      axis_.Recv(by_others.flat, previous(), kGradients)->Join(device.compute());
      own.flat.Accumulate(by_others.flat);
      sent->Join(device.compute());
    }
    return own;
  }

  Communicator& axis_;
};

}  // namespace

std::unique_ptr<KvExchange> MakeKvRing(Communicator& axis) {
  return std::make_unique<KvRing>(axis);
}

}  // namespace trireme
