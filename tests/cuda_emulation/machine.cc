#include "tests/cuda_emulation/machine.h"

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <utility>

#include "tests/cuda_emulation/faults.h"

namespace trireme::emulation {
namespace {

thread_local int current_device = 0;

uint64_t EnvironmentNumber(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text != nullptr && *text != '\0' ? strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace

EmulatedDevice::EmulatedDevice(int index_in, size_t capacity, const PinnedMemory& pinned)
    : index(index_in), memory(index_in, capacity), execution(memory, pinned) {
  legacy_stream.device = this;
  legacy_stream.is_legacy = true;
}

Machine& Machine::Get() {
  // Workers outlive main; so does what they use.
  static Machine& machine = *new Machine;
  return machine;
}

Machine::Machine() : seed_(EnvironmentNumber("TRIREME_EMULATION_SEED", 0)) {
  const uint64_t num_devices = EnvironmentNumber("TRIREME_EMULATED_GPUS", 8);
  devices_.resize(static_cast<size_t>(num_devices));
  InstallFaultHandler();
}

EmulatedDevice* Machine::device(int index) {
  if (index < 0 || index >= num_devices()) return nullptr;
  const std::lock_guard<std::mutex> lock(mutex_);
  auto& device = devices_[static_cast<size_t>(index)];
  if (device == nullptr) {
    const uint64_t mib = EnvironmentNumber("TRIREME_EMULATED_GPU_MIB", 4096);
    device = std::make_unique<EmulatedDevice>(index, static_cast<size_t>(mib) << 20, pinned_);
    device->random = seed_ * 8 + static_cast<uint64_t>(index) + 1;
    std::thread([this, &device = *device] { Work(device); }).detach();
  }
  return device.get();
}

EmulatedDevice& Machine::current() { return *device(current_device); }

cudaError_t Machine::SetCurrent(int index) {
  if (device(index) == nullptr) return cudaErrorInvalidDevice;
  current_device = index;
  return cudaSuccess;
}

int Machine::current_index() const { return current_device; }

EmulatedDevice* Machine::DeviceOf(const void* pointer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return DeviceAt(pointer);
}

EmulatedDevice* Machine::DeviceAt(const void* pointer) const {
  for (const auto& device : devices_) {
    if (device != nullptr && device->memory.Contains(pointer)) return device.get();
  }
  return nullptr;
}

CUstream_st& Machine::Stream(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy ? current().legacy_stream : *stream;
}

cudaError_t Machine::Enqueue(CUstream_st& stream, Task task) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stream.device->failure != cudaSuccess) return stream.device->failure;
  const bool idle = !HasWork(*stream.device);
  task.number = ++num_tasks_;
  stream.tasks.push_back(std::move(task));
  ++stream.enqueued;
  stream.device->last_news = std::chrono::steady_clock::now();
  if (idle) stream.device->work.notify_all();
  return cudaSuccess;
}

cudaError_t Machine::WaitUntil(EmulatedDevice& device, const std::function<bool()>& done) {
  std::unique_lock<std::mutex> lock(mutex_);
  device.awaited.push_back(&done);
  device.work.notify_all();
  changed_.wait(lock, [&] { return device.failure != cudaSuccess ? !device.busy : done(); });
  std::erase(device.awaited, &done);
  return device.failure;
}

cudaError_t Machine::Wait(CUstream_st& stream) {
  std::unique_lock<std::mutex> lock(mutex_);
  const uint64_t target = stream.enqueued;
  lock.unlock();
  return WaitUntil(*stream.device, [&stream, target] { return stream.completed >= target; });
}

cudaError_t Machine::Wait(EmulatedDevice& device) {
  return WaitUntil(device, [&device] { return !HasWork(device); });
}

bool Machine::HasWork(const EmulatedDevice& device) {
  return !device.legacy_stream.tasks.empty() ||
         std::any_of(device.streams.begin(), device.streams.end(),
                     [](const auto& stream) { return !stream->tasks.empty(); });
}

bool Machine::IsAwaited(const EmulatedDevice& device) {
  return std::any_of(device.awaited.begin(), device.awaited.end(),
                     [](const auto* done) { return !(*done)(); });
}

bool Machine::IsNeeded(EmulatedDevice& device) {
  bool needed = false;
  std::erase_if(device.needed, [&needed](const auto& flag) {
    const auto alive = flag.lock();
    needed |= alive != nullptr && alive->load(std::memory_order_relaxed) != 0;
    return alive == nullptr;
  });
  return needed;
}

void Machine::WakeWorkers() {
  for (const auto& device : devices_) {
    if (device != nullptr) device->work.notify_all();
  }
}

bool Machine::MayRun(const EmulatedDevice& device, const CUstream_st& stream) const {
  const Task& task = stream.tasks.front();
  if (stream.is_legacy) {
    for (const auto& other : device.streams) {
      if (other->waits_for_legacy && !other->tasks.empty() &&
          other->tasks.front().number < task.number) {
        return false;
      }
    }
  } else if (stream.waits_for_legacy && !device.legacy_stream.tasks.empty() &&
             device.legacy_stream.tasks.front().number < task.number) {
    return false;
  }
  return !task.ready || task.ready();
}

CUstream_st* Machine::Pick(EmulatedDevice& device) {
  std::vector<CUstream_st*> candidates;
  auto consider = [&](CUstream_st& stream) {
    if (!stream.tasks.empty() && !stream.stalled && MayRun(device, stream)) {
      candidates.push_back(&stream);
    }
  };
  consider(device.legacy_stream);
  for (const auto& stream : device.streams) consider(*stream);
  if (candidates.empty()) return nullptr;
  if (seed_ == 0) {
    // The last that came: where a wait is missing this is the order that nobody had in mind.
    return *std::max_element(candidates.begin(), candidates.end(), [](auto* a, auto* b) {
      return a->tasks.front().number < b->tasks.front().number;
    });
  }
  device.random = device.random * 6364136223846793005u + 1442695040888963407u;
  return candidates[(device.random >> 33) % candidates.size()];
}

void Machine::DropWork(EmulatedDevice& device) {
  auto drop = [](CUstream_st& stream) {
    stream.completed += stream.tasks.size();
    stream.tasks.clear();
  };
  drop(device.legacy_stream);
  for (const auto& stream : device.streams) drop(*stream);
}

void Machine::SetPatience(std::chrono::milliseconds patience) {
  const std::lock_guard<std::mutex> lock(mutex_);
  patience_ = patience;
  WakeWorkers();
}

void Machine::Recover() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (const auto& device : devices_) {
    if (device == nullptr || device->failure == cudaSuccess) continue;
    changed_.wait(lock, [&] { return !device->busy; });
    DropWork(*device);
    device->failure = cudaSuccess;
  }
}

void Machine::Work(EmulatedDevice& device) {
  using std::chrono::microseconds;
  using Clock = std::chrono::steady_clock;
  UseSignalStack();
  std::unique_lock<std::mutex> lock(mutex_);
  auto is_time = [this, &device] {
    return IsAwaited(device) || Clock::now() >= device.last_news + patience_ || IsNeeded(device);
  };
  auto forget_stalls = [&device] {
    device.legacy_stream.stalled = false;
    for (const auto& stream : device.streams) stream->stalled = false;
  };
  for (;;) {
    if (device.failure != cudaSuccess || !HasWork(device)) {
      device.work.wait(lock);
      continue;
    }
    if (!is_time()) {
      // Other processes cannot wake us.
      const auto soon = Clock::now() + microseconds(500);
      device.work.wait_until(lock, device.needed.empty()
                                       ? device.last_news + patience_
                                       : std::min(device.last_news + patience_, soon));
      continue;
    }
    CUstream_st* stream = Pick(device);
    if (stream == nullptr) {
      device.work.wait_for(lock, microseconds(1000));
      continue;
    }
    device.memory.Open();
    while (stream != nullptr) {
      device.busy = true;
      const Task& task = stream->tasks.front();
      lock.unlock();
      const cudaError_t result = task.run();
      lock.lock();
      device.busy = false;
      stream->stalled = result == cudaErrorNotReady;
      if (!stream->stalled) {
        stream->tasks.pop_front();
        ++stream->completed;
        forget_stalls();
        if (result != cudaSuccess && device.failure == cudaSuccess) {
          device.failure = result;
          DropWork(device);
        }
      }
      changed_.notify_all();
      stream = is_time() ? Pick(device) : nullptr;
    }
    device.memory.Close();
    const bool stalled = std::any_of(device.streams.begin(), device.streams.end(),
                                     [](const auto& other) { return other->stalled; }) ||
                         device.legacy_stream.stalled;
    if (stalled) {
      forget_stalls();
      device.work.wait_for(lock, microseconds(50));
    }
  }
}

}  // namespace trireme::emulation
