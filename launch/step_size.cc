#include "launch/step_size.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "core/base/params.h"
#include "parallel/sync/codec.h"
#include "parallel/sync/ef21.h"

namespace trireme {
namespace {

StatusOr<double> NumberOf(absl::string_view flag, absl::string_view text) {
  double value = 0;
  if (ParseFloat(text, &value)) return value;
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": '", text, "' is no number"));
}

StatusOr<std::unique_ptr<Codec>> CodecOf(const CommandLine& line) {
  ParamMap params;
  for (const std::string& text : line.All(kParamFlag.name)) {
    const std::pair<std::string, std::string> param = absl::StrSplit(text, absl::MaxSplits('=', 1));
    params[param.first] = param.second;
  }
  return MakeCodec(line.String(kCodecFlag.name), params);
}

}  // namespace

Status CheckStepSizeUsage(const CommandLine& line) {
  for (const Flag& flag : {kSmoothnessFlag, kCodecFlag}) {
    if (line.Has(flag.name)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("sync step_size needs --", flag.name, " ", flag.value));
  }
  return absl::OkStatus();
}

StatusOr<std::string> StepSizeText(const CommandLine& line) {
  std::vector<double> smoothness;
  const std::string constants = line.String(kSmoothnessFlag.name);
  for (const absl::string_view text : absl::StrSplit(constants, ',')) {
    ASSIGN_OR_RETURN(const double value, NumberOf(kSmoothnessFlag.name, text));
    smoothness.push_back(value);
  }
  ASSIGN_OR_RETURN(const double of_mean,
                   NumberOf(kMeanSmoothnessFlag.name, line.String(kMeanSmoothnessFlag.name, "0")));
  ASSIGN_OR_RETURN(const auto codec, CodecOf(line));
  const int64_t block = codec->block_size();
  if (block == 0 && !line.Has(kElementsFlag.name)) {
    return absl::InvalidArgumentError(
        "sync step_size needs --elements N: a block is the whole vector");
  }
  ASSIGN_OR_RETURN(const int64_t elements, line.Int(kElementsFlag.name, block, 1));
  RETURN_IF_ERROR(codec->Check({elements}));
  const double contraction = codec->Contraction({elements});
  ASSIGN_OR_RETURN(const Ef21Steps steps, Ef21StepSizes(smoothness, of_mean, contraction));

  std::string text =
      absl::StrFormat("%d replicas, mean of the constants %.6g, root of the mean square %.6g\n",
                      smoothness.size(), steps.arithmetic_mean, steps.quadratic_mean);
  absl::StrAppendFormat(&text, "%s on %d elements: alpha %.6g, xi %.6g\n",
                        line.String(kCodecFlag.name), elements, contraction, steps.xi);
  absl::StrAppendFormat(&text, "EF21    step at most %.6g\n", steps.ef21);
  absl::StrAppendFormat(&text, "EF21-W  step at most %.6g, %.4g times that; weights", steps.ef21_w,
                        steps.ef21_w / steps.ef21);
  for (const double weight : steps.weights) absl::StrAppendFormat(&text, " %.4g", weight);
  absl::StrAppend(&text, "\n");
  return text;
}

}  // namespace trireme
