// Local steps: how a replica makes the gradient of one update from its samples of the step. The
// optimizer applies it, and exchanges between replicas treat it, as if backward had made it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/base/registry.h"
#include "core/module/parameter.h"
#include "parallel/sync/gradient_exchange.h"

namespace trireme {

// The trainer, to a local step.
struct LocalPasses {
  const ParameterSet& parameters;
  // Forward and backward of a batch of the step, counted from 0, at the parameters as they are: the
  // gradients of the owned slices, which may be written over, until the next call. plain: over all
  // replicas, where the exchanges of the step add gradients up; else inside this replica.
  std::function<StatusOr<std::vector<CompletedJob>>(int batch, bool plain)> gradients;
  // Owned slices have changed.
  std::function<Status()> refresh;
};

class LocalStep {
 public:
  virtual ~LocalStep() = default;

  // A step's samples come in so many batches of equal size, each shared by all replicas.
  virtual int num_batches() const { return 1; }
  // Whether a batch is asked for more than once.
  virtual bool repeats_batches() const { return false; }
  // Whether what Run returns may be summed over the replicas already. Otherwise it is of this
  // replica alone.
  virtual bool adds_up() const { return true; }

  // Allocates what stays from step to step. Throws Failure.
  virtual void Start(const ParameterSet&) {}
  // Every rank of a replica calls it at the same step. Afterwards the parameters are what they
  // were. In rounds of one job.
  virtual StatusOr<std::vector<CompletedJob>> Run(const LocalPasses& passes) = 0;

  // A model of each replica's own beside the one that is trained: by parameter, as its owned slice;
  // undefined where frozen. Empty: there is none. For checkpoints it is read and written.
  virtual absl::Span<const Tensor> personal() const { return {}; }
  // The parameters alone were filled: it starts from them. Throws Failure.
  virtual void Restart(const ParameterSet&) {}
};

using LocalStepFactory = StatusOr<std::unique_ptr<LocalStep>> (*)(const Params& params);

// The registry, made from local_steps.def.
absl::Span<const Entry<LocalStepFactory>> LocalSteps();
StatusOr<std::unique_ptr<LocalStep>> MakeLocalStep(absl::string_view name, const ParamMap& params);

// The slices of parameters that are not frozen, put aside while others stand in their place.
class OwnedCopies {
 public:
  // Throws Failure.
  void Allocate(const ParameterSet& parameters, MemoryKind kind, absl::string_view label);
  void CopyFromOwned(const ParameterSet& parameters) const;
  void CopyToOwned(const ParameterSet& parameters) const;

  // Undefined where frozen.
  absl::Span<const Tensor> copies() const { return copies_; }
  const Tensor& of(size_t i) const { return copies_[i]; }

 private:
  std::vector<Tensor> copies_;
};

}  // namespace trireme
