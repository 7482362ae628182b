// The entry of the plug-in: see parallel/comm/nccl.h.
#include <cstring>
#include <map>

#include "absl/strings/str_cat.h"

#include "parallel/comm/nccl/nccl_communicator.h"

namespace trireme {
namespace {

// NCCL hangs when two ranks are on one GPU.
Status CheckDevices(NcclWorld& world) {
  constexpr int64_t kIdBytes = 64;
  Communicator& control = world.control;
  const std::string id = world.device.id();
  const Tensor all = Tensor::Empty(world.host, {control.size() * kIdBytes}, DType::kU8,
                                   MemoryKind::kCommunication, "gpu ids");
  const Tensor own = all.View1D(control.rank() * kIdBytes, kIdBytes);
  std::memset(own.raw(), 0, kIdBytes);
  std::memcpy(own.raw(), id.data(), std::min<size_t>(id.size(), kIdBytes));
  RETURN_IF_ERROR(control.AllGather(own, all, {.purpose = "gpu ids"})->Wait());
  std::map<std::string, int> holder;
  for (int rank = 0; rank < control.size(); ++rank) {
    const std::string other(static_cast<const char*>(all.raw()) + rank * kIdBytes, kIdBytes);
    const auto [found, is_new] = holder.emplace(other, rank);
    if (is_new) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "ranks ", found->second, " and ", rank, " are on one GPU (", other.c_str(),
        "); NCCL needs one each. Start as many ranks on a machine as it has GPUs, or train with "
        "--set device=cpu"));
  }
  return absl::OkStatus();
}

StatusOr<std::unique_ptr<Communicator>> MakeWorld(Communicator& control, Device& device,
                                                  const CommOptions& options) {
  auto world = std::make_shared<NcclWorld>(AsCuda(device), control, options);
  RETURN_IF_ERROR(CheckDevices(*world));
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group,
                   control.Split(0, control.rank(), control.axis()));
  return NcclCommunicator::Create(std::move(world), std::move(group));
}

}  // namespace
}  // namespace trireme

extern "C" __attribute__((visibility("default"))) void trireme_make_nccl_world(
    trireme::Communicator& control, trireme::Device& device, const trireme::CommOptions& options,
    trireme::StatusOr<std::unique_ptr<trireme::Communicator>>* world) {
  *world = trireme::MakeWorld(control, device, options);
}
