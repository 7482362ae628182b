#include "launch/stop_signal.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>

namespace trireme {
namespace {

// In children: what signals leave behind belongs to the process.
class StopSignalTest : public ::testing::Test {
 protected:
  StopSignalTest() { ::testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

TEST_F(StopSignalTest, TheFirstSignalIsNoted) {
  const auto check = [](int signal) {
    InstallStopSignals();
    if (StopSignal() != 0) std::exit(1);
    raise(signal);
    raise(SIGTERM);
    std::exit(StopSignal() == signal ? 0 : 2);
  };
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) {
    EXPECT_EXIT(check(signal), ::testing::ExitedWithCode(0), "") << StopSignalName(signal);
  }
}

TEST_F(StopSignalTest, ASecondInterruptEndsAtOnce) {
  const auto interrupt_twice = [] {
    InstallStopSignals();
    raise(SIGINT);
    raise(SIGINT);
  };
  EXPECT_EXIT(interrupt_twice(), ::testing::ExitedWithCode(130), "");
}

}  // namespace
}  // namespace trireme
