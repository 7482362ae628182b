// The CUDA runtime: streams and events.
#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "tests/cuda_emulation/fault_injection.h"
#include "tests/cuda_emulation/runtime.h"

using trireme::emulation::EmulatedDevice;
using trireme::emulation::EventState;
using trireme::emulation::Machine;
using trireme::emulation::Return;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  Machine& machine = Machine::Get();
  EmulatedDevice& device = machine.current();
  auto created = std::make_unique<CUstream_st>();
  created->device = &device;
  created->waits_for_legacy = (flags & cudaStreamNonBlocking) == 0;
  *stream = created.get();
  const std::lock_guard<std::mutex> lock(machine.mutex());
  device.streams.push_back(std::move(created));
  return Return(device.failure);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  if (stream == nullptr) return Return(cudaErrorInvalidResourceHandle);
  Machine& machine = Machine::Get();
  EmulatedDevice& device = *stream->device;
  const cudaError_t code = machine.Wait(*stream);
  const std::lock_guard<std::mutex> lock(machine.mutex());
  std::erase_if(device.streams, [stream](const auto& other) { return other.get() == stream; });
  return Return(code);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  Machine& machine = Machine::Get();
  return Return(machine.Wait(machine.Stream(stream)));
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  Machine& machine = Machine::Get();
  CUstream_st& stream = machine.Stream(handle);
  const std::lock_guard<std::mutex> lock(machine.mutex());
  if (stream.device->failure != cudaSuccess) return Return(stream.device->failure);
  return stream.tasks.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  Machine& machine = Machine::Get();
  return Return(machine.Enqueue(machine.Stream(stream), {"cudaLaunchHostFunc", [function, data] {
                                                           function(data);
                                                           return cudaSuccess;
                                                         }}));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  *event = new CUevent_st{(flags & cudaEventDisableTiming) == 0, std::make_shared<EventState>()};
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  if (event == nullptr) return Return(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  Machine& machine = Machine::Get();
  CUstream_st& stream = machine.Stream(handle);
  const std::shared_ptr<EventState> state = event->state;
  uint64_t record = 0;
  {
    const std::lock_guard<std::mutex> lock(machine.mutex());
    record = ++state->recorded;
    state->device = stream.device;
  }
  return Return(machine.Enqueue(stream, {"cudaEventRecord", [state, record] {
                                           Machine& machine = Machine::Get();
                                           const std::lock_guard<std::mutex> lock(machine.mutex());
                                           state->completed = std::max(state->completed, record);
                                           state->time = std::chrono::steady_clock::now();
                                           machine.WakeWorkers();
                                           return cudaSuccess;
                                         }}));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  Machine& machine = Machine::Get();
  const std::shared_ptr<EventState> state = event->state;
  uint64_t record = 0;
  {
    const std::lock_guard<std::mutex> lock(machine.mutex());
    record = state->recorded;
  }
  if (record == 0) return cudaSuccess;  // Never recorded: nothing to wait for.
  return Return(machine.Enqueue(machine.Stream(handle),
                                {"cudaStreamWaitEvent", [] { return cudaSuccess; },
                                 [state, record] { return state->completed >= record; }}));
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  Machine& machine = Machine::Get();
  const std::lock_guard<std::mutex> lock(machine.mutex());
  const EventState& state = *event->state;
  if (state.device != nullptr && state.device->failure != cudaSuccess) {
    return Return(state.device->failure);
  }
  return state.completed >= state.recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  Machine& machine = Machine::Get();
  const std::shared_ptr<EventState> state = event->state;
  uint64_t record = 0;
  {
    const std::lock_guard<std::mutex> lock(machine.mutex());
    record = state->recorded;
  }
  if (record == 0) return cudaSuccess;
  return Return(
      machine.WaitUntil(*state->device, [state, record] { return state->completed >= record; }));
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  Machine& machine = Machine::Get();
  const std::lock_guard<std::mutex> lock(machine.mutex());
  for (const cudaEvent_t event : {start, end}) {
    if (!event->timed || event->state->recorded == 0) return Return(cudaErrorInvalidResourceHandle);
    if (event->state->completed < event->state->recorded) return cudaErrorNotReady;
  }
  const std::chrono::duration<float, std::milli> elapsed = end->state->time - start->state->time;
  *ms = elapsed.count();
  return cudaSuccess;
}

}  // extern "C"
