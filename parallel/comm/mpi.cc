// The MPI transport: synchronous non-blocking sends (a send is done when its receive was posted, as
// between local ranks), so that a rank that does not come is noticed by those who send to it.
#include "parallel/comm/mpi.h"

#include <mpi.h>

#include <climits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "parallel/comm/host_communicator.h"
#include "parallel/comm/transport.h"

namespace trireme {
namespace {

Status MpiStatus(int code, absl::string_view call) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) length = 0;
  return absl::UnavailableError(
      absl::StrCat(call, " failed: ", absl::string_view(text, length), " (code ", code, ")"));
}

class MpiTransfer : public Transfer {
 public:
  MpiTransfer(std::mutex& mutex, bool sends) : mutex_(mutex), sends_(sends) {}

  MPI_Request* request() { return &request_; }

  StatusOr<bool> Test() override {
    std::lock_guard<std::mutex> lock(mutex_);
    return TestLocked();
  }

  bool Cancel() override {
    std::lock_guard<std::mutex> lock(mutex_);
    // Only a receive that met no message can be taken back; MPI cannot cancel sends in practice.
    if (!sends_ && request_ != MPI_REQUEST_NULL && MPI_Cancel(&request_) != MPI_SUCCESS)
      return false;
    const StatusOr<bool> done = TestLocked();
    return done.ok() && *done;
  }

 private:
  StatusOr<bool> TestLocked() {
    int done = 0;
    RETURN_IF_ERROR(MpiStatus(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    return done != 0;
  }

  std::mutex& mutex_;
  const bool sends_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

class MpiTransport : public Transport {
 public:
  MpiTransport(std::mutex& mutex, bool any_thread, MPI_Comm comm, int rank, int size,
               int64_t max_tag)
      : mutex_(mutex),
        any_thread_(any_thread),
        comm_(comm),
        rank_(rank),
        size_(size),
        max_tag_(max_tag) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int64_t max_tag() const override { return max_tag_; }
  bool any_thread() const override { return any_thread_; }

  StatusOr<std::unique_ptr<Transfer>> Send(int peer, int64_t tag, const void* data,
                                           size_t bytes) override {
    CHECK_LE(bytes, size_t{INT_MAX});
    auto transfer = std::make_unique<MpiTransfer>(mutex_, /*sends=*/true);
    std::lock_guard<std::mutex> lock(mutex_);
    RETURN_IF_ERROR(MpiStatus(MPI_Issend(data, static_cast<int>(bytes), MPI_BYTE, peer,
                                         static_cast<int>(tag), comm_, transfer->request()),
                              "MPI_Issend"));
    return transfer;
  }

  StatusOr<std::unique_ptr<Transfer>> Recv(int peer, int64_t tag, void* data,
                                           size_t bytes) override {
    CHECK_LE(bytes, size_t{INT_MAX});
    auto transfer = std::make_unique<MpiTransfer>(mutex_, /*sends=*/false);
    std::lock_guard<std::mutex> lock(mutex_);
    RETURN_IF_ERROR(MpiStatus(MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, peer,
                                        static_cast<int>(tag), comm_, transfer->request()),
                              "MPI_Irecv"));
    return transfer;
  }

  bool SetWaker(std::function<void()>) override { return false; }

  void Abort(const Status&) override {
    std::lock_guard<std::mutex> lock(mutex_);
    MPI_Abort(comm_, EXIT_FAILURE);
  }
  Status aborted() const override { return absl::OkStatus(); }

 private:
  std::mutex& mutex_;
  const bool any_thread_;
  // Never freed: MPI_Comm_free is collective, and this rank may be the only one left.
  const MPI_Comm comm_;
  const int rank_, size_;
  const int64_t max_tag_;
};

}  // namespace

StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start() {
  int initialized = 0, finalized = 0, level = MPI_THREAD_SINGLE;
  RETURN_IF_ERROR(MpiStatus(MPI_Finalized(&finalized), "MPI_Finalized"));
  if (finalized) return absl::FailedPreconditionError("MPI was finalized already");
  RETURN_IF_ERROR(MpiStatus(MPI_Initialized(&initialized), "MPI_Initialized"));
  if (!initialized) {
    RETURN_IF_ERROR(MpiStatus(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level),
                              "MPI_Init_thread"));
  } else {
    RETURN_IF_ERROR(MpiStatus(MPI_Query_thread(&level), "MPI_Query_thread"));
  }
  const bool any_thread = level >= (initialized ? MPI_THREAD_MULTIPLE : MPI_THREAD_SERIALIZED);
  return std::unique_ptr<MpiSession>(new MpiSession(!initialized, any_thread));
}

StatusOr<std::unique_ptr<Communicator>> MpiSession::World(const CommOptions& options,
                                                          const void* mpi_comm) {
  std::unique_ptr<Transport> transport;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const MPI_Comm original =
        mpi_comm != nullptr ? *static_cast<const MPI_Comm*>(mpi_comm) : MPI_COMM_WORLD;
    MPI_Comm comm = MPI_COMM_NULL;
    RETURN_IF_ERROR(MpiStatus(MPI_Comm_dup(original, &comm), "MPI_Comm_dup"));
    RETURN_IF_ERROR(
        MpiStatus(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
    int rank = 0, size = 0, found = 0;
    int* tag_limit = nullptr;
    RETURN_IF_ERROR(MpiStatus(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank"));
    RETURN_IF_ERROR(MpiStatus(MPI_Comm_size(comm, &size), "MPI_Comm_size"));
    RETURN_IF_ERROR(
        MpiStatus(MPI_Comm_get_attr(comm, MPI_TAG_UB, &tag_limit, &found), "MPI_Comm_get_attr"));
    // What the standard guarantees is 32767.
    const int max_tag = found ? *tag_limit : 32767;
    transport = std::make_unique<MpiTransport>(mutex_, any_thread_, comm, rank, size, max_tag);
  }
  return HostCommunicator::World(std::move(transport), options);
}

Status MpiSession::Finish() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!owns_mpi_) return absl::OkStatus();
  return MpiStatus(MPI_Finalize(), "MPI_Finalize");
}

}  // namespace trireme
