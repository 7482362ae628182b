// NCCL's return codes as Status.
#pragma once

#include <nccl.h>

#include "core/base/status.h"

namespace trireme {

// INTERNAL with file, line, call and what NCCL says of the code and of its last error.
Status NcclStatus(ncclResult_t code, const char* call, const char* file, int line);

}  // namespace trireme

// A non-blocking communicator answers that a call is in progress: the caller goes on to wait for
// it.
#define NCCL_OR_RETURN(call)                                                    \
  do {                                                                          \
    const ncclResult_t nccl_code = (call);                                      \
    if (nccl_code != ncclSuccess && nccl_code != ncclInProgress) [[unlikely]] { \
      return ::trireme::NcclStatus(nccl_code, #call, __FILE__, __LINE__);       \
    }                                                                           \
  } while (false)
