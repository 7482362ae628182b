// Whole blocks: a codec's blocks are cut from the global row-major order of a parameter, the owned
// slices of a replica's ranks from its rows and columns. Here every block comes whole to the rank
// that owns its first element, and back: one all-to-all inside the replica each way, none when no
// slice cuts a block. So how a replica is sharded never changes what a codec makes of it.
//
// Ranks that own the same elements (the tensor axis when it does not split a parameter, copies of
// key-value heads) each have the blocks of their own: nothing moves between copies.
//
// What a rank has afterwards is its *block layout*: its pieces, parameter by parameter, blocks
// ascending, values one behind another.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/types/span.h"

#include "core/module/parameter.h"
#include "core/tensor/box.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/sync/codec.h"

namespace trireme {

struct BlockParameter {
  uint64_t key = 0;
  Shape shape;             // Of the whole.
  std::vector<Box> boxes;  // Owned by each rank of the group; may be empty.
};

// Elements [slice, slice + size) of the owned slice of a parameter that are elements
// [flat, flat + size) of a block layout, one of the two being this rank's.
struct BlockMove {
  int peer = 0;  // Whose the other is.
  int parameter = 0;
  int64_t slice = 0;
  int64_t flat = 0;
  int64_t size = 0;
  friend bool operator==(const BlockMove&, const BlockMove&) = default;
};

// One rank's part. Messages to a peer hold the moves that name it, in their order, which is that of
// the peer's moves naming this rank.
struct BlockPlan {
  std::vector<CodecPiece> pieces;
  int64_t size = 0;             // Of the block layout.
  std::vector<BlockMove> kept;  // Of this rank's slices into its own layout.
  std::vector<BlockMove> out;   // Into others': by peer, parameter, element. `flat` is the peer's.
  std::vector<BlockMove> in;    // From others: by peer, parameter, element. `slice` is the peer's.
  bool moves = false;           // Whether any rank of the group has any.
};

// A pure function, of rank `rank` of `num_ranks`. block_size 0: a parameter is one block.
// INVALID_ARGUMENT when the boxes of a parameter do not tile it, each as often as the others.
StatusOr<BlockPlan> PlanBlocks(absl::Span<const BlockParameter> parameters, int64_t block_size,
                               int rank, int num_ranks);

class WholeBlocks {
 public:
  // Of parameters.parameters()[i] for each i of `chosen`, materialized. group: the ranks that share
  // a replica's parameters (shard, sequence and tensor), of a host transport; nullptr: this rank
  // alone. host: a CPU device. A collective of the group.
  static StatusOr<std::unique_ptr<WholeBlocks>> Create(const ParameterSet& parameters,
                                                       absl::Span<const int> chosen,
                                                       int64_t block_size, Communicator* group,
                                                       Device& host);

  absl::Span<const CodecPiece> pieces() const { return plan_.pieces; }
  int64_t size() const { return plan_.size; }
  bool moves() const { return plan_.moves; }
  // Payload bytes that this rank sends in ToBlocks and in FromBlocks.
  int64_t ToBlocksBytes(DType dtype) const;
  int64_t FromBlocksBytes(DType dtype) const;

  // slices: one for each chosen parameter, of its owned box; flat: [size()]. All dense, on a CPU
  // device, of one type. Collectives of the group when moves().
  Status ToBlocks(absl::Span<const Tensor> slices, const Tensor& flat) const;
  Status FromBlocks(const Tensor& flat, absl::Span<const Tensor> slices) const;

 private:
  using Place = std::function<char*(const BlockMove&)>;

  WholeBlocks(BlockPlan plan, std::vector<int64_t> slice_sizes, int num_ranks, Communicator* group)
      : plan_(std::move(plan)),
        slice_sizes_(std::move(slice_sizes)),
        num_ranks_(num_ranks),
        group_(group) {}

  void CheckTensors(absl::Span<const Tensor> slices, const Tensor& flat) const;
  // What is at from(move) for those sent goes to to(move) of those received, elsewhere.
  Status Exchange(const std::vector<BlockMove>& sent, const Place& from,
                  const std::vector<BlockMove>& received, const Place& to,
                  const Tensor& flat) const;
  std::vector<int64_t> Counts(const std::vector<BlockMove>& moves) const;  // By peer.

  const BlockPlan plan_;
  const std::vector<int64_t> slice_sizes_;
  const int num_ranks_;
  Communicator* const group_;
};

}  // namespace trireme
