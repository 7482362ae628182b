// trireme eval: a checkpoint on files, or on the validation split of its own data.
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/io/file.h"
#include "data/dataset.h"
#include "launch/bootstrap.h"
#include "launch/catalogue.h"
#include "launch/checkpoint/checkpoint_dir.h"
#include "launch/checkpoint/checkpoint_reader.h"
#include "launch/commands.h"
#include "launch/config.h"
#include "launch/run_dir.h"
#include "launch/run_state.h"
#include "launch/trainer.h"

namespace trireme {
namespace {

constexpr Flag kFlags[] = {
    {"checkpoint", "DIR", "a checkpoint, or a run folder: its newest valid checkpoint"},
    {"dataset", "NAME",
     "what FILE... are: text (the default) or another entry of `trireme list dataset` that has "
     "files"},
    {"set", "PATH=VALUE",
     "changes one value of the run's config: data.dataset.documents=paragraph, dtype=f64", true},
    {"num_batches", "N", "batches to evaluate; 0 (the default): everything"},
    {"ranks", "N", "shares the work among N threads of this process; not under mpirun"},
    {"threads", "N", "threads of each rank"},
    {"single", nullptr, "one rank, whatever the launcher says"},
};

struct Evaluated {
  std::string checkpoint;
  LoadedConfig loaded;
};

// The config that the checkpoint carries, with the data replaced by the files, resolved.
StatusOr<Evaluated> Load(const CommandLine& line, int64_t num_ranks) {
  Evaluated evaluated;
  evaluated.checkpoint = line.String("checkpoint");
  if (PathExists(CheckpointsDir(evaluated.checkpoint))) {
    ASSIGN_OR_RETURN(evaluated.checkpoint, FindLatest(CheckpointsDir(evaluated.checkpoint)));
  }
  ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(evaluated.checkpoint));
  ASSIGN_OR_RETURN(evaluated.loaded, ParseConfig(absl::StrCat(evaluated.checkpoint, " (config)"),
                                                 reader.info().config, {}));
  RunConfig& config = evaluated.loaded.config;
  if (!line.positional().empty()) {
    Component* dataset = config.mutable_data()->mutable_dataset();
    dataset->Clear();
    dataset->set_name(line.String("dataset", "text"));
    (*dataset->mutable_params())["files"] = absl::StrJoin(line.positional(), ",");
    (*dataset->mutable_params())["validation_fraction"] = std::string(1, '1');
  }
  // The mesh and the batch are this evaluation's: any number of ranks will do.
  config.mutable_mesh()->Clear();
  ASSIGN_OR_RETURN(const LoadedConfig defaults, ParseConfig("", "", {}));
  *config.mutable_mesh() = defaults.config.mesh();
  const int64_t micro = config.batch().micro_batch_size();
  config.mutable_batch()->set_global_batch_size(micro * num_ranks);
  for (const std::string& assignment : line.All("set")) {
    RETURN_IF_ERROR(ApplyAssignment(assignment, &config, &evaluated.loaded.origins));
  }
  RETURN_IF_ERROR(ResolveConfig(num_ranks, Catalogue(), &evaluated.loaded));
  return evaluated;
}

Status Evaluate(const Evaluated& evaluated, int64_t num_batches, const RankContext& rank) {
  const RunConfig& config = evaluated.loaded.config;
  const ComponentConfig data = ToComponentConfig(config.data().dataset());
  ASSIGN_OR_RETURN(const std::unique_ptr<Dataset> dataset,
                   MakeDataset(data.name, data.params, {config.data().sequence_length()}));
  if (dataset->num_samples(Split::kValidation) == 0) {
    return absl::InvalidArgumentError(absl::StrCat(data.name, " has no validation samples"));
  }
  PhaseTimer phases;
  ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer,
                   Trainer::Create(config, *dataset, rank.tensor_world, rank.device, phases));
  ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(evaluated.checkpoint));
  for (const SavedTensor& tensor : ParameterTensors(trainer->model().parameters())) {
    RETURN_IF_ERROR(reader.Read(tensor));
  }
  RETURN_IF_ERROR(trainer->Resume(reader.info().step));
  ASSIGN_OR_RETURN(const EvaluationReport report, trainer->Evaluate(num_batches));
  if (rank.world.rank() != 0) return absl::OkStatus();
  std::string text = absl::StrFormat("%s: loss %.4f over %d labels", evaluated.checkpoint,
                                     report.mean_loss(), report.loss.count);
  if (report.loss.bytes > 0) {
    absl::StrAppendFormat(&text, ", %.4f bits per byte", report.bits_per_byte());
  }
  if (report.accuracy.has_value()) {
    absl::StrAppendFormat(&text, ", accuracy %.2f %%", 100 * *report.accuracy);
  }
  std::puts(text.c_str());
  return absl::OkStatus();
}

struct Request {
  LaunchPlan plan;
  int64_t num_batches = 0;
  int64_t threads = 0;
};

StatusOr<Request> ReadRequest(const CommandLine& line) {
  if (!line.Has("checkpoint")) return absl::InvalidArgumentError("eval needs --checkpoint DIR");
  if (line.Has("dataset") && line.positional().empty()) {
    return absl::InvalidArgumentError("--dataset says what FILE... are, and there is none");
  }
  Request request;
  ASSIGN_OR_RETURN(const int64_t ranks, line.Int("ranks", 0, 1));
  ASSIGN_OR_RETURN(request.num_batches, line.Int("num_batches", 0, 0));
  ASSIGN_OR_RETURN(request.threads, line.Int("threads", 0, 0));
  ASSIGN_OR_RETURN(request.plan, PlanLaunch({ranks, line.Has("single")}, ReadLaunchedWorld()));
  return request;
}

int RunEval(const CommandLine& line) {
  const StatusOr<Request> request = ReadRequest(line);
  if (!request.ok()) return UsageError(request.status());
  const StatusOr<Evaluated> evaluated = Load(line, request->plan.num_ranks);
  WorldOptions options;
  options.threads = request->threads;
  if (evaluated.ok()) {
    const RunConfig& config = evaluated->loaded.config;
    options.device = {config.device(), config.allow_tf32()};
  }
  return RunWorld(request->plan, evaluated.status(), options, [&](const RankContext& rank) {
    return Evaluate(*evaluated, request->num_batches, rank);
  });
}

}  // namespace

Command EvalCommand() {
  return {{"eval", "Evaluates a checkpoint on files, or on its run's validation split.",
           "[FILE...]", 0, 1 << 20, kFlags, "trireme eval --checkpoint runs/demo book.txt"},
          &RunEval};
}

}  // namespace trireme
