// A vector of every replica through a codec and a mixer to its mean, with a memory of what the
// codec lost. Vectors are dense host memory in the layout of WholeBlocks.
//
//   none            mean = sum_k w_k C(v_k)
//   error feedback  u_k = v_k + decay e_k;  mean = sum_k w_k C(u_k);  e_k = u_k - C(u_k)
//                   (Seide et al. 2014, Karimireddy et al. 2019)
//   difference      c_k = C(v_k / (K w_k) - h_k);  h_k += c_k;  mean += sum_k w_k c_k
//                   (EF21, Richtarik et al. 2021; with weights EF21-W, Richtarik et al. 2024)
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/sync/codec.h"
#include "parallel/sync/exchange_spec.h"
#include "parallel/sync/mixer.h"

namespace trireme {

struct ChannelOptions {
  const Codec& codec;
  const Mixer& mixer;
  ExchangeMemory memory = ExchangeMemory::kNone;
  double memory_decay = 1;
  uint64_t seed = 0;
  const char* purpose = "exchange";
};

// What a channel, or whoever uses one, keeps from round to round: for checkpoints.
struct ExchangeState {
  enum class Layout {
    kElements,  // Elements [first, first + size) of the block layout.
    kCodec,     // The states of a linear codec, piece by piece.
    kNumber,    // One of the whole exchange.
  };
  std::string name;
  Layout layout;
  Tensor data;
  int64_t first = 0;
  // Every replica has its own. What they become for another number of replicas:
  bool of_replica = false;
  enum class Resize { kMean, kSumOverN } resize = Resize::kMean;
  // Each replica has other elements of one vector.
  bool is_cut_by_replica = false;
};

class Channel {
 public:
  // `host` gives the memory. Throws Failure when there is not enough. The references outlive this.
  Channel(Communicator& replica, Device& host, DType dtype, absl::Span<const CodecPiece> pieces,
          const ChannelOptions& options);

  // Where the caller puts v before Start. Not kept.
  const Tensor& values() const { return values_; }
  // weights: of each replica, adding up to one; with memory `difference` the same ones every time.
  Status Start(int64_t round, absl::Span<const double> weights);
  // Waits for the other replicas, if anything is in flight.
  Status Finish();
  // After Finish: the same bits on all replicas, when the mixer means.
  const Tensor& mean() const { return mean_; }
  // Of gossips: this replica's share of the push-sum.
  const Tensor& push_weight() const { return push_weight_; }

  std::vector<ExchangeState> States() const;

 private:
  MixBundle Bundle(int64_t round) const;

  Communicator& replica_;
  const ChannelOptions options_;
  const std::vector<CodecPiece> pieces_;
  std::vector<double> weights_;  // Of the exchange in flight.
  Tensor values_, sent_, mean_;
  Tensor memory_;  // e, or h.
  Tensor change_;  // difference: the mean of c.
  Tensor linear_state_, server_error_, push_weight_;
  std::unique_ptr<PendingMix> pending_;
};

}  // namespace trireme
