// metrics.jsonl: a JSON object a line, a line a step, flushed line by line.
//
//   {"step":12,"loss":2.5,"grad_norm":0.9,"learning_rate":0.0003,"tokens":4096,
//    "tokens_per_second":10240,"step_seconds":0.4,"model_flops_per_second":1.2e11,
//    "comm_bytes":{"replica":812312},"rounds":1,"replica_divergence":0.002}
//   {"step":12,"validation_loss":2.6,"bits_per_byte":3.75,"evaluation_targets":65536,
//    "evaluation_seconds":1.5}
//
// Numbers are the shortest that read back equal. A number that is not finite is null, and "note"
// says what it was.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "core/base/status.h"

namespace trireme {

// Of one step, over all ranks unless said otherwise.
struct StepMetrics {
  int64_t step = 0;      // Updates done, this one included.
  double loss = 0;       // Mean over the labels that count.
  double grad_norm = 0;  // Before clipping.
  double learning_rate = 0;
  int64_t tokens = 0;
  double step_seconds = 0;
  double model_flops = 0;
  std::map<std::string, int64_t> comm_bytes;  // Sent by this rank, by mesh axis.
  // Of replicas that exchange: rounds that ended with this step, and how far replicas were from the
  // mean that they took, relative to it.
  int64_t rounds = 0;
  std::optional<double> replica_divergence;
};

// Of an evaluation after `step` updates.
struct EvaluationMetrics {
  int64_t step = 0;
  double loss = 0;
  std::optional<double> bits_per_byte;  // Text.
  std::optional<double> accuracy;       // Where labels are answers.
  // Of the replicas' own models, beside the one that is trained.
  std::optional<double> personal_loss, personal_accuracy;
  int64_t num_targets = 0;
  double seconds = 0;
};

std::string ToJsonLine(const StepMetrics& metrics);  // Without the newline.
std::string ToJsonLine(const EvaluationMetrics& metrics);

class MetricsWriter {
 public:
  // Appends to `path`. Lines of steps after `resumed_step` and lines that are not whole are cut
  // first, so that a resumed run goes on as if it had never stopped; 0 empties the file.
  static StatusOr<MetricsWriter> Open(const std::string& path, int64_t resumed_step);

  MetricsWriter(MetricsWriter&& other) noexcept;
  MetricsWriter& operator=(MetricsWriter&& other) noexcept;
  ~MetricsWriter();

  Status Write(const StepMetrics& metrics) { return WriteLine(ToJsonLine(metrics)); }
  Status Write(const EvaluationMetrics& metrics) { return WriteLine(ToJsonLine(metrics)); }

 private:
  MetricsWriter(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  Status WriteLine(std::string line);

  std::string path_;
  int fd_ = -1;
};

}  // namespace trireme
