// No code: worker w computes part w alone. What every other code is compared with.
#include "parallel/coding/group_code.h"

namespace trireme {

StatusOr<std::unique_ptr<GradientCode>> MakeUncoded(int num_workers, const Params&) {
  return MakeGroupCode("uncoded", num_workers, num_workers);
}

}  // namespace trireme
