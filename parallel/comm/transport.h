// Transport: point-to-point messages between the ranks of one world; what an implementation of the
// communicator on the host has to provide.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "core/base/status.h"

namespace trireme {

// One message under way, in one direction.
class Transfer {
 public:
  virtual ~Transfer() = default;
  // Whether the memory is the caller's again. Does not wait.
  virtual StatusOr<bool> Test() = 0;
  // Gives the message up. False: the transport may use its memory for ever.
  virtual bool Cancel() = 0;
};

// Called by one thread at a time, but for Abort and aborted. Nothing here waits. Messages with
// equal (source, destination, tag) match in order. A send is done when its receive was posted and
// took the bytes: rendezvous.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int64_t max_tag() const = 0;

  virtual StatusOr<std::unique_ptr<Transfer>> Send(int peer, int64_t tag, const void* data,
                                                   size_t bytes) = 0;
  // A longer message is an error of the transfer, a shorter one is not.
  virtual StatusOr<std::unique_ptr<Transfer>> Recv(int peer, int64_t tag, void* data,
                                                   size_t bytes) = 0;

  // Sets what to call, from any thread, when a transfer may have become done or the world ended.
  // Returns false if the transport does not tell, and has to be polled. nullptr: no longer.
  virtual bool SetWaker(std::function<void()> waker) = 0;

  // Below MPI_THREAD_SERIALIZED only the thread that made the transport may use it.
  virtual bool any_thread() const { return true; }

  virtual void Abort(const Status& status) = 0;
  // Not OK once a rank called Abort.
  virtual Status aborted() const = 0;
};

}  // namespace trireme
