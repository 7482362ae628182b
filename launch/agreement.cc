#include "launch/agreement.h"

#include <cstring>
#include <memory>
#include <numeric>

#include "core/device/cpu/cpu_device.h"
#include "core/ops/devices.h"
#include "core/tensor/tensor.h"

namespace trireme {
namespace {

Tensor ToTensor(Device& device, absl::string_view text) {
  const Tensor bytes = Tensor::Empty(device, {static_cast<int64_t>(text.size())}, DType::kU8,
                                     MemoryKind::kCommunication, "text");
  if (!text.empty()) std::memcpy(bytes.raw(), text.data(), text.size());
  return bytes;
}

}  // namespace

StatusOr<std::vector<std::string>> GatherTexts(Communicator& world, absl::string_view mine) {
  std::vector<std::string> texts;
  const Status status = CatchFailure([&] {
    const auto device = MakeCpuDevice();
    const int64_t size = static_cast<int64_t>(mine.size());
    const Tensor sizes = Tensor::Empty(*device, {world.size()}, DType::kI64,
                                       MemoryKind::kCommunication, "text sizes");
    world
        .AllGather(Tensor::FromHost<int64_t>(*device, {1}, absl::MakeConstSpan(&size, 1)), sizes,
                   {.purpose = "text sizes"})
        ->Join(device->compute());
    const std::vector<int64_t> counts(sizes.data<int64_t>(), sizes.data<int64_t>() + world.size());
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    const Tensor all =
        Tensor::Empty(*device, {total}, DType::kU8, MemoryKind::kCommunication, "texts");
    world.AllGather(ToTensor(*device, mine), all, {.purpose = "texts", .counts = counts})
        ->Join(device->compute());
    const char* text = total > 0 ? static_cast<const char*>(all.raw()) : nullptr;
    for (const int64_t count : counts) {
      texts.emplace_back(text, count);
      text += count;
    }
  });
  if (!status.ok()) return status;
  return texts;
}

StatusOr<std::string> BroadcastText(Communicator& world, absl::string_view text_of_rank_0) {
  ASSIGN_OR_RETURN(std::vector<std::string> texts,
                   GatherTexts(world, world.rank() == 0 ? text_of_rank_0 : ""));
  return std::move(texts[0]);
}

StatusOr<int64_t> LargestOf(Communicator& world, Device& host, int64_t mine) {
  int64_t largest = mine;
  RETURN_IF_ERROR(CatchFailure([&] {
    const Tensor value = Tensor::FromHost<int64_t>(host, {1}, {&mine, 1});
    ThrowIfError(world.AllReduce(value, {.purpose = "stop", .op = ReduceOp::kMax})->Wait());
    largest = *value.data<int64_t>();
  }));
  return largest;
}

}  // namespace trireme
