// Outer steps: what a replica does with the mean of all replicas once it is there. A pure function
// of host memory, the same on every replica:
//
//   delta = mean_k(anchor - theta_k);  (anchor, states) -> new anchor;  theta is merged with it.
//
// The anchor is where the last round ended: equal bits on every replica, as delta has. States start
// from zero.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/params.h"
#include "core/base/registry.h"
#include "core/base/status.h"
#include "core/tensor/view.h"

namespace trireme {

// One end of a round, for any part of the parameters: elements do not see each other. Views are
// dense, of one size and one type, f32 or f64, in which the arithmetic is done.
struct OuterStep {
  // Read and written. May be undefined when the outer step needs none; then `delta` is
  // mean_k(theta_k) itself.
  View anchor;
  View theta;  // Of this replica, read and written.
  View delta;
  absl::Span<const View> states;  // As many as state_names().
  double learning_rate = 0;       // The inner one at the round's first step,
  double learning_rate_sum = 0;   // and its sum over the steps of the round.
  int num_replicas = 1;
  // theta = keep_local theta + (1 - keep_local) new anchor. 0: the new anchor, bit for bit.
  double keep_local = 0;
};

class Outer {
 public:
  virtual ~Outer() = default;

  virtual std::vector<std::string> state_names() const { return {}; }  // {"momentum"}
  // False: the mean of the parameters will do, without an anchor's memory. Then one replica is left
  // as it is, which anchor - (anchor - theta) would round.
  virtual bool needs_anchor() const { return true; }
  // True: it says itself what becomes of theta, and keep_local must be 0.
  virtual bool merges_itself() const { return false; }
  virtual void Apply(const OuterStep& step) const = 0;
};

using OuterFactory = StatusOr<std::unique_ptr<Outer>> (*)(const Params& params);

// The registry, made from outers.def.
absl::Span<const Entry<OuterFactory>> Outers();
StatusOr<std::unique_ptr<Outer>> MakeOuter(absl::string_view name, const ParamMap& params);

}  // namespace trireme
