#include "models/attention/softmax_attention.h"
#include "models/attention/token_mixer.h"

namespace trireme {

absl::Span<const Entry<MixerFactory>> Attentions() {
  static constexpr Entry<MixerFactory> kEntries[] = {
#define ATTENTION(name, doc, params, factory) {#name, doc, params, factory},
#include "models/attention/attentions.def"
#undef ATTENTION
  };
  return kEntries;
}

}  // namespace trireme
