#include "launch/run_reporter.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_format.h"

#include "core/io/file.h"
#include "launch/run_dir.h"

namespace trireme {

StatusOr<std::unique_ptr<RunReporter>> RunReporter::Create(const ReporterOptions& options) {
  std::unique_ptr<RunReporter> reporter(new RunReporter(options));
  const std::string path = RankLogPath(options.run_dir, options.rank);
  reporter->log_fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (reporter->log_fd_ < 0) return ErrnoStatus(errno, "open", path);
  return reporter;
}

RunReporter::~RunReporter() {
  if (log_fd_ >= 0) close(log_fd_);
}

Status RunReporter::Start(int64_t resumed_step) {
  resumed_step_ = last_step_ = resumed_step;
  ProgressOptions progress;
  progress.first_step = resumed_step;
  progress.num_steps = options_.num_steps;
  progress.log_every = options_.log_every;
  progress.fd = log_fd_;
  progress.timestamps = true;
  log_.emplace(progress);
  if (options_.rank != 0) return absl::OkStatus();
  progress.fd = STDOUT_FILENO;
  progress.timestamps = false;
  progress.live = IsLiveTerminal(STDOUT_FILENO);
  terminal_.emplace(progress);
  ASSIGN_OR_RETURN(metrics_, MetricsWriter::Open(MetricsPath(options_.run_dir), resumed_step));
  return absl::OkStatus();
}

Status RunReporter::Step(const StepMetrics& metrics) {
  last_step_ = metrics.step;
  tokens_ += metrics.tokens;
  step_seconds_ += metrics.step_seconds;
  if (log_.has_value()) log_->Step(metrics);
  if (terminal_.has_value()) terminal_->Step(metrics);
  return metrics_.has_value() ? metrics_->Write(metrics) : absl::OkStatus();
}

Status RunReporter::Evaluation(const EvaluationMetrics& metrics) {
  std::string text = absl::StrFormat("step %d  validation loss %.4f", metrics.step, metrics.loss);
  if (metrics.bits_per_byte.has_value()) {
    absl::StrAppendFormat(&text, "  %.4f bits per byte", *metrics.bits_per_byte);
  }
  if (metrics.accuracy.has_value()) {
    absl::StrAppendFormat(&text, "  accuracy %.2f %%", 100 * *metrics.accuracy);
  }
  if (metrics.personal_loss.has_value()) {
    absl::StrAppendFormat(&text, "  personal loss %.4f", *metrics.personal_loss);
  }
  if (metrics.personal_accuracy.has_value()) {
    absl::StrAppendFormat(&text, "  personal accuracy %.2f %%", 100 * *metrics.personal_accuracy);
  }
  Line(text);
  return metrics_.has_value() ? metrics_->Write(metrics) : absl::OkStatus();
}

void RunReporter::Line(absl::string_view text) {
  LogLine(text);
  if (terminal_.has_value()) {
    terminal_->Line(text);
  } else if (options_.rank == 0) {
    ProgressOptions plain;
    plain.fd = STDOUT_FILENO;
    Progress(plain).Line(text);
  }
}

void RunReporter::LogLine(absl::string_view text) {
  ProgressOptions plain;
  plain.fd = log_fd_;
  plain.timestamps = true;
  Progress(plain).Line(text);
}

void RunReporter::Summary(absl::string_view ending) {
  if (log_.has_value()) log_->Finish();
  if (terminal_.has_value()) terminal_->Finish();
  Line(absl::StrFormat("%s: %d steps (to step %d), %d tokens, %.0f tokens/s", ending,
                       last_step_ - resumed_step_, last_step_, tokens_,
                       step_seconds_ > 0 ? static_cast<double>(tokens_) / step_seconds_ : 0));
  Line(absl::StrFormat("time: %.2f s: %s", absl::ToDoubleSeconds(phases_.total()),
                       phases_.Summary()));
  if (options_.rank != 0) return;
  Line(absl::StrCat("metrics:     ", MetricsPath(options_.run_dir)));
  Line(absl::StrCat("logs:        ", LogsDir(options_.run_dir)));
  Line(absl::StrCat("checkpoints: ", CheckpointsDir(options_.run_dir)));
}

}  // namespace trireme
