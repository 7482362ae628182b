// The local transport: a send waits in the destination's mailbox until its receive is posted, or
// the receive waits for its send; whoever comes second copies, from the sender's memory into the
// receiver's.
#include "parallel/comm/local.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "parallel/comm/host_communicator.h"
#include "parallel/comm/transport.h"

namespace trireme {
namespace {

// One side of a message that waits for the other.
struct Posted {
  int rank;  // Who posted it.
  char* data;
  size_t bytes;
  std::atomic<bool> done = false;
  Status status;  // Written before done.
};

struct Channel {
  std::deque<std::shared_ptr<Posted>> sends;
  std::deque<std::shared_ptr<Posted>> recvs;
};

struct Mailbox {
  std::mutex mutex;
  std::map<std::pair<int, int64_t>, Channel> channels;  // By (source, tag).
};

// What the ranks of a world share.
class LocalWorld {
 public:
  explicit LocalWorld(int size) : mailboxes_(size), wakers_(size) {}

  int size() const { return static_cast<int>(mailboxes_.size()); }
  Mailbox& mailbox(int rank) { return mailboxes_[rank]; }

  void SetWaker(int rank, std::function<void()> waker) {
    std::lock_guard<std::mutex> lock(wakers_[rank].mutex);
    wakers_[rank].waker = std::move(waker);
  }

  void Wake(int rank) {
    std::lock_guard<std::mutex> lock(wakers_[rank].mutex);
    if (wakers_[rank].waker) wakers_[rank].waker();
  }

  // The first caller decides. Returns whether this was it.
  bool Abort(int rank, const Status& status) {
    {
      std::lock_guard<std::mutex> lock(abort_mutex_);
      if (is_aborted_) return false;
      cause_ = Annotate(status, absl::StrCat("rank ", rank));
      is_aborted_ = true;
    }
    for (int r = 0; r < size(); ++r) Wake(r);
    return true;
  }

  Status aborted() const {
    if (!is_aborted_) return absl::OkStatus();
    std::lock_guard<std::mutex> lock(abort_mutex_);
    return absl::AbortedError(absl::StrCat("the world was ended by ", cause_.message()));
  }

  // What the first Abort was given, OK if there was none.
  Status cause() const {
    std::lock_guard<std::mutex> lock(abort_mutex_);
    return cause_;
  }

 private:
  struct Waker {
    std::mutex mutex;
    std::function<void()> waker;
  };

  std::vector<Mailbox> mailboxes_;
  std::vector<Waker> wakers_;
  mutable std::mutex abort_mutex_;
  std::atomic<bool> is_aborted_ = false;
  Status cause_;
};

class LocalTransfer : public Transfer {
 public:
  LocalTransfer(Mailbox& mailbox, std::pair<int, int64_t> key, std::shared_ptr<Posted> posted)
      : mailbox_(mailbox), key_(key), posted_(std::move(posted)) {}

  StatusOr<bool> Test() override {
    if (!posted_->done.load(std::memory_order_acquire)) return false;
    RETURN_IF_ERROR(posted_->status);
    return true;
  }

  bool Cancel() override {
    {
      std::lock_guard<std::mutex> lock(mailbox_.mutex);
      const auto it = mailbox_.channels.find(key_);
      if (it != mailbox_.channels.end()) {
        for (auto* queue : {&it->second.sends, &it->second.recvs}) {
          const auto found = std::find(queue->begin(), queue->end(), posted_);
          if (found == queue->end()) continue;
          queue->erase(found);
          return true;
        }
      }
    }
    // It was matched: the other side is copying.
    while (!posted_->done.load(std::memory_order_acquire)) std::this_thread::yield();
    return true;
  }

 private:
  Mailbox& mailbox_;
  const std::pair<int, int64_t> key_;
  const std::shared_ptr<Posted> posted_;
};

class LocalTransport : public Transport {
 public:
  LocalTransport(std::shared_ptr<LocalWorld> world, int rank)
      : world_(std::move(world)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return world_->size(); }
  int64_t max_tag() const override { return INT64_MAX; }

  StatusOr<std::unique_ptr<Transfer>> Send(int peer, int64_t tag, const void* data,
                                           size_t bytes) override {
    return Post(world_->mailbox(peer), {rank_, tag}, const_cast<void*>(data), bytes,
                /*sends=*/true);
  }
  StatusOr<std::unique_ptr<Transfer>> Recv(int peer, int64_t tag, void* data,
                                           size_t bytes) override {
    return Post(world_->mailbox(rank_), {peer, tag}, data, bytes, /*sends=*/false);
  }
  bool SetWaker(std::function<void()> waker) override {
    world_->SetWaker(rank_, std::move(waker));
    return true;
  }
  void Abort(const Status& status) override { world_->Abort(rank_, status); }
  Status aborted() const override { return world_->aborted(); }

 private:
  std::unique_ptr<Transfer> Post(Mailbox& mailbox, std::pair<int, int64_t> key, void* data,
                                 size_t bytes, bool sends) {
    auto mine = std::make_shared<Posted>();
    mine->rank = rank_;
    mine->data = static_cast<char*>(data);
    mine->bytes = bytes;
    std::shared_ptr<Posted> theirs;
    {
      std::lock_guard<std::mutex> lock(mailbox.mutex);
      Channel& channel = mailbox.channels[key];
      auto& waiting = sends ? channel.recvs : channel.sends;
      if (waiting.empty()) {
        (sends ? channel.sends : channel.recvs).push_back(mine);
      } else {
        theirs = std::move(waiting.front());
        waiting.pop_front();
      }
    }
    auto transfer = std::make_unique<LocalTransfer>(mailbox, key, mine);
    if (theirs == nullptr) return transfer;
    const Posted& from = sends ? *mine : *theirs;
    const Posted& to = sends ? *theirs : *mine;
    if (from.bytes > to.bytes) {
      mine->status = theirs->status = absl::InternalError(absl::StrCat(
          "a message of ", from.bytes, " bytes came for a receive of ", to.bytes, " bytes"));
    } else if (from.bytes > 0) {
      std::memcpy(to.data, from.data, from.bytes);
    }
    const int other = theirs->rank;
    mine->done.store(true, std::memory_order_release);
    theirs->done.store(true, std::memory_order_release);
    if (other != rank_) world_->Wake(other);
    return transfer;
  }

  const std::shared_ptr<LocalWorld> world_;
  const int rank_;
};

std::unique_ptr<Communicator> MakeRank(std::shared_ptr<LocalWorld> world, int rank,
                                       const CommOptions& options) {
  return HostCommunicator::World(std::make_unique<LocalTransport>(std::move(world), rank), options);
}

}  // namespace

std::unique_ptr<Communicator> MakeSelfCommunicator(const CommOptions& options) {
  return MakeRank(std::make_shared<LocalWorld>(1), 0, options);
}

Status RunOnRanks(int num_ranks, const CommOptions& options,
                  const std::function<Status(Communicator& world)>& fn) {
  CHECK_GT(num_ranks, 0);
  const auto world = std::make_shared<LocalWorld>(num_ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      SetLogRank(rank);
      const auto communicator = MakeRank(world, rank, options);
      Status status;
      const Status failure = CatchFailure([&] { status = fn(*communicator); });
      if (!failure.ok()) status = failure;
      if (!status.ok()) communicator->Abort(status);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return world->cause();
}

}  // namespace trireme
