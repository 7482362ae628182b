#include "launch/rank_device.h"

#include <map>
#include <vector>

#include "absl/strings/str_cat.h"

#include "core/ops/devices.h"
#include "launch/agreement.h"
#include "parallel/comm/nccl.h"

namespace trireme {
namespace {

// What each rank says of its GPU: its id, or why there is none.
constexpr char kHas = '+', kHasNot = '-';

// Why the ranks cannot train on the GPUs that they found; empty when they can.
std::string Obstacle(const std::vector<std::string>& found) {
  std::map<std::string, size_t> holders;
  for (size_t rank = 0; rank < found.size(); ++rank) {
    if (found[rank][0] == kHasNot) {
      return absl::StrCat(found.size() > 1 ? absl::StrCat("rank ", rank, ": ") : "",
                          found[rank].substr(1));
    }
    const auto [holder, is_new] = holders.emplace(found[rank], rank);
    if (!is_new) {
      return absl::StrCat("ranks ", holder->second, " and ", rank,
                          " would share a GPU; start as many ranks on a machine as it has GPUs");
    }
  }
  return "";
}

}  // namespace

StatusOr<RankDevice> MakeRankDevice(Communicator& world, const DeviceChoice& choice,
                                    int rank_on_host, int threads, const CommOptions& options) {
  RankDevice made;
  if (choice.name == "cpu") {
    made.device = MakeCpuDevice({.num_threads = threads});
    return made;
  }
  CudaOptions cuda;
  if (choice.name != "auto") cuda.library = absl::StrCat("trireme_", choice.name);
  cuda.allow_tf32 = choice.allow_tf32;
  cuda.local_rank = rank_on_host;
  StatusOr<std::unique_ptr<Device>> device = MakeCudaDevice(cuda);
  ASSIGN_OR_RETURN(
      const std::vector<std::string> found,
      GatherTexts(world, device.ok() ? kHas + (*device)->id()
                                     : kHasNot + std::string(device.status().message())));
  const std::string obstacle = Obstacle(found);
  if (obstacle.empty()) {
    made.device = *std::move(device);
    ASSIGN_OR_RETURN(made.communicator, MakeNcclWorld(cuda.library, world, *made.device, options));
    made.remark = absl::StrCat("device: ", made.device->name());
    return made;
  }
  if (choice.name != "auto") {
    return device.ok()
               ? absl::InvalidArgumentError(absl::StrCat("device ", choice.name, ": ", obstacle))
               : Annotate(device.status(), absl::StrCat("device ", choice.name));
  }
  made.device = MakeCpuDevice({.num_threads = threads});
  made.remark = absl::StrCat("device: cpu (", obstacle, ")");
  return made;
}

}  // namespace trireme
