// A world whose calls at one site go wrong: for tests that a suite would notice. Every rank makes
// its calls as before, so that nothing hangs, and what comes of them is spoilt.
#pragma once

#include <atomic>
#include <compare>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace trireme::testing {

// Where collectives are called: a verb, and what it is for along which axis.
struct CallSite {
  Verb verb = Verb::kBarrier;
  std::string purpose;
  std::string axis;
  ReduceOp op = ReduceOp::kSum;

  std::string ToString() const;  // "all_reduce 'gradients' over replica"
  friend auto operator<=>(const CallSite&, const CallSite&) = default;
};

enum class Mutation {
  kUndone,  // As if the rank were alone: its own part stays as it is, the parts of others are zero.
  kDoubled,  // As if it were done twice.
  kSummed,   // A maximum becomes a sum.
  kRotated,  // Parts arrive in the place of others.
};
const char* MutationName(Mutation mutation);
std::vector<Mutation> MutationsOf(const CallSite& site);

// What the ranks of one run share: the sites that they call, and what goes wrong at one of them.
// Groups of one rank have none.
class CallMutator {
 public:
  CallMutator() = default;  // Nothing goes wrong.
  CallMutator(CallSite site, Mutation mutation) : site_(std::move(site)), mutation_(mutation) {}

  // `world` outlives it. Splits of it are mutated as well.
  std::unique_ptr<Communicator> Wrap(Communicator& world);

  // The sites called so far, with the number of calls; forgets them.
  std::map<CallSite, int64_t> TakeCalls();

  // For the communicators.
  std::optional<Mutation> Called(const CallSite& site);

 private:
  const std::optional<CallSite> site_;
  const Mutation mutation_ = Mutation::kUndone;
  std::mutex mutex_;
  std::map<CallSite, int64_t> calls_;
};

}  // namespace trireme::testing
