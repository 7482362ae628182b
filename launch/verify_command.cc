// trireme verify: the user's model under every layout, each compared with one rank.
#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "launch/bootstrap.h"
#include "launch/commands.h"
#include "launch/config.h"
#include "launch/verify_layouts.h"

namespace trireme {
namespace {

constexpr Flag kFlags[] = {
    {"config", "FILE", "the run; its mesh, dtype and run_dir do not matter"},
    {"set", "PATH=VALUE", "changes one value of the config", true},
    {"ranks", "N", "ranks, as threads of this process (8)"},
    {"steps", "N", "steps of training that are compared (2)"},
    {"pairwise", nullptr, "few layouts in which every pair of settings appears, instead of all"},
    {"all", nullptr, "a line for each layout, also for those that are equal"},
};

void Print(const LayoutVerdict& verdict, bool all) {
  const char* const outcomes[] = {"equal", "DIFFERS", "skipped"};
  if (!all && verdict.outcome != LayoutVerdict::Outcome::kDiffers) return;
  absl::PrintF("%-8s %-9s %s%s%s\n", outcomes[static_cast<int>(verdict.outcome)],
               verdict.outcome == LayoutVerdict::Outcome::kSkipped ? ""
                                                                   : absl::StrFormat("%.1e", verdict.worst),
               verdict.layout.ToString(), verdict.reason.empty() ? "" : ": ", verdict.reason);
  std::fflush(stdout);
}

Status Verify(const CommandLine& line) {
  if (line.positional()[0] != "layouts") {
    return absl::InvalidArgumentError(
        absl::StrCat("verify has 'layouts', not '", line.positional()[0], "'"));
  }
  if (!line.Has("config")) return absl::InvalidArgumentError("verify layouts needs --config FILE");
  ASSIGN_OR_RETURN(const LoadedConfig loaded, LoadConfig(line.String("config"), line.All("set")));
  VerifyOptions options;
  ASSIGN_OR_RETURN(const int64_t ranks, line.Int("ranks", 8, 1));
  ASSIGN_OR_RETURN(const int64_t steps, line.Int("steps", 2, 1));
  options.num_ranks = static_cast<int>(ranks);
  options.num_steps = static_cast<int>(steps);
  options.pairwise = line.Has("pairwise");
  ASSIGN_OR_RETURN(const std::vector<LayoutVerdict> verdicts,
                   VerifyLayouts(loaded.config, options, [&](const LayoutVerdict& verdict) {
                     Print(verdict, line.Has("all"));
                   }));
  int counts[3] = {};
  double worst = 0;
  std::map<std::string, int> reasons;
  for (const LayoutVerdict& verdict : verdicts) {
    ++counts[static_cast<int>(verdict.outcome)];
    if (verdict.outcome == LayoutVerdict::Outcome::kEqual) worst = std::max(worst, verdict.worst);
    if (verdict.outcome == LayoutVerdict::Outcome::kSkipped) ++reasons[verdict.reason];
  }
  absl::PrintF("%d layouts of %d ranks: %d equal to one rank within %.1e, %d differ, %d skipped\n",
               verdicts.size(), ranks, counts[0], worst, counts[1], counts[2]);
  for (const auto& [reason, count] : reasons) absl::PrintF("  %4d skipped: %s\n", count, reason);
  if (counts[1] == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(counts[1], " layouts differ from one rank"));
}

int RunVerify(const CommandLine& line) {
  const Status status = Verify(line);
  if (!status.ok()) PrintError(status);
  return status.ok() ? kExitDone : kExitError;
}

}  // namespace

Command VerifyCommand() {
  return {{"verify", "Trains under every layout and compares each with one rank, in f64.", "layouts", 1,
           1, kFlags, "trireme verify layouts --config examples/configs/verify.textproto --ranks 8"},
          &RunVerify};
}

}  // namespace trireme
