// Registries are explicit tables made from .def files: no static initialisers, no global state.
//
//   // optimizers.def
//   OPTIMIZER(adamw, "AdamW (Loshchilov & Hutter 2019)", kAdamWParams, MakeAdamW)
//
//   constexpr Entry<OptimizerFactory> kOptimizers[] = {
//   #define OPTIMIZER(name, doc, params, factory) {#name, doc, params, factory},
//   #include "optim/optimizers.def"
//   #undef OPTIMIZER
//   };
#pragma once

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/params.h"
#include "core/base/status.h"

namespace trireme {

template <typename Factory>
struct Entry {
  const char* name;
  const char* doc;
  absl::Span<const ParamInfo> params;
  Factory factory;
};

// What `trireme list` prints of an entry, whatever its factory.
struct Listing {
  std::string family;
  std::string name;
  std::string doc;
  absl::Span<const ParamInfo> params;
};

template <typename Factory>
StatusOr<const Entry<Factory>*> FindEntry(absl::string_view family,
                                          absl::Span<const Entry<Factory>> entries,
                                          absl::string_view name) {
  std::vector<std::string> known;
  for (const Entry<Factory>& entry : entries) {
    if (name == entry.name) return &entry;
    known.push_back(entry.name);
  }
  return absl::InvalidArgumentError(UnknownNameMessage(family, name, known));
}

template <typename Factory>
void AppendListings(absl::string_view family, absl::Span<const Entry<Factory>> entries,
                    std::vector<Listing>* listings) {
  for (const Entry<Factory>& entry : entries) {
    listings->push_back({std::string(family), entry.name, entry.doc, entry.params});
  }
}

}  // namespace trireme
