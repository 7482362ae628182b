// The CUDA runtime: devices and errors.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/fault_injection.h"
#include "tests/cuda_emulation/runtime.h"

namespace trireme::emulation {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

struct ErrorText {
  cudaError_t code;
  const char* name;
  const char* text;
};
#define ERROR_TEXT(code, text) \
  { code, #code, text }
constexpr ErrorText kErrorTexts[] = {
    ERROR_TEXT(cudaSuccess, "no error"),
    ERROR_TEXT(cudaErrorInvalidValue, "invalid argument"),
    ERROR_TEXT(cudaErrorMemoryAllocation, "out of memory"),
    ERROR_TEXT(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ERROR_TEXT(cudaErrorInvalidDeviceFunction, "invalid device function"),
    ERROR_TEXT(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ERROR_TEXT(cudaErrorInvalidDevice, "invalid device ordinal"),
    ERROR_TEXT(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ERROR_TEXT(cudaErrorNotReady, "device not ready"),
    ERROR_TEXT(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ERROR_TEXT(cudaErrorMisalignedAddress, "misaligned address"),
    ERROR_TEXT(cudaErrorLaunchFailure, "unspecified launch failure"),
    ERROR_TEXT(cudaErrorNotSupported, "operation not supported"),
};
#undef ERROR_TEXT

const ErrorText* FindText(cudaError_t code) {
  const auto* found = std::find_if(std::begin(kErrorTexts), std::end(kErrorTexts),
                                   [code](const ErrorText& text) { return text.code == code; });
  return found == std::end(kErrorTexts) ? nullptr : found;
}

constexpr int kVersion = 13000;
constexpr int kNumMultiprocessors = 4;  // Few: kernels that loop over their grid should loop.

}  // namespace

cudaError_t Return(cudaError_t code) {
  if (code != cudaSuccess && code != cudaErrorNotReady) last_error = code;
  return code;
}

cudaError_t Verdict(const char* call, const std::string& wrong) {
  if (wrong.empty()) return cudaSuccess;
  ReportError(std::string(call) + " " + wrong);
  return cudaErrorIllegalAddress;
}

}  // namespace trireme::emulation

using trireme::emulation::EmulatedDevice;
using trireme::emulation::Machine;
using trireme::emulation::Return;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  *count = Machine::Get().num_devices();
  return Return(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaSetDevice(int device) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  return Return(Machine::Get().SetCurrent(device));
}

cudaError_t cudaGetDevice(int* device) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  *device = Machine::Get().current_index();
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* prop, int index) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  EmulatedDevice* device = Machine::Get().device(index);
  if (device == nullptr) return Return(cudaErrorInvalidDevice);
  *prop = {};
  snprintf(prop->name, sizeof(prop->name), "Emulated GPU");
  snprintf(prop->uuid.bytes, sizeof(prop->uuid.bytes), "emulated-gpu%03u",
           static_cast<unsigned>(index) % 1000);
  prop->totalGlobalMem = device->memory.capacity();
  prop->sharedMemPerBlock = 48 << 10;
  prop->sharedMemPerBlockOptin = trireme::emulation::kMaxSharedBytes;
  prop->sharedMemPerMultiprocessor = 228 << 10;
  prop->reservedSharedMemPerBlock = 1 << 10;
  prop->regsPerBlock = prop->regsPerMultiprocessor = 64 << 10;
  prop->warpSize = 32;
  prop->maxThreadsPerBlock = 1024;
  prop->maxThreadsPerMultiProcessor = 2048;
  prop->maxThreadsDim[0] = prop->maxThreadsDim[1] = 1024;
  prop->maxThreadsDim[2] = 64;
  prop->maxGridSize[0] = 2147483647;
  prop->maxGridSize[1] = prop->maxGridSize[2] = 65535;
  prop->major = 9;
  prop->multiProcessorCount = trireme::emulation::kNumMultiprocessors;
  prop->canMapHostMemory = prop->unifiedAddressing = 1;
  prop->concurrentKernels = prop->streamPrioritiesSupported = 1;
  prop->asyncEngineCount = 2;
  prop->memoryBusWidth = 64;
  prop->pciBusID = index + 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  cudaDeviceProp prop;
  const cudaError_t code = cudaGetDeviceProperties(&prop, index);
  if (code != cudaSuccess) return code;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = prop.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = prop.maxThreadsPerBlock;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(prop.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(prop.sharedMemPerBlockOptin);
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = prop.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = prop.minor;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = prop.warpSize;
      return cudaSuccess;
    case cudaDevAttrPciBusId:
      *value = prop.pciBusID;
      return cudaSuccess;
    case cudaDevAttrUnifiedAddressing:
      *value = 1;
      return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported:
    case cudaDevAttrIntegrated:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMemoryClockRate:
    case cudaDevAttrClockRate:
      *value = 1000000;  // kHz
      return cudaSuccess;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = prop.memoryBusWidth;
      return cudaSuccess;
    default:
      // One that the tree did not ask for until now: add it above.
      trireme::emulation::ReportError(
          trireme::emulation::Format("cudaDeviceGetAttribute(%d) is not emulated", attribute));
      return Return(cudaErrorInvalidValue);
  }
}

cudaError_t cudaDeviceSynchronize() {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  Machine& machine = Machine::Get();
  return Return(machine.Wait(machine.current()));
}

cudaError_t cudaDriverGetVersion(int* version) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  *version = trireme::emulation::kVersion;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  *version = trireme::emulation::kVersion;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t code = cudaPeekAtLastError();
  trireme::emulation::last_error = cudaSuccess;
  return code;
}
cudaError_t cudaPeekAtLastError() {
  // A failed device fails every call until the process ends.
  Machine& machine = Machine::Get();
  EmulatedDevice& device = machine.current();
  const std::lock_guard<std::mutex> lock(machine.mutex());
  return device.failure != cudaSuccess ? device.failure : trireme::emulation::last_error;
}

const char* cudaGetErrorName(cudaError_t code) {
  const auto* text = trireme::emulation::FindText(code);
  return text != nullptr ? text->name : "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t code) {
  const auto* text = trireme::emulation::FindText(code);
  return text != nullptr ? text->text : "unknown error";
}

}  // extern "C"
