// Storage: one block of device memory, shared by the tensors that view it. A working copy's storage
// can be released and refilled (sharded parameters); reading it in between is a programmer error.
#pragma once

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

#include "core/device/device.h"

namespace trireme {

class Storage {
 public:
  // Throws Failure when memory runs out.
  static std::shared_ptr<Storage> Allocate(Device& device, size_t bytes, MemoryKind kind,
                                           absl::string_view label);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device& device() const { return *device_; }
  size_t bytes() const { return bytes_; }
  bool resident() const { return block_.data != nullptr; }
  void* data() const;  // CHECKs residency.

  void Release();
  void Refill();  // Contents undefined; throws Failure.

 private:
  Storage(Device& device, size_t bytes, MemoryKind kind, absl::string_view label);

  Device* device_;
  size_t bytes_;
  MemoryKind kind_;
  std::string label_;
  Block block_;
};

}  // namespace trireme
