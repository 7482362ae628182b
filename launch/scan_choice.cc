#include "launch/scan_choice.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "core/base/log.h"
#include "launch/trainer.h"
#include "parallel/sequence/recurrence_traffic.h"

namespace trireme {

std::string ScanChoiceInWords(const RunConfig& config, const Model& model,
                              const SequenceAxis& sequence, int64_t num_samples) {
  const ScanPlan& plan = sequence.scan_plan();
  if (sequence.size() == 1 || plan.method != ScanMethod::kAuto) return "";
  const StatusOr<DType> dtype = ComputeDType(config.dtype());
  CHECK_OK(dtype.status());
  std::vector<Segment> samples;
  for (int64_t i = 0; i < num_samples; ++i) {
    samples.push_back({i, 0, config.data().sequence_length()});
  }
  const SequenceCut cut = sequence.plan().cut;
  const auto segments = CutSegments(samples, cut, sequence.size());
  std::vector<std::string> choices;
  for (int unit = 0; unit < model.num_units(); ++unit) {
    UnitTraffic said;
    model.AddTraffic(unit, &said);
    for (const RecurrenceHeads& heads : said.recurrences) {
      std::string choice = ToString(ResolveScan(plan, cut, heads, segments, *dtype));
      if (std::find(choices.begin(), choices.end(), choice) == choices.end()) {
        choices.push_back(std::move(choice));
      }
    }
  }
  return choices.empty() ? "" : absl::StrCat("scan auto: ", absl::StrJoin(choices, ", "));
}

}  // namespace trireme
