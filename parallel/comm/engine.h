// Engine: runs the schedules of one rank's communicators over a transport. Operations wait in
// lanes, one for the collectives of a communicator and one for each (peer, direction) of its sends
// and receives; the first of each lane is in flight, and no lane waits for another.
//
// A thread of the engine makes all progress. It sleeps while nothing is in flight; while something
// is, and the transport cannot wake it, it polls: it yields first, then sleeps for a fraction of
// the time waited so far, so that ranks which wait leave the cores to ranks which work. Without the
// thread (by option, or over a transport that is bound to its own), progress happens when the
// caller submits or waits.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/time/time.h"

#include "core/base/status.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/journal.h"
#include "parallel/comm/schedule.h"
#include "parallel/comm/transport.h"

namespace trireme {

// Context, peer (-1: the collectives), direction.
using LaneKey = std::tuple<int64_t, int, Direction>;

// What a communicator is to the engine.
struct Group {
  std::string axis;
  int rank = 0;
  std::vector<int> world_ranks;
  int64_t context = 0;  // Unlike that of any other group with a rank in common.

  // Guarded by the engine's mutex.
  Status failed;  // Why later calls fail.
  std::map<LaneKey, int64_t> num_calls;
};

// One message of a phase under way. A framed one that does not fit into its frame waits for the
// receiver's consent, an empty message back, before its pieces go: of a call that a peer does not
// make, or makes otherwise, the transport never holds more than frames, which are the engine's own
// memory.
struct Flow {
  const Message* message;
  enum { kFrame, kConsent, kPieces } step = kPieces;
  std::unique_ptr<char[]> frame;
  std::vector<std::unique_ptr<Transfer>> transfers;
};

struct Operation {
  std::shared_ptr<Group> group;
  Verb verb = Verb::kBarrier;
  const char* purpose = "";
  int peer = -1;           // Of a send or receive.
  std::string text;        // What the call asks for: equal on all ranks.
  uint64_t signature = 0;  // Of the text and of all else that has to be equal.
  Schedule schedule;
  std::vector<Tensor> tensors;  // The schedule's memory, scratch included.

  // The engine's.
  int64_t number = 0;
  int64_t ticket = 0;
  size_t phase = 0;
  bool running = false;
  std::vector<Flow> flows;
  absl::Time last_progress;
  Status mismatch;        // A peer made another call. Kept until all peers saw this one.
  std::set<int> refused;  // Such peers.
  bool done = false;      // With status, guarded by the engine's mutex.
  Status status;
};

class Engine {
 public:
  Engine(std::unique_ptr<Transport> transport, const CommOptions& options);
  // Every operation was waited for or dropped.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const CommOptions& options() const { return options_; }
  const Transport& transport() const { return *transport_; }
  const Journal& journal() const { return journal_; }

  void Submit(const std::shared_ptr<Operation>& op);
  Status Wait(const Operation& op);
  // Gives the operation up if it is not done: fails it with CANCELLED.
  void Drop(const std::shared_ptr<Operation>& op);
  void Abort(const Status& status);

  // Contexts for `count` groups, none below `least`; the first of them.
  int64_t NextContext() const;
  Status ReserveContexts(int64_t first, int64_t count);

 private:
  using Lane = std::deque<std::shared_ptr<Operation>>;

  void Run();  // The thread.
  // Moves all that can move. Returns whether anything did.
  bool Poll();
  bool TakeSubmitted();
  Status Advance(Operation& op, bool& finished, bool& moved);
  Status StartPhase(Operation& op);
  Status PostFrame(const Operation& op, Flow& flow);
  Status PostPieces(const Operation& op, Flow& flow);
  Status AdvanceFlow(Operation& op, Flow& flow, bool& moved);
  // What follows when the transfers of a flow's step are done.
  Status NextStep(Operation& op, Flow& flow);
  bool TakeFrame(Operation& op, const Flow& flow);  // False: it describes another call.
  absl::Time DeadlineOf(const Operation& op) const;
  Status Overdue(const Operation& op) const;
  void Finish(const std::shared_ptr<Operation>& op, const Status& status);
  void Notify();
  // Whether nothing of the operation is in the transport's hands any more. Its tensors are let go
  // as soon as their memory is free.
  bool Release(Operation& op);
  static LaneKey LaneOf(const Operation& op);
  static int64_t Tag(const Operation& op, bool consent = false);

  const std::unique_ptr<Transport> transport_;
  const CommOptions options_;
  Journal journal_;

  std::mutex progress_mutex_;  // Held while polling; guards the transport and what follows.
  std::map<LaneKey, Lane> lanes_;
  absl::Time next_deadline_ = absl::InfiniteFuture();
  std::vector<std::shared_ptr<Operation>> abandoned_;  // The transport may still use their frames.

  mutable std::mutex mutex_;  // Never held while polling.
  std::condition_variable wake_;
  std::condition_variable done_;
  std::vector<std::shared_ptr<Operation>> submitted_;
  int64_t next_context_ = 1;
  bool notified_ = false;
  bool stopping_ = false;

  bool wakes_ = false;
  const bool threaded_;
  std::thread thread_;
};

}  // namespace trireme
