// The models. Gilbert (1960), Elliott (1963): the chain. The serverless one follows figures of
// Krishnan et al., "Sequential gradient coding" (ICLR 2023), section 4: 4.7 % late, in bursts of
// 1.18 rounds on average, most of a round independent of the load.
#include "parallel/coding/delay_model.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "core/base/rng.h"

namespace trireme {
namespace {

constexpr int64_t kMaxTimes = int64_t{1} << 26;
constexpr double kNever = 1e9;  // Longer than this is no measurement.

constexpr ParamInfo kFixed = {"fixed", ParamType::kFloat, "0",
                              "seconds of a round whatever the load", 0};
constexpr ParamInfo kPerLoad = {"per_load", ParamType::kFloat, "1",
                                "seconds of the work of a whole job", 0};
constexpr ParamInfo kEnter = {
    "enter", ParamType::kFloat, "0.05", "how likely a fast worker is slow in the next round", 0, 1};
constexpr ParamInfo kLeave = {
    "leave", ParamType::kFloat, "0.8", "how likely a slow worker is fast in the next round", 0, 1};
constexpr ParamInfo kShiftedExponential[] = {
    kFixed,
    kPerLoad,
    {"tail", ParamType::kFloat, "0.1", "mean of the tail", 0},
    {"proportional", ParamType::kBool, "false", "whether the tail is of the work of a whole job"}};
constexpr ParamInfo kGilbertElliott[] = {
    kFixed,
    kPerLoad,
    kEnter,
    kLeave,
    {"slow", ParamType::kFloat, "10", "times that work takes in the slow state", 1},
    {"slow_fixed", ParamType::kFloat, "0", "seconds that a slow round takes longer", 0},
    {"jitter", ParamType::kFloat, "0.02", "standard deviation of a round, of its length", 0, 1}};
constexpr ParamInfo kServerless[] = {
    {"per_load", ParamType::kFloat, "2.2013", "seconds of the work of a whole job", 0},
    {"enter", ParamType::kFloat, "0.0416", kEnter.doc, 0, 1},
    {"leave", ParamType::kFloat, "0.8446", kLeave.doc, 0, 1},
    {"spike", ParamType::kFloat, "0", "how likely a round takes 20 s longer", 0, 1}};

// Independent numbers for each round, worker and use.
class Draws {
 public:
  Draws(uint64_t seed, absl::string_view name, int num_workers)
      : key_(MakeRngKey(seed, name)),
        normal_key_(MakeRngKey(seed, absl::StrCat(name, " normal"))),
        num_workers_(num_workers) {}

  double Uniform(int64_t round, int worker, int use) const {
    return UniformAt(key_, Index(round, worker, use));
  }
  double Normal(int64_t round, int worker, int use) const {
    return NormalAt(normal_key_, Index(round, worker, use));
  }

 private:
  uint64_t Index(int64_t round, int worker, int use) const {
    return (static_cast<uint64_t>(round) * num_workers_ + worker) * 8 + use;
  }

  const RngKey key_, normal_key_;
  const uint64_t num_workers_;
};

// fn(round, worker, whether it is slow), round after round; the first round is as any other.
template <typename Fn>
void ForEachState(const Params& params, const Draws& draws, const DelayProfile& profile,
                  const Fn& fn) {
  const double enter = params.Float("enter"), leave = params.Float("leave");
  const double often = enter + leave == 0 ? 0 : enter / (enter + leave);
  std::vector<char> slow(profile.num_workers);
  for (int64_t round = 0; round < profile.num_rounds; ++round) {
    for (int worker = 0; worker < profile.num_workers; ++worker) {
      const double u = draws.Uniform(round, worker, 0);
      slow[worker] = u < (round == 0 ? often : slow[worker] ? 1 - leave : enter);
      fn(round, worker, slow[worker] != 0);
    }
  }
}

void DrawShiftedExponential(uint64_t seed, const Params& params, DelayProfile* profile) {
  const Draws draws(seed, "shifted_exponential", profile->num_workers);
  const double fixed = params.Float("fixed"), per_load = params.Float("per_load");
  const double mean = params.Float("tail");
  const bool proportional = params.Bool("proportional");
  for (size_t i = 0; i < profile->fixed.size(); ++i) {
    const double tail = -mean * std::log(draws.Uniform(0, 0, 8 * static_cast<int>(i)));
    profile->fixed[i] = fixed + (proportional ? 0 : tail);
    profile->per_load[i] = per_load + (proportional ? tail : 0);
  }
}

void DrawGilbertElliott(uint64_t seed, const Params& params, DelayProfile* profile) {
  const Draws draws(seed, "gilbert_elliott", profile->num_workers);
  const double fixed = params.Float("fixed"), per_load = params.Float("per_load");
  const double slow_fixed = params.Float("slow_fixed"), slow_times = params.Float("slow");
  const double jitter = params.Float("jitter");
  ForEachState(params, draws, *profile, [&](int64_t round, int worker, bool slow) {
    const size_t i = static_cast<size_t>(round) * profile->num_workers + worker;
    const double scale = std::max(0.0, 1 + jitter * draws.Normal(round, worker, 1));
    profile->fixed[i] = scale * (fixed + (slow ? slow_fixed : 0));
    profile->per_load[i] = scale * per_load * (slow ? slow_times : 1);
  });
}

void DrawServerless(uint64_t seed, const Params& params, DelayProfile* profile) {
  const Draws draws(seed, "serverless", profile->num_workers);
  const double per_load = params.Float("per_load"), spike = params.Float("spike");
  ForEachState(params, draws, *profile, [&](int64_t round, int worker, bool slow) {
    const auto u = [&](int use) { return draws.Uniform(round, worker, use); };
    double seconds;
    if (slow) {
      seconds = 1.09 + 0.22 * std::abs(draws.Normal(round, worker, 1));
    } else {
      // A gamma variable of shape 4, and now and then a little more.
      seconds = 0.535 - 0.022 * std::log(u(2) * u(3) * u(4) * u(5));
      const double more = u(6) / 0.12;
      if (more < 1) seconds += 0.4 * more;
      seconds = std::min(seconds, 1.05);
    }
    const size_t i = static_cast<size_t>(round) * profile->num_workers + worker;
    profile->fixed[i] = seconds + (u(7) < spike ? 20 : 0);
    profile->per_load[i] = per_load;
  });
}

}  // namespace

absl::Span<const Entry<DelayModel>> DelayModels() {
  static constexpr Entry<DelayModel> kEntries[] = {
#define DELAY_MODEL(name, doc, params, function) {#name, doc, params, function},
#include "parallel/coding/delay_models.def"
#undef DELAY_MODEL
  };
  return kEntries;
}

StatusOr<DelayProfile> DrawDelays(absl::string_view name, int64_t num_workers, int64_t num_rounds,
                                  uint64_t seed, const ParamMap& params) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("delay_model", DelayModels(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry->name, entry->params, params));
  if (num_workers < 1 || num_rounds < 1 || num_workers > kMaxTimes ||
      num_rounds > kMaxTimes / num_workers) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", num_rounds, " rounds of ",
                                                   num_workers, " workers, must be between 1 and ",
                                                   kMaxTimes, " times in all"));
  }
  DelayProfile profile(static_cast<int>(num_workers), num_rounds);
  entry->factory(seed, checked, &profile);
  return profile;
}

StatusOr<DelayProfile> ParseTrace(absl::string_view text, double load, double per_load) {
  std::vector<double> times;
  size_t num_workers = 0, line_number = 0;
  int64_t num_rounds = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r,;"), absl::SkipEmpty());
    if (words.empty() || words[0][0] == '#') continue;
    const auto refused = [&](const auto&... why) {
      return absl::InvalidArgumentError(absl::StrCat("trace line ", line_number, ": ", why...));
    };
    if (num_rounds == 0) num_workers = words.size();
    if (words.size() != num_workers) {
      return refused(words.size(), " times, the first round has ", num_workers);
    }
    for (const absl::string_view word : words) {
      double seconds;
      if (!absl::SimpleAtod(word, &seconds) || !(seconds >= 0 && seconds < kNever)) {
        return refused("'", word.substr(0, 40), "' is no time in seconds");
      }
      if (seconds < load * per_load) {
        return refused(seconds, " s are less than the work alone, load ", load, " times ", per_load,
                       " s");
      }
      times.push_back(seconds - load * per_load);
    }
    if (times.size() > static_cast<size_t>(kMaxTimes)) {
      return refused("more than ", kMaxTimes, " times");
    }
    ++num_rounds;
  }
  if (num_rounds == 0) return absl::InvalidArgumentError("trace: no round in it");
  DelayProfile profile(static_cast<int>(num_workers), num_rounds);
  profile.fixed = std::move(times);
  std::fill(profile.per_load.begin(), profile.per_load.end(), per_load);
  return profile;
}

}  // namespace trireme
