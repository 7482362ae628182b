// When a round ends. Never so that an open job could no longer decode.
//
//   all         when everybody has arrived
//   model       at (1 + mu) times the fastest when those that are late by then are within the
//   code's
//               straggler model; else all are waited for (Krishnan et al. 2023)
//   look_ahead  at (1 + mu) times the fastest, or later at the first arrival after which every open
//               job would decode on time if nobody were late any more. With mu = 0 and a code
//               without delay: at the first set that decodes.
#pragma once

#include <string>
#include <vector>

#include "parallel/coding/gradient_code.h"

namespace trireme {

enum class StopKind { kAll, kModel, kLookAhead };

struct StopRule {
  StopKind kind = StopKind::kAll;
  double mu = 1;
  // The arrival that counts as the fastest, from 1. With 2 or more a single worker that is
  // unusually fast does not end the round.
  int reference = 1;

  std::string ToString() const;  // "look_ahead, mu 0.5".
};

// 2, or a tenth of the workers; 1 of fewer than three.
int RobustReference(int num_workers);

// What look_ahead asks. Keeps its memory from call to call.
class Foresight {
 public:
  explicit Foresight(const GradientCode& code);

  // Whether every open job of `history` (what has arrived by now, in the round that it is at) would
  // decode by its last round.
  bool Feasible(const History& history);

 private:
  const GradientCode& code_;
  History later_;
  std::vector<int> messages_;
};

}  // namespace trireme
