// What `scan { name: "auto" }` stands for in a run, said in words: by `trireme mesh`, and once when
// a run starts.
#pragma once

#include <string>

#include "core/module/model.h"
#include "launch/run_config.pb.h"
#include "parallel/sequence/sequence_axis.h"

namespace trireme {

// "scan auto: pipelined in 8 blocks"; what layers choose differently is listed in their order.
// Empty where another scan is named, or nothing is scanned. Of a micro-batch of `num_samples`; the
// config is resolved.
std::string ScanChoiceInWords(const RunConfig& config, const Model& model,
                              const SequenceAxis& sequence, int64_t num_samples);

}  // namespace trireme
