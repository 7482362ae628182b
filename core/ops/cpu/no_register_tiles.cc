// In place of the code for AVX-512 where the processor is not an x86-64.
#include "core/base/log.h"
#include "core/ops/cpu/attention_tiles.h"
#include "core/ops/cpu/panel_gemm.h"

namespace trireme {

void AttentionTiles(CpuDevice&, const AttentionArgs&) { LOG(FATAL) << "no register tiles"; }
size_t BackwardTilesBytes(const AttentionBackwardArgs&, const AttentionShape&) { return 0; }
void BackwardTiles(const AttentionBackwardArgs&, const AttentionShape&, absl::Span<const BlockPair>,
                   int64_t, float*, float*, float*, void*) {
  LOG(FATAL) << "no register tiles";
}

bool PanelGemmPays(CpuDevice&, const Product&) { return false; }
void PanelGemm(CpuDevice&, const Product&) { LOG(FATAL) << "no register tiles"; }

}  // namespace trireme
