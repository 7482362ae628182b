#include "launch/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "core/io/file.h"
#include "core/io/json.h"

namespace trireme {
namespace {

constexpr int64_t kMaxMetricsBytes = int64_t{1} << 32;

// An object under construction; remembers what was not finite.
class Line {
 public:
  Line() { writer_.BeginObject(); }

  void Int(const char* key, int64_t value) { writer_.Key(key).Int(value); }
  void Double(const char* key, double value) {
    writer_.Key(key).Double(value);
    if (std::isfinite(value)) return;
    const char* what = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    absl::StrAppend(&note_, note_.empty() ? "" : ", ", key, " is ", what);
  }
  JsonWriter& writer() { return writer_; }

  std::string Finish() {
    if (!note_.empty()) writer_.Key("note").String(note_);
    writer_.EndObject();
    return std::move(text_);
  }

 private:
  std::string text_;
  std::string note_;
  JsonWriter writer_{&text_};
};

// A rate over a step too short to be measured is zero.
double Rate(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

// The lines of steps up to `last_step`, newlines included.
std::string LinesUntil(absl::string_view text, int64_t last_step) {
  std::string kept;
  while (true) {
    const size_t newline = text.find('\n');
    if (newline == absl::string_view::npos) return kept;
    const absl::string_view line = text.substr(0, newline);
    text.remove_prefix(newline + 1);
    const StatusOr<Json> json = ParseJson(line);
    if (!json.ok()) continue;
    const Json* step = json->Find("step");
    const int64_t* number = step == nullptr ? nullptr : step->As<int64_t>();
    if (number != nullptr && *number <= last_step) absl::StrAppend(&kept, line, "\n");
  }
}

}  // namespace

std::string ToJsonLine(const StepMetrics& metrics) {
  Line line;
  line.Int("step", metrics.step);
  line.Double("loss", metrics.loss);
  line.Double("grad_norm", metrics.grad_norm);
  line.Double("learning_rate", metrics.learning_rate);
  line.Int("tokens", metrics.tokens);
  line.Double("tokens_per_second", Rate(static_cast<double>(metrics.tokens), metrics.step_seconds));
  line.Double("step_seconds", metrics.step_seconds);
  line.Double("model_flops_per_second", Rate(metrics.model_flops, metrics.step_seconds));
  line.writer().Key("comm_bytes").BeginObject();
  for (const auto& [axis, bytes] : metrics.comm_bytes) line.writer().Key(axis).Int(bytes);
  line.writer().EndObject();
  if (metrics.rounds > 0) line.Int("rounds", metrics.rounds);
  if (metrics.replica_divergence) line.Double("replica_divergence", *metrics.replica_divergence);
  return line.Finish();
}

std::string ToJsonLine(const EvaluationMetrics& metrics) {
  Line line;
  line.Int("step", metrics.step);
  line.Double("validation_loss", metrics.loss);
  if (metrics.bits_per_byte.has_value()) line.Double("bits_per_byte", *metrics.bits_per_byte);
  if (metrics.accuracy.has_value()) line.Double("accuracy", *metrics.accuracy);
  if (metrics.personal_loss.has_value()) line.Double("personal_loss", *metrics.personal_loss);
  if (metrics.personal_accuracy.has_value()) {
    line.Double("personal_accuracy", *metrics.personal_accuracy);
  }
  line.Int("evaluation_targets", metrics.num_targets);
  line.Double("evaluation_seconds", metrics.seconds);
  return line.Finish();
}

StatusOr<MetricsWriter> MetricsWriter::Open(const std::string& path, int64_t resumed_step) {
  if (PathExists(path)) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxMetricsBytes));
    const std::string kept = LinesUntil(text, resumed_step);
    if (kept != text) RETURN_IF_ERROR(WriteFileAtomically(path, kept));
  }
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) return ErrnoStatus(errno, "open", path);
  return MetricsWriter(path, fd);
}

MetricsWriter::MetricsWriter(MetricsWriter&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

MetricsWriter& MetricsWriter::operator=(MetricsWriter&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

MetricsWriter::~MetricsWriter() {
  if (fd_ >= 0) close(fd_);
}

Status MetricsWriter::WriteLine(std::string line) {
  line += '\n';
  absl::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus(errno, "write", path_);
    rest.remove_prefix(written);
  }
  return absl::OkStatus();
}

}  // namespace trireme
