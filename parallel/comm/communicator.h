// Communicator: what ranks say to each other. One interface; self, local (ranks are threads) and
// MPI share one implementation of the algorithms over point-to-point messages, so they agree bit
// for bit: a reduction is an exchange, then a sum in a given order (rank order by default) in f64
// for f64, in f32 for the other floating types, then a gather. It never depends on the order of
// arrival.
//
// Every verb is asynchronous and returns a Work. Collectives of one communicator run in the order
// of the calls, and every rank of it must make the same calls; so do the sends to one peer, and the
// receives from one peer. Otherwise nothing waits for anything: calls on different communicators,
// sends, receives and collectives overlap freely. A send is done when its receive was posted.
//
// Counts are in elements, may differ between ranks and may be zero. Tensors are contiguous; their
// shapes do not matter, only their sizes. A size or type that does not fit is the programmer's
// error (CHECK); a call that differs from the peers' fails with INVALID_ARGUMENT naming both calls;
// a peer that does not come within the deadline, with DEADLINE_EXCEEDED naming it. After a failure
// every later call on the same communicator fails with the same status.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "core/base/status.h"
#include "core/device/device.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/journal.h"

namespace trireme {

enum class ReduceOp : uint8_t {
  kSum,  // Integers wrap.
  kMax,  // NaN if any is NaN.
  kMin,
};

struct Call {
  // What it is for ("gradients"), in errors, in the journal and in the byte counts. A literal.
  const char* purpose;
  ReduceOp op = ReduceOp::kSum;
  // Of a reduction: the ranks in the order of summation, a permutation; and a factor for each rank
  // (floating types only). Empty: rank order, no factors.
  absl::Span<const int> order = {};
  absl::Span<const double> weights = {};
  // The elements of each rank's part in AllGather and ReduceScatter. Empty: parts of equal size.
  absl::Span<const int64_t> counts = {};
};

// A call under way. It keeps its tensors until it is joined. Destroying it unjoined gives the call
// up, with all later ones of the communicator (CANCELLED), and lets its tensors go: for a rank that
// fails elsewhere. That waits for no peer.
class Work {
 public:
  virtual ~Work() = default;
  // Until the call is done on this rank.
  virtual Status Wait() = 0;
  // Later work on `queue` sees the result. Blocks the host for host transports. Throws Failure.
  virtual void Join(Queue& queue) = 0;
};

struct CommOptions {
  // How long a call may wait without any message of it arriving or leaving.
  absl::Duration deadline = absl::Seconds(300);
  // Longer messages are cut into pieces of this size, at most 2^31 - 1.
  int64_t chunk_bytes = int64_t{1} << 30;
  // Reductions go through the tensor in blocks of about this size: their scratch memory.
  int64_t block_bytes = int64_t{4} << 20;
  int journal_size = 4096;
  // False: no thread; progress happens when the caller starts a call or waits for one.
  bool progress_thread = true;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  int size() const { return static_cast<int>(world_ranks().size()); }
  // The axes it runs along, as errors and byte counts name it: "world", "replica",
  // "shard+sequence".
  virtual const std::string& axis() const = 0;
  // The world's number of each rank.
  virtual absl::Span<const int> world_ranks() const = 0;

  // In place; the same size on every rank.
  [[nodiscard]] virtual std::unique_ptr<Work> AllReduce(const Tensor& tensor, const Call& call) = 0;
  // `output` is the inputs of all ranks, in rank order. `input` may be its own part of `output`.
  [[nodiscard]] virtual std::unique_ptr<Work> AllGather(const Tensor& input, const Tensor& output,
                                                        const Call& call) = 0;
  // `output` is this rank's part of the reduced inputs; it may be its own part of `input`.
  [[nodiscard]] virtual std::unique_ptr<Work> ReduceScatter(const Tensor& input,
                                                            const Tensor& output,
                                                            const Call& call) = 0;
  // Part r of `input` (send_counts[r] elements) goes to rank r; `output` is the parts received, in
  // rank order. Empty counts: equal parts. The two do not overlap.
  [[nodiscard]] virtual std::unique_ptr<Work> AllToAll(const Tensor& input,
                                                       absl::Span<const int64_t> send_counts,
                                                       const Tensor& output,
                                                       absl::Span<const int64_t> recv_counts,
                                                       const Call& call) = 0;
  [[nodiscard]] virtual std::unique_ptr<Work> Broadcast(const Tensor& tensor, int root,
                                                        const Call& call) = 0;
  [[nodiscard]] virtual std::unique_ptr<Work> Send(const Tensor& tensor, int peer,
                                                   const Call& call) = 0;
  [[nodiscard]] virtual std::unique_ptr<Work> Recv(const Tensor& tensor, int peer,
                                                   const Call& call) = 0;
  [[nodiscard]] virtual std::unique_ptr<Work> Barrier(const Call& call) = 0;

  // A communicator of the ranks that gave the same color, ordered by key, then by rank; nullptr for
  // a negative color. A collective; waits for all ranks.
  virtual StatusOr<std::unique_ptr<Communicator>> Split(int64_t color, int64_t key,
                                                        absl::string_view axis) = 0;

  // Ends the world: every call of every rank, now and later, fails with ABORTED and `status`. Under
  // MPI it ends the processes, and does not return. For the borders that catch Failure.
  virtual void Abort(const Status& status) = 0;
  // Not OK once a rank of the world called Abort. Thread-safe.
  virtual Status aborted() const = 0;

  // Of all communicators of this rank that come from the same world.
  virtual const Journal& journal() const = 0;
};

}  // namespace trireme
