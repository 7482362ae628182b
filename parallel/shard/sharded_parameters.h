// Working copies of parameters whose ownership is shared (ZeRO, Rajbhandari et al. 2020): they are
// gathered from the owned slices, in place, once a step, or (stage 3) around each use of their
// unit.
#pragma once

#include <memory>
#include <vector>

#include "core/module/parameter.h"
#include "parallel/comm/communicator.h"

namespace trireme {

class ShardedParameters {
 public:
  // owners: nullptr when this rank owns all. `release`: working copies live only while acquired
  // (stage 3). The references outlive this.
  ShardedParameters(const ParameterSet& parameters, Communicator* owners, bool release);
  ~ShardedParameters();

  // The owned slices have changed, or are new.
  Status Refresh();

  // The working copies of `unit` are whole from here until as many Release calls. Prefetch starts
  // the gathering that Acquire waits for. Every owner makes the same calls in the same order. Throw
  // Failure.
  void Prefetch(int unit);
  void Acquire(int unit);
  void Release(int unit);

 private:
  // What several units use is held as long as one of them holds it.
  struct Residence {
    int holders = 0;
    std::unique_ptr<Work> gathering;
  };

  void StartGather(int i);
  void FinishGather(int i);

  const ParameterSet& parameters_;
  Communicator* const owners_;
  const bool release_;
  std::vector<std::vector<int>> by_unit_;  // Parameters that a unit uses.
  std::vector<bool> prefetched_;           // By unit.
  std::vector<Residence> residences_;      // By parameter.
};

}  // namespace trireme
