// Attention in register tiles (register_tile.h), for f32 and bf16 where HasRegisterTiles says so.
#pragma once

#include "absl/types/span.h"

#include "core/device/cpu/cpu_device.h"
#include "core/ops/attention.h"
#include "core/ops/cpu/attention_block.h"

namespace trireme {

void AttentionTiles(CpuDevice& device, const AttentionArgs& args);

// Adds what pairs of blocks give, in their order, to the gradients of one key-value head: dq [n, h,
// d], dk [m, g, d] and dv [m, g, dv], dense f32. `scratch` has BackwardTilesBytes bytes.
size_t BackwardTilesBytes(const AttentionBackwardArgs& args, const AttentionShape& shape);
void BackwardTiles(const AttentionBackwardArgs& args, const AttentionShape& shape,
                   absl::Span<const BlockPair> pairs, int64_t kv_head, float* dq, float* dk,
                   float* dv, void* scratch);

}  // namespace trireme
