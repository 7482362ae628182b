// Scratch memory of one kernel launch, from the device's allocator. No Abseil here: CUDA kernels
// include it.
#pragma once

#include <cstdint>

namespace trireme {

class Device;

// Freed in the order of the compute queue, so it may go out of scope while the kernel runs.
class Workspace {
 public:
  // Throws Failure when memory runs out.
  Workspace(Device& device, int64_t bytes, const char* label);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  Device& device_;
  void* data_;
  int64_t bytes_;
};

}  // namespace trireme
