#include "parallel/sync/mixer.h"

#include "parallel/sync/mixers.h"

namespace trireme {

absl::Span<const Entry<MixerFactory>> Mixers() {
  static constexpr Entry<MixerFactory> kEntries[] = {
#define MIXER(name, doc, params, factory) {#name, doc, params, factory},
#include "parallel/sync/mixers.def"
#undef MIXER
  };
  return kEntries;
}

StatusOr<std::unique_ptr<Mixer>> MakeMixer(absl::string_view name, const ParamMap& params) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("mixer", Mixers(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry->name, entry->params, params));
  return entry->factory(checked);
}

}  // namespace trireme
