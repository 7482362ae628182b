#include "models/models.h"

#include "models/mlp.h"
#include "models/transformer.h"

namespace trireme {

absl::Span<const Entry<ModelFactory>> Models() {
  static constexpr Entry<ModelFactory> kEntries[] = {
#define MODEL(name, doc, params, factory) {#name, doc, params, factory},
#include "models/models.def"
#undef MODEL
  };
  return kEntries;
}

StatusOr<std::unique_ptr<Model>> MakeModel(const ComponentConfig& config, const DataShape& data,
                                           const ModelLayout& layout) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("model", Models(), config.name));
  ASSIGN_OR_RETURN(const Params params, Params::Create(entry->name, entry->params, config.params));
  return entry->factory(params, config, data, layout);
}

}  // namespace trireme
