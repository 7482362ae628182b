#include "parallel/pipeline/schedule.h"

#include "absl/strings/str_cat.h"

namespace trireme {
namespace {

constexpr char kChunksDoc[] = "stages of each rank";
constexpr ParamInfo kOneChunk[] = {{"chunks", ParamType::kInt, "1", kChunksDoc, 1, 1}};
constexpr ParamInfo kTwoChunks[] = {{"chunks", ParamType::kInt, "2", kChunksDoc, 2, 2}};
constexpr ParamInfo kManyChunks[] = {{"chunks", ParamType::kInt, "2", kChunksDoc, 1}};

constexpr int64_t kMaxStages = 4096;
constexpr int64_t kMaxStageMicroBatches = int64_t{1} << 22;

}  // namespace

#define PIPELINE_SCHEDULE(name, doc, params, factory) \
  StatusOr<Plan> factory(int num_ranks, int num_micro_batches, const Params& params);
#include "parallel/pipeline/schedules.def"
#undef PIPELINE_SCHEDULE

absl::Span<const Entry<PipelineScheduleFactory>> PipelineSchedules() {
  static constexpr Entry<PipelineScheduleFactory> kEntries[] = {
#define PIPELINE_SCHEDULE(name, doc, params, factory) {#name, doc, params, factory},
#include "parallel/pipeline/schedules.def"
#undef PIPELINE_SCHEDULE
  };
  return kEntries;
}

std::string ToString(const Action& action) {
  static constexpr const char* kNames[] = {"F", "I", "W", "B"};
  return absl::StrCat(kNames[static_cast<int>(action.kind)], "(stage ", action.stage,
                      ", micro-batch ", action.micro_batch, ")");
}

PipelineShape LoopPlacement(int num_ranks, int num_micro_batches, int num_chunks) {
  PipelineShape shape{num_ranks, num_micro_batches, num_chunks, {}};
  for (int stage = 0; stage < num_ranks * num_chunks; ++stage) {
    shape.rank_of_stage.push_back(stage % num_ranks);
  }
  return shape;
}

PipelineShape VPlacement(int num_ranks, int num_micro_batches) {
  PipelineShape shape{num_ranks, num_micro_batches, 2, {}};
  for (int rank = 0; rank < num_ranks; ++rank) shape.rank_of_stage.push_back(rank);
  for (int rank = num_ranks - 1; rank >= 0; --rank) shape.rank_of_stage.push_back(rank);
  return shape;
}

StatusOr<Plan> MakePlan(absl::string_view schedule, int64_t num_ranks, int64_t num_micro_batches,
                        const ParamMap& params) {
  ASSIGN_OR_RETURN(const auto* entry,
                   FindEntry("pipeline_schedule", PipelineSchedules(), schedule));
  ASSIGN_OR_RETURN(const Params checked, Params::Create(entry->name, entry->params, params));
  const int64_t num_chunks = checked.Int("chunks");
  const auto refused = [&](const auto&... why) {
    return absl::InvalidArgumentError(absl::StrCat(schedule, ": ", why...));
  };
  if (num_ranks < 1) return refused("ranks = ", num_ranks, ", must be at least 1");
  if (num_micro_batches < 1) {
    return refused("micro-batches = ", num_micro_batches, ", must be at least 1");
  }
  if (num_ranks > kMaxStages / num_chunks) {
    return refused("ranks = ", num_ranks, " with chunks = ", num_chunks, " are more than ",
                   kMaxStages, " stages");
  }
  const int64_t num_stages = num_ranks * num_chunks;
  if (num_micro_batches > kMaxStageMicroBatches / num_stages) {
    return refused("micro-batches = ", num_micro_batches, ", at most ",
                   kMaxStageMicroBatches / num_stages, " with ", num_stages, " stages");
  }
  return entry->factory(static_cast<int>(num_ranks), static_cast<int>(num_micro_batches), checked);
}

}  // namespace trireme
