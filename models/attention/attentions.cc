#include "models/attention/deltanet.h"
#include "models/attention/gated_deltanet.h"
#include "models/attention/gla.h"
#include "models/attention/hgrn2.h"
#include "models/attention/kda.h"
#include "models/attention/lightning.h"
#include "models/attention/linear_attention.h"
#include "models/attention/linearized.h"
#include "models/attention/mamba2.h"
#include "models/attention/mom.h"
#include "models/attention/retention.h"
#include "models/attention/rwkv7.h"
#include "models/attention/softmax_attention.h"
#include "models/attention/token_mixer.h"

namespace trireme {

absl::Span<const Entry<AttentionFactory>> Attentions() {
  static constexpr Entry<AttentionFactory> kEntries[] = {
#define ATTENTION(name, doc, params, factory) {#name, doc, params, factory},
#include "models/attention/attentions.def"
#undef ATTENTION
  };
  return kEntries;
}

}  // namespace trireme
