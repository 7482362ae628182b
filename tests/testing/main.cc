#include <gtest/gtest.h>

#include "tests/testing/device.h"

int main(int argc, char** argv) {
  trireme::testing::ParseDeviceFlag(&argc, argv);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
