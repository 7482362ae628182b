// libFuzzer's entry point; the main function is its own.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/target.h"

extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t* data,
                                                                             size_t size) {
  trireme::fuzz::Accepts({reinterpret_cast<const char*>(data), size});
  return 0;
}
