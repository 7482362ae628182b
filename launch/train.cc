#include "launch/train.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

#include "core/ops/devices.h"
#include "data/dataset.h"
#include "launch/agreement.h"
#include "launch/checkpoint/checkpoint_dir.h"
#include "launch/run_dir.h"
#include "launch/run_reporter.h"
#include "launch/run_state.h"
#include "launch/stop_signal.h"
#include "launch/trainer.h"

namespace trireme {
namespace {

class Run {
 public:
  Run(const LoadedConfig& loaded, const RankContext& rank)
      : loaded_(loaded), config_(loaded.config), rank_(rank), world_(rank.world) {}

  StatusOr<RunEnding> Execute(const std::string& resume) {
    RETURN_IF_ERROR(Prepare(resume));
    while (trainer_->step() < config_.num_steps()) {
      RETURN_IF_ERROR(OneStep());
      const int64_t step = trainer_->step();
      const bool last = step == config_.num_steps();
      int signal = 0;
      if (last || MeetsOthers(step)) {
        ASSIGN_OR_RETURN(signal, AgreeOnStopSignal());
      }
      if (last || Due(config_.evaluation().every())) RETURN_IF_ERROR(EvaluateNow());
      if (last || signal != 0 || Due(config_.checkpoint().every())) RETURN_IF_ERROR(Save());
      if (signal != 0 && !last) {
        reporter_->Summary(
            absl::StrCat("stopped by ", StopSignalName(signal), " after step ", step));
        return RunEnding::kStopped;
      }
    }
    reporter_->Summary("done");
    return RunEnding::kDone;
  }

 private:
  Status Prepare(const std::string& resume) {
    const RunConfig::Data& data = config_.data();
    const ComponentConfig dataset = ToComponentConfig(data.dataset());
    ASSIGN_OR_RETURN(dataset_, MakeDataset(dataset.name, dataset.params, {data.sequence_length()}));
    // Ranks read the folder before rank 0 writes there.
    ASSIGN_OR_RETURN(const ResumeFrom from, DecideResume(config_, resume));
    RETURN_IF_ERROR(world_.Barrier({.purpose = "resume"})->Wait());
    Status prepared;
    if (world_.rank() == 0) prepared = PrepareRunDir(loaded_);
    RETURN_IF_ERROR(prepared);
    RETURN_IF_ERROR(world_.Barrier({.purpose = "run folder"})->Wait());

    ASSIGN_OR_RETURN(reporter_, RunReporter::Create({config_.run_dir(), world_.rank(),
                                                     config_.num_steps(), config_.log_every()}));
    if (world_.rank() == 0) {
      for (const std::string& remark : rank_.remarks) reporter_->Line(remark);
    }
    ASSIGN_OR_RETURN(trainer_, Trainer::Create(config_, *dataset_, rank_.tensor_world, rank_.device,
                                               reporter_->phases()));
    if (const std::string scan = trainer_->ScanChoice(); !scan.empty() && world_.rank() == 0) {
      reporter_->Line(scan);
    }
    RETURN_IF_ERROR(LoadCheckpoint(from, resume));
    return reporter_->Start(trainer_->step());
  }

  // Rank 0 chooses the checkpoint for all.
  Status LoadCheckpoint(ResumeFrom from, const std::string& resume) {
    std::string directory;
    Status found;
    if (from == ResumeFrom::kPath) {
      directory = resume;
    } else if (from == ResumeFrom::kNewest && world_.rank() == 0) {
      auto newest = FindLatest(CheckpointsDir(config_.run_dir()));
      if (newest.ok()) {
        directory = *newest;
      } else if (!absl::IsNotFound(newest.status())) {
        found = newest.status();
      }
    }
    RETURN_IF_ERROR(found);
    ASSIGN_OR_RETURN(directory, BroadcastText(world_, directory));
    if (directory.empty() && !config_.init_from().empty()) return StartFrom(config_.init_from());
    if (directory.empty()) {
      reporter_->Line(absl::StrFormat("%d parameters, starting at step 0",
                                      trainer_->model().parameters().num_elements()));
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const std::string remark,
                     LoadState(directory, dataset_->fingerprint(), *trainer_));
    reporter_->Line(absl::StrCat("resuming from ", directory));
    if (!remark.empty()) reporter_->Line(remark);
    return absl::OkStatus();
  }

  // A checkpoint, or a run: then its newest.
  Status StartFrom(const std::string& path) {
    std::string directory = path;
    Status found;
    if (world_.rank() == 0) {
      const std::string checkpoints = CheckpointsDir(path);
      const auto steps = ListCheckpoints(checkpoints);
      if (steps.ok() && !steps->empty()) {
        auto newest = FindLatest(checkpoints);
        found = newest.status();
        if (newest.ok()) directory = *newest;
      }
    }
    RETURN_IF_ERROR(found);
    ASSIGN_OR_RETURN(directory, BroadcastText(world_, directory));
    const auto start = LoadParameters(directory, *trainer_);
    if (!start.ok()) {
      return Status(start.status().code(), absl::StrCat("init_from: ", start.status().message()));
    }
    reporter_->Line(absl::StrCat("starting from ", directory, ": ", start->ToString()));
    return absl::OkStatus();
  }

  bool Due(int64_t every) const { return every > 0 && trainer_->step() % every == 0; }

  Status OneStep() {
    const absl::Time start = absl::Now();
    ASSIGN_OR_RETURN(const StepReport report, trainer_->Step());
    StepMetrics metrics;
    metrics.step = report.step;
    metrics.loss = report.loss;
    metrics.grad_norm = report.grad_norm;
    metrics.learning_rate = report.learning_rate;
    metrics.tokens = report.num_tokens;
    metrics.step_seconds = absl::ToDoubleSeconds(absl::Now() - start);
    metrics.model_flops = report.flops;
    std::map<std::string, int64_t> sent;
    for (const auto& [what, bytes] : rank_.tensor_world.journal().SentBytes()) {
      sent[what.first] += bytes;
    }
    for (const auto& [axis, bytes] : sent) {
      if (axis == world_.axis()) continue;  // Agreements about the run, not the training.
      metrics.comm_bytes[axis] = bytes - std::exchange(sent_bytes_[axis], bytes);
    }
    const Exchanges::Report& exchanged = trainer_->exchanges().report();
    metrics.rounds = exchanged.rounds;
    metrics.replica_divergence = exchanged.divergence;
    return reporter_->Step(metrics);
  }

  // Whether ranks agree on signals after this step: inside a round a replica does not wait for the
  // others at every step.
  bool MeetsOthers(int64_t step) const {
    constexpr int64_t kStepsBetween = 8;
    const Exchanges& exchanges = trainer_->exchanges();
    return !exchanges.has_local_steps() || exchanges.report().rounds > 0 ||
           step % kStepsBetween == 0;
  }

  // A signal may reach some ranks only, and at different times.
  StatusOr<int> AgreeOnStopSignal() {
    ASSIGN_OR_RETURN(const int64_t signal, LargestOf(world_, *host_, StopSignal()));
    return static_cast<int>(signal);
  }

  Status EvaluateNow() {
    if (dataset_->num_samples(Split::kValidation) == 0) return absl::OkStatus();
    const absl::Time start = absl::Now();
    ASSIGN_OR_RETURN(const EvaluationReport report,
                     trainer_->Evaluate(config_.evaluation().num_batches()));
    EvaluationMetrics metrics;
    metrics.step = trainer_->step();
    metrics.loss = report.mean_loss();
    if (report.loss.bytes > 0) metrics.bits_per_byte = report.bits_per_byte();
    metrics.accuracy = report.accuracy;
    metrics.num_targets = report.loss.count;
    ASSIGN_OR_RETURN(const auto personal,
                     trainer_->EvaluatePersonal(config_.evaluation().num_batches()));
    if (personal.has_value()) {
      metrics.personal_loss = personal->mean_loss();
      metrics.personal_accuracy = personal->accuracy;
    }
    metrics.seconds = absl::ToDoubleSeconds(absl::Now() - start);
    return reporter_->Evaluation(metrics);
  }

  Status Save() {
    const PhaseScope scope(reporter_->phases(), Phase::kCheckpoint);
    RETURN_IF_ERROR(trainer_->exchanges().Settle());
    return SaveCheckpoint(MakeCheckpointGroup(world_), CheckpointsDir(config_.run_dir()),
                          TensorsToWrite(*trainer_),
                          MakeCheckpointInfo(*trainer_, config_, dataset_->fingerprint()),
                          static_cast<int>(config_.checkpoint().keep()));
  }

  const LoadedConfig& loaded_;
  const RunConfig& config_;
  const RankContext& rank_;
  Communicator& world_;
  const std::unique_ptr<Device> host_ = MakeCpuDevice();
  std::unique_ptr<Dataset> dataset_;
  std::unique_ptr<RunReporter> reporter_;
  std::unique_ptr<Trainer> trainer_;
  std::map<std::string, int64_t> sent_bytes_;  // By axis.
};

}  // namespace

StatusOr<RunEnding> Train(const LoadedConfig& loaded, const std::string& resume,
                          const RankContext& rank) {
  return Run(loaded, rank).Execute(resume);
}

}  // namespace trireme
