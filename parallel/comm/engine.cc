#include "parallel/comm/engine.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "core/base/log.h"

namespace trireme {
namespace {

// In front of the first message between two ranks. Both run the same program on the same kind of
// machine.
struct Frame {
  uint64_t signature;
  int64_t number;
  int64_t bytes;
  char text[104];  // Cut off, with a zero at the end.
};
constexpr int64_t kFrameBytes = sizeof(Frame) + kInlineBytes;

// How long a call that met another one goes on with the peers that agree, so that they report it as
// well and nothing of theirs is left half-way.
constexpr absl::Duration kMismatchGrace = absl::Seconds(1);

// How long a call that failed waits for pieces of its tensors that the transport cannot take back.
constexpr absl::Duration kReleaseGrace = absl::Milliseconds(500);

// "[all_reduce #41 gradients, replica rank 2/4]"
std::string Name(const Operation& op) {
  const Group& group = *op.group;
  std::string peer;
  if (op.verb == Verb::kSend) peer = absl::StrCat(" to ", op.peer);
  if (op.verb == Verb::kRecv) peer = absl::StrCat(" from ", op.peer);
  return absl::StrCat("[", VerbName(op.verb), " #", op.number, " ", op.purpose, peer, ", ",
                      group.axis, " rank ", group.rank, "/", group.world_ranks.size(), "]");
}

// "rank 3", or "rank 3 (world rank 7)" where these differ.
std::string PeerName(const Group& group, int peer) {
  const int world_rank = group.world_ranks[peer];
  if (world_rank == peer) return absl::StrCat("rank ", peer);
  return absl::StrCat("rank ", peer, " (world rank ", world_rank, ")");
}

// How long to sleep between polls: nothing at first, then an eighth of the time waited so far, so
// that the delay stays in proportion.
class Backoff {
 public:
  absl::Duration Next() {
    const absl::Time now = absl::Now();
    if (since_ == absl::InfinitePast()) since_ = now;
    const absl::Duration waited = now - since_;
    if (waited < absl::Microseconds(50)) return absl::ZeroDuration();
    return std::clamp(waited / 8, absl::Microseconds(10), absl::Milliseconds(1));
  }
  void Reset() { since_ = absl::InfinitePast(); }

 private:
  absl::Time since_ = absl::InfinitePast();
};

}  // namespace

Engine::Engine(std::unique_ptr<Transport> transport, const CommOptions& options)
    : transport_(std::move(transport)),
      options_(options),
      journal_(options.journal_size),
      threaded_(options.progress_thread && transport_->any_thread()) {
  CHECK(options.chunk_bytes > 0 && options.chunk_bytes < int64_t{1} << 31);
  CHECK_GT(options.block_bytes, 0);
  wakes_ = transport_->SetWaker([this] { Notify(); });
}

Engine::~Engine() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  transport_->SetWaker(nullptr);
  CHECK(lanes_.empty() && submitted_.empty()) << "a call outlives its world";
  // What the transport may still read or write is never freed.
  if (!abandoned_.empty()) new auto(std::move(abandoned_));
}

void Engine::Submit(const std::shared_ptr<Operation>& op) {
  // The collectives of a group of one send nothing.
  const bool alone =
      op->group->world_ranks.size() == 1 && op->peer < 0 && transport_->aborted().ok();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    op->number = ++op->group->num_calls[LaneOf(*op)];
    op->ticket = journal_.Add({.verb = op->verb,
                               .purpose = op->purpose,
                               .axis = op->group->axis,
                               .number = op->number,
                               .peer = op->peer});
    if (!alone) {
      submitted_.push_back(op);
      if (threaded_ && !thread_.joinable()) thread_ = std::thread([this] { Run(); });
    }
  }
  if (alone) {
    journal_.SetState(op->ticket, CallState::kRunning);
    for (const Phase& phase : op->schedule) {
      if (phase.then) phase.then();
    }
    Finish(op, absl::OkStatus());
    return;
  }
  if (threaded_) {
    wake_.notify_one();
  } else {
    std::lock_guard<std::mutex> lock(progress_mutex_);
    Poll();
  }
}

Status Engine::Wait(const Operation& op) {
  if (threaded_) {
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return op.done; });
    return op.status;
  }
  Backoff backoff;
  while (true) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (op.done) return op.status;
    }
    std::unique_lock<std::mutex> lock(progress_mutex_);
    const bool moved = Poll();
    lock.unlock();
    if (moved) {
      backoff.Reset();
    } else if (const absl::Duration pause = backoff.Next(); pause > absl::ZeroDuration()) {
      absl::SleepFor(pause);
    } else {
      std::this_thread::yield();
    }
  }
}

void Engine::Drop(const std::shared_ptr<Operation>& op) {
  std::lock_guard<std::mutex> progress_lock(progress_mutex_);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (op->done) return;
  }
  TakeSubmitted();
  const auto it = lanes_.find(LaneOf(*op));
  CHECK(it != lanes_.end());
  Lane& lane = it->second;
  lane.erase(std::find(lane.begin(), lane.end(), op));
  if (lane.empty()) lanes_.erase(it);
  Finish(op, absl::CancelledError(absl::StrCat(Name(*op), " was given up by this rank")));
}

void Engine::Abort(const Status& status) { transport_->Abort(status); }

int64_t Engine::NextContext() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return next_context_;
}

Status Engine::ReserveContexts(int64_t first, int64_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  next_context_ = std::max(next_context_, first + count);
  if (next_context_ > transport_->max_tag() / 4) {
    return absl::ResourceExhaustedError(absl::StrCat("too many communicators: ", next_context_,
                                                     " with tags up to ", transport_->max_tag()));
  }
  return absl::OkStatus();
}

void Engine::Run() {
  SetLogRank(transport_->rank());
  Backoff backoff;
  while (true) {
    bool moved, idle;
    {
      std::lock_guard<std::mutex> lock(progress_mutex_);
      moved = Poll();
      idle = lanes_.empty();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    if (stopping_) return;
    if (moved || notified_ || !submitted_.empty()) {
      notified_ = false;
      backoff.Reset();
      continue;
    }
    const auto woken = [&] { return stopping_ || notified_ || !submitted_.empty(); };
    if (idle) {
      wake_.wait(lock, woken);
    } else if (wakes_) {
      wake_.wait_until(lock, absl::ToChronoTime(next_deadline_), woken);
    } else if (const absl::Duration pause = backoff.Next(); pause > absl::ZeroDuration()) {
      wake_.wait_for(lock, absl::ToChronoMicroseconds(pause), woken);
    } else {
      lock.unlock();
      std::this_thread::yield();
    }
  }
}

bool Engine::TakeSubmitted() {
  std::vector<std::shared_ptr<Operation>> submitted;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    submitted.swap(submitted_);
  }
  for (auto& op : submitted) {
    const LaneKey key = LaneOf(*op);
    lanes_[key].push_back(std::move(op));
  }
  return !submitted.empty();
}

bool Engine::Poll() {
  bool moved = TakeSubmitted();
  const Status aborted = transport_->aborted();
  next_deadline_ = absl::InfiniteFuture();
  for (auto it = lanes_.begin(); it != lanes_.end();) {
    Lane& lane = it->second;
    while (!lane.empty()) {
      Operation& op = *lane.front();
      Status status = aborted;
      if (status.ok()) {
        std::lock_guard<std::mutex> lock(mutex_);
        status = op.group->failed;
      }
      bool finished = false;
      if (status.ok()) status = Advance(op, finished, moved);
      if (status.ok() && !finished) {
        next_deadline_ = std::min(next_deadline_, DeadlineOf(op));
        break;
      }
      Finish(lane.front(), status);
      lane.pop_front();
      moved = true;
    }
    it = lane.empty() ? lanes_.erase(it) : std::next(it);
  }
  return moved;
}

Status Engine::Advance(Operation& op, bool& finished, bool& moved) {
  if (!op.running) {
    op.running = true;
    journal_.SetState(op.ticket, CallState::kRunning);
    RETURN_IF_ERROR(StartPhase(op));
    moved = true;
  }
  while (true) {
    bool progressed = false;
    for (Flow& flow : op.flows) RETURN_IF_ERROR(AdvanceFlow(op, flow, progressed));
    if (progressed) {
      moved = true;
      op.last_progress = absl::Now();
      op.flows.erase(std::remove_if(op.flows.begin(), op.flows.end(),
                                    [](const Flow& flow) { return flow.transfers.empty(); }),
                     op.flows.end());
    }
    if (!op.mismatch.ok() && std::none_of(op.flows.begin(), op.flows.end(), [&](const Flow& flow) {
          return !op.refused.contains(flow.message->peer) ||
                 (flow.step == Flow::kFrame && flow.message->direction == Direction::kSend);
        })) {
      return op.mismatch;
    }
    if (!op.flows.empty()) return Overdue(op);
    const Phase& phase = op.schedule[op.phase];
    if (phase.then) phase.then();
    if (++op.phase == op.schedule.size()) {
      finished = true;
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(StartPhase(op));
  }
}

LaneKey Engine::LaneOf(const Operation& op) {
  return {op.group->context, op.peer, op.verb == Verb::kRecv ? Direction::kRecv : Direction::kSend};
}

int64_t Engine::Tag(const Operation& op, bool consent) {
  return 4 * op.group->context + (consent ? 2 : 0) + (op.peer < 0 ? 0 : 1);
}

Status Engine::StartPhase(Operation& op) {
  op.last_progress = absl::Now();
  const Phase& phase = op.schedule[op.phase];
  op.flows.reserve(phase.messages.size());
  for (const Message& message : phase.messages) {
    Flow& flow = op.flows.emplace_back();
    flow.message = &message;
    if (message.direction == Direction::kSend) {
      journal_.CountBytes(op.ticket, op.group->axis, op.purpose, message.bytes);
    }
    RETURN_IF_ERROR(message.framed ? PostFrame(op, flow) : PostPieces(op, flow));
  }
  return absl::OkStatus();
}

Status Engine::PostFrame(const Operation& op, Flow& flow) {
  const Message& message = *flow.message;
  const int peer = op.group->world_ranks[message.peer];
  flow.step = Flow::kFrame;
  flow.frame = std::make_unique<char[]>(kFrameBytes);
  if (message.direction == Direction::kRecv) {
    ASSIGN_OR_RETURN(flow.transfers.emplace_back(),
                     transport_->Recv(peer, Tag(op), flow.frame.get(), kFrameBytes));
    return absl::OkStatus();
  }
  Frame frame = {op.signature, op.number, message.bytes, {}};
  op.text.copy(frame.text, sizeof(frame.text) - 1);
  std::memcpy(flow.frame.get(), &frame, sizeof(frame));
  const int64_t inlined = message.bytes <= kInlineBytes ? message.bytes : 0;
  if (inlined > 0) std::memcpy(flow.frame.get() + sizeof(frame), message.data, inlined);
  ASSIGN_OR_RETURN(flow.transfers.emplace_back(),
                   transport_->Send(peer, Tag(op), flow.frame.get(), sizeof(frame) + inlined));
  return absl::OkStatus();
}

Status Engine::PostPieces(const Operation& op, Flow& flow) {
  const Message& message = *flow.message;
  const int peer = op.group->world_ranks[message.peer];
  flow.step = Flow::kPieces;
  for (int64_t begin = 0; begin < message.bytes; begin += options_.chunk_bytes) {
    const int64_t bytes = std::min(options_.chunk_bytes, message.bytes - begin);
    char* data = message.data + begin;
    ASSIGN_OR_RETURN(flow.transfers.emplace_back(),
                     message.direction == Direction::kSend
                         ? transport_->Send(peer, Tag(op), data, bytes)
                         : transport_->Recv(peer, Tag(op), data, bytes));
  }
  return absl::OkStatus();
}

Status Engine::AdvanceFlow(Operation& op, Flow& flow, bool& moved) {
  for (size_t i = 0; i < flow.transfers.size();) {
    StatusOr<bool> done = flow.transfers[i]->Test();
    if (!done.ok()) {
      return Annotate(done.status(),
                      absl::StrCat(Name(op), " with ", PeerName(*op.group, flow.message->peer)));
    }
    if (!*done) {
      ++i;
      continue;
    }
    moved = true;
    flow.transfers.erase(flow.transfers.begin() + i);
    if (flow.transfers.empty()) RETURN_IF_ERROR(NextStep(op, flow));
  }
  return absl::OkStatus();
}

Status Engine::NextStep(Operation& op, Flow& flow) {
  const bool sends = flow.message->direction == Direction::kSend;
  const int peer = op.group->world_ranks[flow.message->peer];
  if (flow.step == Flow::kFrame && !sends && !TakeFrame(op, flow)) return absl::OkStatus();
  if (flow.step == Flow::kPieces || flow.message->bytes <= kInlineBytes) return absl::OkStatus();
  if (flow.step == Flow::kFrame && sends) {
    flow.step = Flow::kConsent;
    ASSIGN_OR_RETURN(flow.transfers.emplace_back(),
                     transport_->Recv(peer, Tag(op, /*consent=*/true), nullptr, 0));
    return absl::OkStatus();
  }
  if (!sends) {
    ASSIGN_OR_RETURN(flow.transfers.emplace_back(),
                     transport_->Send(peer, Tag(op, /*consent=*/true), nullptr, 0));
  }
  return PostPieces(op, flow);
}

bool Engine::TakeFrame(Operation& op, const Flow& flow) {
  Frame frame;
  std::memcpy(&frame, flow.frame.get(), sizeof(frame));
  const Message& message = *flow.message;
  if (frame.signature == op.signature && frame.number == op.number &&
      frame.bytes == message.bytes) {
    if (message.bytes > 0 && message.bytes <= kInlineBytes) {
      std::memcpy(message.data, flow.frame.get() + sizeof(frame), message.bytes);
    }
    return true;
  }
  op.refused.insert(message.peer);
  if (op.mismatch.ok()) {
    frame.text[sizeof(frame.text) - 1] = '\0';
    op.mismatch = absl::InvalidArgumentError(absl::StrCat(
        Name(op), " ", PeerName(*op.group, message.peer), " called '", frame.text, "' as #",
        frame.number, ", sending ", frame.bytes, " bytes, where this rank called '", op.text,
        "' as #", op.number, ", expecting ", message.bytes, " bytes"));
  }
  return false;
}

absl::Time Engine::DeadlineOf(const Operation& op) const {
  const absl::Duration limit =
      op.mismatch.ok() ? options_.deadline : std::min(options_.deadline, kMismatchGrace);
  return op.last_progress + limit;
}

Status Engine::Overdue(const Operation& op) const {
  if (absl::Now() < DeadlineOf(op)) return absl::OkStatus();
  if (!op.mismatch.ok()) return op.mismatch;
  std::set<int> missing;
  for (const Flow& flow : op.flows) missing.insert(flow.message->peer);
  return absl::DeadlineExceededError(
      absl::StrCat(Name(op), " waited ", absl::FormatDuration(options_.deadline), " for ",
                   absl::StrJoin(missing, ", ", [&](std::string* out, int peer) {
                     absl::StrAppend(out, PeerName(*op.group, peer));
                   })));
}

void Engine::Finish(const std::shared_ptr<Operation>& op, const Status& status) {
  if (Release(*op)) {
    op->flows.clear();
    op->schedule.clear();
    op->tensors.clear();
  } else {
    abandoned_.push_back(op);
  }
  journal_.SetState(op->ticket, status.ok() ? CallState::kDone : CallState::kFailed);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    op->status = status;
    op->done = true;
    if (!status.ok() && op->group->failed.ok()) op->group->failed = status;
  }
  done_.notify_all();
}

bool Engine::Release(Operation& op) {
  // Pieces already moving between this rank and a live peer need a moment.
  const absl::Time give_up = absl::Now() + kReleaseGrace;
  while (true) {
    bool frames_free = true, pieces_free = true;
    for (const Flow& flow : op.flows) {
      for (const auto& transfer : flow.transfers) {
        (flow.step == Flow::kPieces ? pieces_free : frames_free) &= transfer->Cancel();
      }
    }
    if (pieces_free || absl::Now() > give_up) {
      // Frames are the engine's own memory; the tensors need not stay for them.
      if (pieces_free) op.tensors.clear();
      return frames_free && pieces_free;
    }
    std::this_thread::yield();
  }
}

void Engine::Notify() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    notified_ = true;
  }
  wake_.notify_one();
}

}  // namespace trireme
