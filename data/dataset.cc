#include "data/dataset.h"

#include <cmath>

#include "data/idx_images.h"
#include "data/mqar_dataset.h"
#include "data/synthetic_dataset.h"
#include "data/text_dataset.h"
#include "data/tokens_dataset.h"

namespace trireme {

const char* SplitName(Split split) { return split == Split::kTrain ? "train" : "validation"; }

uint64_t ValidationThreshold(double fraction) {
  return static_cast<uint64_t>(std::llround(fraction * 0x1p32));
}

absl::Span<const Entry<DatasetFactory>> Datasets() {
  static constexpr Entry<DatasetFactory> kEntries[] = {
#define DATASET(name, doc, params, factory) {#name, doc, params, factory},
#include "data/datasets.def"
#undef DATASET
  };
  return kEntries;
}

StatusOr<std::unique_ptr<Dataset>> MakeDataset(absl::string_view name, const ParamMap& params,
                                               const DatasetContext& context) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("dataset", Datasets(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry->name, entry->params, params));
  return entry->factory(checked, context);
}

}  // namespace trireme
