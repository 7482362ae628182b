// Ranks that are MPI processes. mpi.h of MPI itself stays in mpi.cc.
#pragma once

#include <memory>
#include <mutex>

#include "core/base/status.h"
#include "parallel/comm/communicator.h"

namespace trireme {

// MPI in this process. Destroying it calls nothing; Finish is explicit.
class MpiSession {
 public:
  // Initializes MPI with MPI_THREAD_SERIALIZED, unless the host program already did. In that case a
  // thread of ours makes progress only under MPI_THREAD_MULTIPLE; below, the calling thread does,
  // in Wait and Join.
  static StatusOr<std::unique_ptr<MpiSession>> Start();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  // A world over a duplicate of `mpi_comm`, a pointer to an MPI_Comm; nullptr: MPI_COMM_WORLD.
  // Collective. Error handlers of the original are left alone. The session has to outlive the
  // world.
  StatusOr<std::unique_ptr<Communicator>> World(const CommOptions& options,
                                                const void* mpi_comm = nullptr);

  // Ends MPI if Start began it. All ranks; not after a failure, where Communicator::Abort is the
  // way out.
  Status Finish();

 private:
  MpiSession(bool owns_mpi, bool any_thread) : owns_mpi_(owns_mpi), any_thread_(any_thread) {}

  const bool owns_mpi_;
  const bool any_thread_;
  std::mutex mutex_;  // Held in every call of MPI: several worlds may live at once.
};

}  // namespace trireme
