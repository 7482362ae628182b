#include "parallel/coding/gradient_code.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"

namespace trireme {
namespace {

constexpr absl::Span<const ParamInfo> kNoParams = {};
constexpr ParamInfo kS = {"s", ParamType::kInt, "1", "stragglers of a round that are tolerated",
                          0,   kMaxCodedWorkers};
constexpr ParamInfo kSeed = {"seed", ParamType::kInt, "0", "of what is drawn", 0};
constexpr ParamInfo kReplicas = {"replicas", ParamType::kInt, "2", "workers of a part (d)",
                                 1,          kMaxCodedWorkers};
constexpr ParamInfo kLambda = {"lambda", ParamType::kInt, "1", "distinct stragglers of a window",
                               0,        kMaxCodedWorkers};
constexpr ParamInfo kBase = {"base",
                             ParamType::kString,
                             "fractional_repetition",
                             "the code of what is shared",
                             -kUnbounded,
                             kUnbounded,
                             "fractional_repetition|cyclic_repetition"};

constexpr ParamInfo kStragglers[] = {kS};
constexpr ParamInfo kCyclicRepetition[] = {
    kS, kSeed, {"seeds", ParamType::kInt, "8", "seeds that are tried, from `seed` on", 1, 1000}};
constexpr ParamInfo kCommunicationEfficient[] = {
    kS, {"blocks", ParamType::kInt, "2", "a message has 1 / blocks of the gradient (m)", 1, 64}};
constexpr ParamInfo kEstimates[] = {
    kS,
    kReplicas,
    {"decoder", ParamType::kString, "optimal", "least squares, or one weight for all", -kUnbounded,
     kUnbounded, "optimal|one_step"},
    kSeed};
constexpr ParamInfo kStochastic[] = {
    kS,
    kReplicas,
    {"late", ParamType::kFloat, "0.1", "how often a worker is late (p)", 0, 0.99},
    kSeed};
constexpr ParamInfo kSelectiveRepeat[] = {
    {"burst", ParamType::kInt, "1", "rounds from a message to its repetition (B)", 1, 32},
    {"window", ParamType::kInt, "2", "rounds of the straggler model (W), 1 + x B", 2, 1024},
    kLambda,
    kBase};
constexpr ParamInfo kMultiplexed[] = {
    {"burst", ParamType::kInt, "1", "rounds a straggler is late at most (B), below W", 1, 31},
    {"window", ParamType::kInt, "2", "rounds of the straggler model (W)", 2, 32},
    kLambda,
    kBase};
constexpr ParamInfo kNested[] = {{"s", ParamType::kInt, "1",
                                  "stragglers tolerated at level 0: 0, 1, 3, 7, ...", 0,
                                  kMaxCodedWorkers}};

}  // namespace

#define GRADIENT_CODE(name, doc, params, factory) \
  StatusOr<std::unique_ptr<GradientCode>> factory(int num_workers, const Params& params);
#include "parallel/coding/gradient_codes.def"
#undef GRADIENT_CODE

absl::Span<const Entry<GradientCodeFactory>> GradientCodes() {
  static constexpr Entry<GradientCodeFactory> kEntries[] = {
#define GRADIENT_CODE(name, doc, params, factory) {#name, doc, params, factory},
#include "parallel/coding/gradient_codes.def"
#undef GRADIENT_CODE
  };
  return kEntries;
}

StatusOr<std::unique_ptr<GradientCode>> MakeGradientCode(absl::string_view name,
                                                         int64_t num_workers,
                                                         const ParamMap& params) {
  ASSIGN_OR_RETURN(const auto* entry, FindEntry("gradient_code", GradientCodes(), name));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry->name, entry->params, params));
  if (num_workers < 1 || num_workers > kMaxCodedWorkers) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": n = ", num_workers, " workers, must be between 1 and ", kMaxCodedWorkers));
  }
  const auto s = checked.values().find("s");
  if (s != checked.values().end() && checked.Int("s") >= num_workers) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": s = ", s->second, " stragglers of n = ", num_workers, " workers, must be less"));
  }
  return entry->factory(static_cast<int>(num_workers), checked);
}

int64_t CodeShape::num_units() const {
  return std::accumulate(part_units.begin(), part_units.end(), int64_t{0});
}

History::History(const CodeShape& shape, int64_t num_jobs)
    : num_workers_(shape.num_workers),
      num_jobs_(num_jobs),
      delay_(shape.delay),
      arrived_((delay_ + 1) * num_workers_),
      levels_(delay_ + 1) {}

void History::Arrive(int64_t job, int worker, int message) {
  if (!IsOpen(job)) return;
  arrived_[job % (delay_ + 1) * num_workers_ + worker] |= uint64_t{1} << message;
}

void History::NextRound(int level) {
  ++round_;
  const int64_t slot = round_ % (delay_ + 1);
  std::fill_n(arrived_.begin() + slot * num_workers_, num_workers_, 0);
  levels_[slot] = level;
}

void GradientCode::Assign(const History&, int age, absl::Span<int> messages) const {
  std::fill(messages.begin(), messages.end(), age == 0 ? 0 : -1);
}

std::vector<Task> Assignment(const GradientCode& code, const History& history, int worker) {
  std::vector<Task> tasks;
  std::vector<int> messages(code.shape().num_workers);
  for (int age = 0; age <= code.shape().delay; ++age) {
    const int64_t job = history.round() - age;
    if (!history.IsOpen(job)) continue;
    code.Assign(history, age, absl::MakeSpan(messages));
    if (messages[worker] < 0) continue;
    tasks.push_back({job, messages[worker], code.MessageOf(worker, messages[worker])});
  }
  return tasks;
}

StatusOr<Decoding> Decode(const GradientCode& code, const History& history, int64_t job) {
  if (!history.IsOpen(job)) {
    return absl::FailedPreconditionError(
        absl::StrCat("job ", job, " is not open in round ", history.round()));
  }
  return code.Decode(history.arrived(job));
}

std::vector<int64_t> PartBoundaries(const CodeShape& shape, int64_t num_micro_batches) {
  const int64_t num_units = shape.num_units();
  std::vector<int64_t> boundaries = {0};
  int64_t units = 0;
  for (const int part : shape.part_units) {
    units += part;
    boundaries.push_back(
        static_cast<int64_t>(static_cast<__int128>(num_micro_batches) * units / num_units));
  }
  return boundaries;
}

double NoiseAmplification(const GradientCode& code, const Decoding& decoding) {
  const CodeShape& shape = code.shape();
  double sum = 0;
  for (const DecodeTerm& term : decoding.terms) {
    const Message message = code.MessageOf(term.worker, term.message);
    double squares = 0, blocks = 0;
    for (const PartTerm& part : message.parts) {
      squares += part.weight * part.weight * shape.part_units[part.part];
    }
    for (const double weight : message.blocks) blocks += weight * weight;
    sum += term.weight * term.weight * squares * blocks / shape.num_blocks;
  }
  return std::sqrt(sum / shape.num_units());
}

Status CannotDecode(absl::string_view code, const CodeShape& shape,
                    absl::Span<const uint64_t> arrived) {
  const int64_t num = std::count_if(arrived.begin(), arrived.end(), [](uint64_t m) { return m; });
  return absl::FailedPreconditionError(absl::StrCat(
      code, ": what ", num, " of ", shape.num_workers, " workers sent does not decode; ",
      shape.tolerates.per_round, " stragglers a round are tolerated"));
}

}  // namespace trireme
