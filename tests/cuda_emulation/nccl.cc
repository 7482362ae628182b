// NCCL by its names (version 2.28). Groups, non-blocking communicators and what is refused are as
// its documentation has them.
#include <nccl.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "core/tensor/dtype.h"
#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/fault_injection.h"
#include "tests/cuda_emulation/nccl_communicator.h"
#include "tests/cuda_emulation/runtime.h"

struct ncclComm {
  std::shared_ptr<trireme::emulation::Communicator> communicator;
};

namespace trireme::emulation {
namespace {

// The calls of a group wait for its end.
struct Group {
  struct Member {
    std::shared_ptr<Communicator> communicator;
    std::vector<CollectiveCall> calls;
    cudaStream_t stream;
  };
  int depth = 0;
  std::vector<Member> members;
};
thread_local Group group;

bool IsBlocking(const ncclConfig_t* config) { return config == nullptr || config->blocking != 0; }

ncclResult_t Submit(ncclComm_t comm, CollectiveCall call, cudaStream_t stream) {
  if (comm == nullptr) return ncclInvalidArgument;
  Communicator& communicator = *comm->communicator;
  if (call.op >= ncclNumOps) {
    if (!communicator.has_scale(call.op)) return ncclInvalidArgument;
    call.scaled = true;
    call.scale = communicator.scale(call.op);
    call.op = ncclSum;
  }
  const ncclResult_t result = communicator.CheckCall(call);
  if (result != ncclSuccess) return result;
  if (group.depth == 0) return communicator.Issue({call}, stream);
  for (Group::Member& member : group.members) {
    if (member.communicator != comm->communicator) continue;
    if (member.stream != stream) {
      ReportError("a group uses two streams for one communicator, which is not emulated");
      return ncclInvalidUsage;
    }
    member.calls.push_back(call);
    return ncclSuccess;
  }
  group.members.push_back({comm->communicator, {call}, stream});
  return ncclSuccess;
}

}  // namespace
}  // namespace trireme::emulation

namespace emulation = trireme::emulation;
using emulation::CollectiveCall;
using emulation::CollectiveKind;
using emulation::Communicator;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  FAIL_IF_ASKED(ncclInternalError);
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  FAIL_IF_ASKED(ncclInternalError);
  std::random_device random;
  *id = {};
  snprintf(id->internal, sizeof(id->internal), "/trireme_nccl_%d_%08x%08x", getpid(), random(),
           random());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  FAIL_IF_ASKED(ncclInternalError);
  *comm = nullptr;
  if (rank < 0 || rank >= num_ranks || num_ranks > emulation::kMaxRanks) return ncclInvalidArgument;
  const bool blocking = emulation::IsBlocking(config);
  id.internal[NCCL_UNIQUE_ID_BYTES - 1] = '\0';
  *comm = new ncclComm{std::make_shared<Communicator>(
      id.internal, num_ranks, rank, emulation::Machine::Get().current(), blocking)};
  return blocking ? (*comm)->communicator->WaitUntilReady() : ncclInProgress;
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(comm, num_ranks, id, rank, nullptr);
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* split,
                           ncclConfig_t* config) {
  FAIL_IF_ASKED(ncclInternalError);
  *split = nullptr;
  const ncclResult_t state = comm->communicator->Poll();
  if (state != ncclSuccess) return state == ncclInProgress ? ncclInvalidArgument : state;
  const bool blocking =
      config != nullptr ? emulation::IsBlocking(config) : comm->communicator->blocking();
  auto made = comm->communicator->Split(color, key, blocking);
  if (made == nullptr) return ncclSuccess;
  *split = new ncclComm{std::move(made)};
  return blocking ? (*split)->communicator->WaitUntilReady() : ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  FAIL_IF_ASKED(ncclInternalError);
  *error = comm->communicator->Poll();
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  FAIL_IF_ASKED(ncclInternalError);
  comm->communicator->WaitForOutstanding();
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  FAIL_IF_ASKED(ncclInternalError);
  if (comm == nullptr) return ncclSuccess;
  comm->communicator->WaitForOutstanding();
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  FAIL_IF_ASKED(ncclInternalError);
  if (comm == nullptr) return ncclSuccess;
  comm->communicator->Abort();
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  FAIL_IF_ASKED(ncclInternalError);
  *count = comm->communicator->num_ranks();
  return ncclSuccess;
}
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  FAIL_IF_ASKED(ncclInternalError);
  *rank = comm->communicator->rank();
  return ncclSuccess;
}
ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  FAIL_IF_ASKED(ncclInternalError);
  *device = comm->communicator->device().index;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "internal error";
  }
}
const char* ncclGetLastError(ncclComm_t comm) {
  return comm != nullptr ? comm->communicator->last_error().c_str() : "";
}

ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar, ncclDataType_t type,
                                      ncclScalarResidence_t residence, ncclComm_t comm) {
  FAIL_IF_ASKED(ncclInternalError);
  if (residence != ncclScalarHostImmediate) {
    emulation::ReportError("ncclScalarDevice is not emulated");
    return ncclInvalidArgument;
  }
  double scale = 0;
  if (type == ncclFloat64) {
    memcpy(&scale, scalar, sizeof(scale));
  } else if (type == ncclFloat32) {
    float narrow;
    memcpy(&narrow, scalar, sizeof(narrow));
    scale = narrow;
  } else if (type == ncclBfloat16) {
    trireme::bfloat16 narrow;
    memcpy(&narrow, scalar, sizeof(narrow));
    scale = float(narrow);
  } else {
    return ncclInvalidArgument;
  }
  *op = comm->communicator->AddScale(scale);
  return ncclSuccess;
}
ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm) {
  FAIL_IF_ASKED(ncclInternalError);
  return comm->communicator->has_scale(op) ? ncclSuccess : ncclInvalidArgument;
}

ncclResult_t ncclGroupStart() {
  FAIL_IF_ASKED(ncclInternalError);
  ++emulation::group.depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  FAIL_IF_ASKED(ncclInternalError);
  emulation::Group& group = emulation::group;
  if (group.depth == 0) return ncclInvalidUsage;
  if (--group.depth > 0) return ncclSuccess;
  ncclResult_t result = ncclSuccess;
  for (auto& member : std::exchange(group.members, {})) {
    const ncclResult_t issued = member.communicator->Issue(std::move(member.calls), member.stream);
    if (issued != ncclSuccess && (result == ncclSuccess || result == ncclInProgress))
      result = issued;
  }
  return result;
}

ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  FAIL_IF_ASKED(ncclInternalError);
  CollectiveCall call = {CollectiveKind::kSend, data, nullptr, count, type};
  call.peer = peer;
  return emulation::Submit(comm, call, stream);
}
ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  FAIL_IF_ASKED(ncclInternalError);
  CollectiveCall call = {CollectiveKind::kRecv, nullptr, data, count, type};
  call.peer = peer;
  return emulation::Submit(comm, call, stream);
}
ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  FAIL_IF_ASKED(ncclInternalError);
  return emulation::Submit(comm, {CollectiveKind::kAllReduce, send, receive, count, type, op},
                           stream);
}
ncclResult_t ncclReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
  FAIL_IF_ASKED(ncclInternalError);
  CollectiveCall call = {CollectiveKind::kReduce, send, receive, count, type, op};
  call.peer = root;
  return emulation::Submit(comm, call, stream);
}
ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  FAIL_IF_ASKED(ncclInternalError);
  return emulation::Submit(comm, {CollectiveKind::kReduceScatter, send, receive, count, type, op},
                           stream);
}
ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  FAIL_IF_ASKED(ncclInternalError);
  return emulation::Submit(comm, {CollectiveKind::kAllGather, send, receive, count, type}, stream);
}
ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  FAIL_IF_ASKED(ncclInternalError);
  CollectiveCall call = {CollectiveKind::kBroadcast, send, receive, count, type};
  call.peer = root;
  return emulation::Submit(comm, call, stream);
}

}  // extern "C"
