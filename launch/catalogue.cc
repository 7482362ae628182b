#include "launch/catalogue.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/ops/catalogue.h"
#include "data/dataset.h"
#include "launch/local_step.h"
#include "models/attention/token_mixer.h"
#include "models/models.h"
#include "optim/lr_schedules.h"
#include "optim/optimizer.h"
#include "parallel/coding/delay_model.h"
#include "parallel/coding/gradient_code.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/sequence/kv_exchange.h"
#include "parallel/sequence/scan_plan.h"
#include "parallel/sync/codec.h"
#include "parallel/sync/mixer.h"
#include "parallel/sync/outer.h"
#include "parallel/sync/sync_rule.h"

namespace trireme {

std::vector<Listing> Catalogue() {
  std::vector<Listing> listings;
  AppendOpListings(&listings);
  AppendListings("attention", Attentions(), &listings);
  AppendListings("kv_exchange", KvExchanges(), &listings);
  AppendListings("scan", Scans(), &listings);
  AppendListings("optimizer", Optimizers(), &listings);
  AppendListings("lr_schedule", LrSchedules(), &listings);
  AppendListings("pipeline_schedule", PipelineSchedules(), &listings);
  AppendListings("local_step", LocalSteps(), &listings);
  AppendListings("sync_rule", SyncRules(), &listings);
  AppendListings("codec", Codecs(), &listings);
  AppendListings("mixer", Mixers(), &listings);
  AppendListings("outer", Outers(), &listings);
  AppendListings("gradient_code", GradientCodes(), &listings);
  AppendListings("delay_model", DelayModels(), &listings);
  AppendListings("dataset", Datasets(), &listings);
  AppendListings("model", Models(), &listings);
  return listings;
}

std::vector<std::string> Families(absl::Span<const Listing> catalogue) {
  std::vector<std::string> families;
  for (const Listing& entry : catalogue) {
    if (families.empty() || families.back() != entry.family) families.push_back(entry.family);
  }
  return families;
}

std::string FormatCatalogue(absl::Span<const Listing> catalogue, absl::string_view family) {
  std::string text;
  std::string current;
  for (const Listing& entry : catalogue) {
    if (!family.empty() && entry.family != family) continue;
    if (entry.family != current) {
      absl::StrAppend(&text, current.empty() ? "" : "\n", entry.family, "\n");
      current = entry.family;
    }
    absl::StrAppendFormat(&text, "  %-22s  %s\n", entry.name, entry.doc);
    for (const ParamInfo& info : entry.params) {
      std::string type = ParamTypeName(info.type);
      const std::string range = ParamRange(info);
      if (!range.empty()) absl::StrAppend(&type, " ", range);
      const std::string value =
          info.default_value == nullptr ? "required" : absl::StrCat("= ", info.default_value);
      absl::StrAppendFormat(&text, "    %-20s  %-12s  %s; %s\n", info.key, value, type, info.doc);
    }
  }
  return text;
}

}  // namespace trireme
