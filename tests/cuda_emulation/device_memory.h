// What tests of the emulation do with device memory.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <vector>

namespace trireme::emulation {

template <typename T>
T* DeviceArray(size_t n) {
  void* data = nullptr;
  EXPECT_EQ(cudaMalloc(&data, n * sizeof(T)), cudaSuccess);
  return static_cast<T*>(data);
}

template <typename T>
T* OnDevice(const std::vector<T>& values) {
  T* data = DeviceArray<T>(values.size());
  EXPECT_EQ(
      cudaMemcpyAsync(data, values.data(), values.size() * sizeof(T), cudaMemcpyDefault, nullptr),
      cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  return data;
}

template <typename T>
std::vector<T> OnHost(const T* data, size_t n, cudaStream_t stream = nullptr) {
  std::vector<T> values(n);
  EXPECT_EQ(cudaMemcpyAsync(values.data(), data, n * sizeof(T), cudaMemcpyDefault, stream),
            cudaSuccess);
  return values;
}

}  // namespace trireme::emulation
