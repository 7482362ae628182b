// Mixers: with whom a replica exchanges, and what comes of it. A registry; `trireme list` prints
// the entries. Of replicas k = 0 .. K-1 with values v_k and weights w_k,
//
//   mean_k = sum_j w_j C(v_j)
//
// summed in rank order in the values' type: the same bits on every replica, but for gossips
// (means() is false), which move each replica towards some others.
//
// All that goes between replicas of one exchange is a *bundle*: pieces (codec.h) of one or many
// parameters, their values one behind another in one dense array of host memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"

#include "core/base/registry.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/place.h"
#include "parallel/sync/codec.h"

namespace trireme {

// What of a mix is the same on all replicas.
struct MixBundle {
  const Codec& codec;
  absl::Span<const CodecPiece> pieces;
  RoundKey round;
  // Of each replica; none is negative, the sum is 1. Who has weight zero takes no part: its values
  // are not looked at. Gossips have weights of their own and take no notice of these.
  absl::Span<const double> weights;
  // What a replica does not send now it sends another time. Then the weights of those that take
  // part are not scaled up to sum 1 for those that do not.
  bool remembers = false;
};

// Tensors are dense, contiguous and on a CPU device.
struct MixInput {
  Communicator& replica;  // Of a host transport: one rank a replica.
  MixBundle bundle;
  Tensor values;  // [n] of all pieces, f32 or f64; what memories add is in them already.
  // Out, [n]: may be `values` itself, which saves the codec that sends them as they are a copy.
  Tensor mean;
  // Out, [n]: C(v) as the others decode it, zero when this replica takes no part; of linear codecs
  // of two passes, the mean of those that do. Written by Start or by Finish. Undefined: nobody
  // asks.
  Tensor sent;
  // In and out, [sum of LinearStateSize]: of the codec, the same on all replicas.
  Tensor linear_state;
  // In and out, [ServerErrorRange]: what this replica's second encodings lost. Undefined:
  // forgotten.
  Tensor server_error;
  // In and out, f64 [1], from 1: this replica's share of the push-sum. Undefined: always 1.
  Tensor push_weight;
  const char* purpose = "exchange";
};

// A mix under way. Destroying one unfinished gives up the communicator's calls (see Work).
class PendingMix {
 public:
  virtual ~PendingMix() = default;
  // Waits; then the outputs are there. Every replica finishes its mixes in the same order.
  virtual Status Finish() = 0;
};

class Mixer {
 public:
  virtual ~Mixer() = default;

  // False: replicas differ afterwards.
  virtual bool means() const { return true; }
  // Elements [first, last) of the bundle, those whose mean this replica encodes for the others; an
  // empty range for mixers without a second encoding.
  struct Range {
    int64_t first = 0, last = 0;
    int64_t size() const { return last - first; }
  };
  virtual Range ServerErrorRange(const MixBundle&, Place) const { return {}; }
  // INVALID_ARGUMENT when the codec or the number of replicas does not suit.
  virtual Status Check(const Codec& codec, int num_replicas) const = 0;

  // Encodes and sets off; communication goes on while the caller computes. Every replica makes the
  // same calls in the same order. The codec outlives the mix, and `values` stay as they are until
  // Finish; the mix changes them only when they are `mean`.
  virtual StatusOr<std::unique_ptr<PendingMix>> Start(const MixInput& input) const = 0;
  // Payload bytes that the replica at `place` sends. block_bytes: the communicator's
  // (CommOptions).
  virtual int64_t SentBytes(const MixBundle& bundle, DType dtype, Place place,
                            int64_t block_bytes = CommOptions().block_bytes) const = 0;
};

using MixerFactory = StatusOr<std::unique_ptr<Mixer>> (*)(const Params& params);

// The registry, made from mixers.def.
absl::Span<const Entry<MixerFactory>> Mixers();
StatusOr<std::unique_ptr<Mixer>> MakeMixer(absl::string_view name, const ParamMap& params = {});

}  // namespace trireme
