#include <cstdlib>

#include "core/base/log.h"
#include "core/tensor/dispatch.h"

namespace trireme {

void NoKernelFor(DType dtype, const char* op) {
  LOG(FATAL) << "no kernel for " << DTypeName(dtype) << " [" << op << "]";
  std::abort();
}

}  // namespace trireme
