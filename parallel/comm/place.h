// A rank's place in a communicator.
#pragma once

namespace trireme {

struct Place {
  int rank = 0;
  int size = 1;
};

}  // namespace trireme
