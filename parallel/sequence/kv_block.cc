#include "parallel/sequence/kv_block.h"

#include <vector>

#include "core/ops/ops.h"

namespace trireme {
namespace {

KvBlock BlockIn(const Tensor& flat, const KvShape& shape, int64_t tokens) {
  const int64_t k_size = tokens * shape.kv_heads * shape.width;
  const int64_t v_size = tokens * shape.kv_heads * shape.value_width;
  return {flat, flat.View1D(0, k_size).WithShape({tokens, shape.kv_heads, shape.width}),
          flat.View1D(k_size, v_size).WithShape({tokens, shape.kv_heads, shape.value_width})};
}

// Calls fn(rows of a rank's block, the same rows of the sorted block), for keys and for values.
template <typename Fn>
void ForEachRun(const Tensor& by_rank, const KvShape& shape, absl::Span<const int64_t> tokens,
                const TokenOrder& order, const KvBlock& sorted, Fn&& fn) {
  std::vector<KvBlock> blocks;
  int64_t begin = 0;
  for (const int64_t count : tokens) {
    const int64_t size = count * shape.elements();
    blocks.push_back(BlockIn(by_rank.View1D(begin, size), shape, count));
    begin += size;
  }
  for (const TokenOrder::Run& run : order.runs) {
    const KvBlock& block = blocks[run.rank];
    fn(Slice(block.k, 0, run.from, run.length), Slice(sorted.k, 0, run.to, run.length));
    fn(Slice(block.v, 0, run.from, run.length), Slice(sorted.v, 0, run.to, run.length));
  }
}

}  // namespace

KvBlock EmptyKv(Device& device, const KvShape& shape, int64_t tokens, DType dtype) {
  const Tensor flat = Tensor::Empty(device, {tokens * shape.elements()}, dtype,
                                    MemoryKind::kCommunication, "keys and values");
  return BlockIn(flat, shape, tokens);
}

KvBlock ZeroKv(Device& device, const KvShape& shape, int64_t tokens, DType dtype) {
  const KvBlock block = EmptyKv(device, shape, tokens, dtype);
  block.flat.Fill(0);
  return block;
}

KvBlock PackKv(const Tensor& k, const Tensor& v) {
  const KvBlock block = EmptyKv(k.device(), {k.dim(1), k.dim(2), v.dim(2)}, k.dim(0), k.dtype());
  block.k.CopyFrom(k);
  block.v.CopyFrom(v);
  return block;
}

void SortKv(const Tensor& by_rank, const KvShape& shape, absl::Span<const int64_t> tokens,
            const TokenOrder& order, const KvBlock& sorted) {
  ForEachRun(by_rank, shape, tokens, order, sorted,
             [](const Tensor& of_rank, const Tensor& of_all) { of_all.CopyFrom(of_rank); });
}

void UnsortKv(const KvBlock& sorted, const KvShape& shape, absl::Span<const int64_t> tokens,
              const TokenOrder& order, const Tensor& by_rank) {
  ForEachRun(by_rank, shape, tokens, order, sorted,
             [](const Tensor& of_rank, const Tensor& of_all) { of_rank.CopyFrom(of_all); });
}

}  // namespace trireme
