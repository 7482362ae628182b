// One run for sync_pareto.sh: replicas that are threads train on few small pictures. Of the
// config's pictures 5000 are trained on, made half as wide and half as high; it is scored on 5000
// others of the training files or, with --test, on the validation files. Prints a line:
//   accuracy, mean loss, bytes that a replica sent, seconds
//   build-release/tests/bench/sync_bench CONFIG [--test] [PATH=VALUE...]
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/base/rng.h"
#include "core/ops/devices.h"
#include "launch/bootstrap.h"
#include "launch/catalogue.h"
#include "launch/command_line.h"
#include "launch/config.h"
#include "launch/trainer.h"
#include "parallel/comm/local.h"

namespace trireme::bench {
namespace {

constexpr int64_t kTrained = 5000, kHeldOut = 5000;

// The first pictures of a data set, each pixel the mean of four.
class SmallPictures : public Dataset {
 public:
  SmallPictures(std::unique_ptr<Dataset> whole, bool test)
      : whole_(std::move(whole)), test_(test) {}

  int64_t num_samples(Split split) const override {
    if (split == Split::kTrain) return kTrained;
    return test_ ? whole_->num_samples(Split::kValidation) : kHeldOut;
  }
  int64_t num_classes() const override { return whole_->num_classes(); }
  bool is_text() const override { return false; }
  bool has_accuracy() const override { return true; }
  Shape feature_shape() const override {
    const Shape whole = whole_->feature_shape();
    return {whole[0] / 2, whole[1] / 2};
  }
  uint64_t fingerprint() const override {
    return StableHash(test_ ? "test" : "held out", whole_->fingerprint());
  }

  Status Fill(Split split, absl::Span<const SampleRef> samples, HostBatch* batch) const override {
    std::vector<SampleRef> there(samples.begin(), samples.end());
    const bool held_out = split == Split::kValidation && !test_;
    if (held_out) {
      for (SampleRef& sample : there) sample.index += kTrained;
    }
    RETURN_IF_ERROR(whole_->Fill(held_out ? Split::kTrain : split, there, batch));
    const Shape small = feature_shape();
    const int64_t width = whole_->feature_shape()[1], pixels = whole_->feature_shape().numel();
    std::vector<float> means;
    means.reserve(there.size() * small.numel());
    for (size_t i = 0; i < there.size(); ++i) {
      const float* picture = batch->features.data() + i * pixels;
      for (int64_t y = 0; y < small[0]; ++y) {
        for (int64_t x = 0; x < small[1]; ++x) {
          const float* corner = picture + 2 * y * width + 2 * x;
          means.push_back((corner[0] + corner[1] + corner[width] + corner[width + 1]) / 4);
        }
      }
    }
    batch->features = std::move(means);
    batch->feature_shape = small;
    return absl::OkStatus();
  }

 private:
  const std::unique_ptr<Dataset> whole_;
  const bool test_;
};

StatusOr<std::string> Run(const std::string& path, bool test,
                          const std::vector<std::string>& assignments) {
  ASSIGN_OR_RETURN(LoadedConfig loaded, LoadConfig(path, assignments));
  const int num_ranks = static_cast<int>(loaded.config.mesh().replica());
  RETURN_IF_ERROR(ResolveConfig(num_ranks, Catalogue(), &loaded));
  const RunConfig& config = loaded.config;
  const ComponentConfig data = ToComponentConfig(config.data().dataset());
  ASSIGN_OR_RETURN(std::unique_ptr<Dataset> whole, MakeDataset(data.name, data.params, {0}));
  const SmallPictures dataset(std::move(whole), test);
  std::string line;
  RETURN_IF_ERROR(RunOnRanks(num_ranks, {}, [&](Communicator& world) -> Status {
    const auto device = MakeCpuDevice({.num_threads = 1});
    PhaseTimer phases;
    ASSIGN_OR_RETURN(const auto trainer, Trainer::Create(config, dataset, world, *device, phases));
    const int64_t before = world.journal().SentBytes("replica");
    const absl::Time start = absl::Now();
    while (trainer->step() < config.num_steps()) RETURN_IF_ERROR(trainer->Step().status());
    const absl::Duration spent = absl::Now() - start;
    const int64_t sent = world.journal().SentBytes("replica") - before;
    ASSIGN_OR_RETURN(const EvaluationReport report, trainer->Evaluate(0));
    if (world.rank() == 0) {
      line = absl::StrCat(*report.accuracy, " ", report.mean_loss(), " ", sent, " ",
                          absl::ToDoubleSeconds(spent));
    }
    return absl::OkStatus();
  }));
  return line;
}

int Main(const std::vector<std::string>& args) {
  std::string path;
  bool test = false;
  std::vector<std::string> assignments;
  for (const std::string& arg : args) {
    if (arg == "--test") {
      test = true;
    } else if (path.empty()) {
      path = arg;
    } else {
      assignments.push_back(arg);
    }
  }
  if (path.empty()) {
    return UsageError(absl::InvalidArgumentError("sync_bench CONFIG [--test] [PATH=VALUE...]"));
  }
  const StatusOr<std::string> line = Run(path, test, assignments);
  if (!line.ok()) {
    PrintError(line.status());
    return kExitError;
  }
  std::printf("%s\n", line->c_str());
  return kExitDone;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  return trireme::bench::Main(std::vector<std::string>(argv + 1, argv + argc));
}
