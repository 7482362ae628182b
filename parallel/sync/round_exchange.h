// What happens at the end of a round, for some of the parameters of a model (or for a state of the
// optimizer in their place): replicas send what they have, and take what comes of it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/sync/channel.h"
#include "parallel/sync/outer.h"
#include "parallel/sync/whole_blocks.h"

namespace trireme {

struct RoundEnd {
  int64_t round = 0;
  std::vector<double> weights;   // Of the replicas, adding up to one.
  double learning_rate = 0;      // At the round's first step,
  double learning_rate_sum = 0;  // and over its steps.
  bool last = false;             // Of the run: all replicas become one.
};

class RoundExchange {
 public:
  virtual ~RoundExchange() = default;

  // Sends. What comes is on its way while the replica goes on.
  virtual Status Send(const RoundEnd& end) = 0;
  // Waits until it is there; for checkpoints between Send and Apply.
  virtual Status Arrive() = 0;
  // Writes the slices; `end` as it was sent.
  virtual Status Apply(const RoundEnd& end) = 0;
  // Whether all replicas have the same bits after Apply, though it is not the last.
  virtual bool makes_equal() const = 0;
  // What is kept from round to round and, `arrived`, from Arrive to Apply; in the layout of
  // blocks().
  virtual std::vector<ExchangeState> States(bool /*arrived*/) const { return {}; }
  virtual const WholeBlocks* blocks() const { return nullptr; }
  // The slices have been replaced (by a checkpoint's): what was taken from them is taken anew.
  virtual Status Restart() { return absl::OkStatus(); }
};

// Slices in block layout, and what they go through. Host memory.
struct BlockedSlices {
  std::vector<Tensor> slices;
  std::unique_ptr<WholeBlocks> blocks;
  std::unique_ptr<Channel> channel;

  Status Read(const Tensor& flat) const { return blocks->ToBlocks(slices, flat); }
  Status Write(const Tensor& flat) const { return blocks->FromBlocks(flat, slices); }
};

// The weighted mean of the slices themselves, reduced where they are: any device, no memory of its
// own but for small slices, which travel together.
std::unique_ptr<RoundExchange> MakeDirectMean(Communicator& replica, Device& device,
                                              std::vector<Tensor> slices, const char* purpose);

// The slices themselves by any mixer. The mixer outlives this.
std::unique_ptr<RoundExchange> MakeMixedParameters(Communicator& replica, BlockedSlices slices,
                                                   const Mixer& mixer);

struct AnchorOptions {
  double keep_local = 0;
  // The mean of the slices will do: nothing is lost on the way, and the outer step needs no anchor.
  bool without_anchor = false;
};
// The slices' difference from an anchor, the outer step's. A collective: reads the slices. Throws
// Failure.
std::unique_ptr<RoundExchange> MakeAnchoredDifference(Communicator& replica, Device& host,
                                                      BlockedSlices slices,
                                                      std::unique_ptr<Outer> outer,
                                                      const AnchorOptions& options);

}  // namespace trireme
