// What a unit of a model says to other ranks of the model's axes for each micro-batch, as declared:
// from this and the number of tokens follow the bytes that travel, before anything runs.
#pragma once

#include <cstdint>
#include <vector>

namespace trireme {

// A collective along the tensor axis on rows of `width` elements, one for each token of the
// micro-batch.
struct RowTransfer {
  enum class Kind : uint8_t { kAllReduce, kReduceScatter, kAllGather };
  const char* purpose;
  Kind kind;
  bool backward = false;
  int64_t width = 0;
  bool accumulated = false;  // In the accumulation type, else in the compute type.
  int64_t chunk_rows = 0;    // As many calls as there are chunks of so many rows; 0: one.
};

// Softmax attention along the sequence axis: the heads of this rank.
struct AttentionHeads {
  int64_t heads = 0, kv_heads = 0;
  int64_t width = 0, value_width = 0;
};

struct UnitTraffic {
  std::vector<RowTransfer> rows;
  std::vector<AttentionHeads> attention;
};

}  // namespace trireme
