// VerifyLayouts: a model trained for a few steps under many layouts, each compared with one rank:
// every hidden state, loss, gradient norm, gradient and updated weight.
//
// With exchanges that are not data parallelism the number of replicas decides what a run computes.
// Then the config says it, layouts differ in what a replica is made of, and each replica is
// compared with the same one of a run with replicas of one rank; what exchanges keep from step to
// step, too. Codecs have thresholds (the k-th largest value, half a quantum, a sign). In f64 a
// layout's sums differ from the reference's in the last digits, so that only values that tie within
// those could fall on another side; nothing is done to hide it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "data/dataset.h"
#include "launch/run_config.pb.h"
#include "launch/trainer.h"

namespace trireme {

// A way to lay a run out, as assignments to its config.
struct RunLayout {
  std::vector<std::pair<std::string, std::string>> values;  // {"mesh.tensor", "2"}, ...

  // "tensor=2 pipeline=4 zb_v": what differs from one rank.
  std::string ToString() const;
};

// Every factorization of num_ranks over the five axes, times the pipeline schedules, methods of the
// sequence axis, ZeRO stages and stream layouts that mean something there. Whether a model can be
// cut so is not asked. `scans`: times the transports of linear attention, too.
std::vector<RunLayout> AllLayouts(int num_ranks, bool scans = false);
// Whether a layer of the config's model is not softmax attention.
bool HasLinearAttention(const RunConfig& config);
// Whether the number of replicas decides what a run computes.
bool ReplicasDecide(const RunConfig& config);
// Few of `layouts` in which each pair of values that they have in common appears.
std::vector<RunLayout> PairwiseCover(const std::vector<RunLayout>& layouts);

struct VerifyOptions {
  int num_ranks = 8;
  int num_steps = 3;  // 0: 2, and with exchanges one more than two of each take, if there are.
  // f64: every tensor of every rank is within `tolerance` of one rank's, relative to its largest
  // value. f32: the root mean square distances of hidden states, gradients and weights to those of
  // one rank in f64 are at most twice as large as those of one rank in f32; meant for one step.
  DType dtype = DType::kF64;
  double tolerance = 1e-10;
  bool pairwise = false;
  std::vector<RunLayout> layouts = {};  // These instead, if there are any.
  std::string device = "cpu";           // Of the ranks; that of the one rank is the CPU.
  bool blame = true;  // Look for the axes that make a layout differ, by runs without each.
  // Instead of the config's model.
  ModelBuilder model = nullptr;
  // What thread ranks take for their world.
  std::function<std::unique_ptr<Communicator>(Communicator& world)> wrap_world = nullptr;
};

struct LayoutVerdict {
  enum class Outcome { kEqual, kDiffers, kSkipped };
  RunLayout layout;
  Outcome outcome = Outcome::kEqual;
  double worst = 0;  // f64: the largest relative distance. f32: the largest ratio of distances.
  std::string
      reason;  // Why it was skipped; or the first tensor that differs, and the axis that does it.
};
using ReportVerdict = std::function<void(const LayoutVerdict&)>;

// Runs `config` on one rank, then on num_ranks thread ranks under each layout, reporting each
// verdict as it comes. The mesh and dtype of the config are replaced, but for mesh.replica when
// ReplicasDecide. INVALID_ARGUMENT when the config does not run on one rank, or so many replicas
// not on num_ranks.
StatusOr<std::vector<LayoutVerdict>> VerifyLayouts(const RunConfig& config,
                                                   const VerifyOptions& options,
                                                   const ReportVerdict& report = nullptr);

// The same over the ranks of `world`, processes for example, whose size stands for num_ranks; every
// rank calls it and has the same verdicts. A rank that fails ends it.
StatusOr<std::vector<LayoutVerdict>> VerifyLayoutsOn(Communicator& world, const RunConfig& config,
                                                     const VerifyOptions& options,
                                                     const ReportVerdict& report = nullptr);

}  // namespace trireme
