// The config of a run: loaded from a file and --set, completed with defaults, checked, printed,
// compared.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/component.h"
#include "core/base/registry.h"
#include "core/base/status.h"
#include "launch/config_reader.h"
#include "launch/run_config.pb.h"

namespace trireme {

struct LoadedConfig {
  RunConfig config;
  Origins origins;  // What has no origin is a default.
};

// Reads the file, applies the assignments in order and fills in the defaults of RunConfig. A file
// that names no run_dir gets runs/<stem of the file's name>. Errors are one line.
StatusOr<LoadedConfig> LoadConfig(const std::string& path,
                                  absl::Span<const std::string> assignments);
// The same from text; `name` stands in messages.
StatusOr<LoadedConfig> ParseConfig(absl::string_view name, absl::string_view text,
                                   absl::Span<const std::string> assignments);

// Everything that can be known before anything is allocated: required values, ranges, the mesh
// against the number of ranks, divisibility, names and parameters of components. `catalogue` is
// what is registered. Completes the config: parameters of components with their defaults,
// mesh.replica, batch.micro_batch_size. Errors are one line and open with the place of the value.
Status ResolveConfig(int64_t num_ranks, absl::Span<const Listing> catalogue, LoadedConfig* loaded);

// As factories take it.
ComponentConfig ToComponentConfig(const Component& component);

// Text proto, a value a line, each with its origin as a comment when `with_origins`. LoadConfig
// reads it back.
std::string PrintConfig(const LoadedConfig& loaded, bool with_origins);

// Of what determines the numbers of a run, up to the order of sums: seed, dtype, model, data,
// global batch, optimizer and schedule, and whose weights it starts from. Not of num_steps, the
// mesh, threads, folders, or how often things are reported and saved. 16 hexadecimal digits, of a
// resolved config.
std::string ConfigHash(const RunConfig& config);

// What differs in that sense, as "optimizer.beta1 (0.9 there, 0.95 here)"; empty when the hashes
// are equal.
std::vector<std::string> ConfigDifferences(const RunConfig& there, const RunConfig& here);

}  // namespace trireme
