// Pipeline schedules as data: which part of the model runs where, and what each rank runs, in
// order. Pure functions of three numbers: p ranks, m micro-batches, V chunks a rank. Nothing
// communicates here; lower.h derives the messages, verify.h proves that a plan ends, simulate.h
// says how long it takes and what it holds.
//
// The model is cut into p * V stages. With s a stage and i a micro-batch,
//   F(s, i) needs F(s-1, i)                what the stage before computed
//   I(s, i) needs F(s, i) and I(s+1, i)    the last stage needs its own F alone
//   W(s, i) needs I(s, i)
// and B(s, i) is I and W in one. Everything counts from 0.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/params.h"
#include "core/base/registry.h"
#include "core/base/status.h"

namespace trireme {

enum class ActionKind : uint8_t {
  F,  // Forward.
  I,  // Backward to the stage's input, which the stage before waits for. Weight closures are kept.
  W,  // The weight closures that I kept.
  B,  // Backward to input and weights at once.
};

struct Action {
  ActionKind kind;
  int stage;
  int micro_batch;

  bool operator==(const Action&) const = default;
};

// "F(stage 3, micro-batch 0)".
std::string ToString(const Action& action);

// What a plan is made for, and where its stages are.
struct PipelineShape {
  int num_ranks = 0;
  int num_micro_batches = 0;
  int num_chunks = 0;              // Stages of each rank.
  std::vector<int> rank_of_stage;  // num_ranks * num_chunks.

  int num_stages() const { return static_cast<int>(rank_of_stage.size()); }
  // Which of its rank's stages this one is, in the order of the model. Of the two placements below.
  int ChunkOf(int stage) const { return stage / num_ranks; }
};

// Stage c * p + r is chunk c of rank r: the stages go round the ranks num_chunks times.
PipelineShape LoopPlacement(int num_ranks, int num_micro_batches, int num_chunks);
// Rank r has stages r and 2p - 1 - r: down the ranks and back, so that rank 0 has both the first
// and the last stage, and a tied embedding needs no exchange.
PipelineShape VPlacement(int num_ranks, int num_micro_batches);

struct Plan : PipelineShape {
  std::vector<std::vector<Action>> orders;  // By rank.
};

// Of shapes that MakePlan has checked. INVALID_ARGUMENT, opening with the schedule's name, for a
// shape that it cannot take.
using PipelineScheduleFactory = StatusOr<Plan> (*)(int num_ranks, int num_micro_batches,
                                                   const Params& params);

// The registry, made from schedules.def. Each has the parameter `chunks`.
absl::Span<const Entry<PipelineScheduleFactory>> PipelineSchedules();

// The plan of a registered schedule. INVALID_ARGUMENT for an unknown name, parameters that it does
// not take, and sizes below one or beyond all use (4096 stages, 2^22 pairs of stage and
// micro-batch).
StatusOr<Plan> MakePlan(absl::string_view schedule, int64_t num_ranks, int64_t num_micro_batches,
                        const ParamMap& params = {});

}  // namespace trireme
