#include "parallel/comm/nccl.h"

#include "core/device/plugin.h"

namespace trireme {

StatusOr<std::unique_ptr<Communicator>> MakeNcclWorld(const std::string& library,
                                                      Communicator& control, Device& device,
                                                      const CommOptions& options) {
  using Made = StatusOr<std::unique_ptr<Communicator>>;
  ASSIGN_OR_RETURN(void* const make, PluginSymbol(library, "trireme_make_nccl_world"));
  Made world;
  reinterpret_cast<void (*)(Communicator&, Device&, const CommOptions&, Made*)>(make)(
      control, device, options, &world);
  return world;
}

}  // namespace trireme
