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

// Linear attention along the sequence axis: the heads of this rank.
struct RecurrenceHeads {
  int64_t heads = 0;
  int64_t key_width = 0, value_width = 0;
  // Elements of what a head's tokens do to a state, where other ranks do not know it: 0 without a
  // decay or with a constant one, 1, the key width, or its square.
  int64_t transition = 0;
  bool backward = true;  // Whether a gradient goes back through it.
  int64_t memories = 1;  // States that a sample has of each head; their decays are never known.
};

// The `rows` tokens before each piece of this rank, of `width` elements each.
struct HaloRows {
  int64_t rows = 0, width = 0;
};

struct UnitTraffic {
  std::vector<RowTransfer> rows;
  std::vector<AttentionHeads> attention;
  std::vector<RecurrenceHeads> recurrences;
  std::vector<HaloRows> halos;
};

}  // namespace trireme
