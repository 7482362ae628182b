// Linear attention on the whole and on the ranks of a sequence axis, for tests.
#pragma once

#include <string>
#include <vector>

#include "parallel/sequence/sequence_recurrence.h"
#include "tests/core/ops/recurrence_cases.h"
#include "tests/testing/ranks.h"

namespace trireme::testing {

// A way for states to travel, and a cut.
struct ScanSetup {
  std::string scan;
  ParamMap params;
  SequenceCut cut;

  std::string Name() const;
};
// Every entry of the registry under both cuts.
std::vector<ScanSetup> ScanSetups();

// Of samples, packed: rows, layouts and what each rank has of the whole.
struct SampleSet {
  std::string name;
  std::vector<std::vector<int64_t>> samples;  // The lengths of the documents of each.

  int64_t num_tokens() const;
  int64_t num_lines() const { return static_cast<int64_t>(samples.size()); }
  TokenLayout LayoutOf(SequenceCut cut, int size, int rank) const;
  // Among the rows of the whole, those of a rank.
  std::vector<int64_t> RowsOf(SequenceCut cut, int size, int rank) const;
};
std::vector<SampleSet> SampleSets();

// x[rows], on the host.
Tensor TakeRows(Device& device, const Tensor& x, const std::vector<int64_t>& rows);

// out, final state, then the gradients of the inputs in the order of RecurrenceTensors; empty where
// undefined.
using RecurrenceValues = std::vector<std::vector<double>>;
inline constexpr const char* kRecurrenceNames[] = {
    "out", "final state", "dq", "dk", "dv", "dlog_decay", "dbeta", "da", "db", "dinitial"};

// Inputs of all tokens and random gradients of both outputs. The case's n and runs are set here.
// With memories there are as many rows for each token of the whole, of which a rank has those that
// its memories take: about half of them.
struct RecurrenceProblem {
  RecurrenceProblem(Device& device, const RecurrenceCase& kind, const SampleSet& samples,
                    DType dtype = DType::kF64, DType rounded = DType::kF64, int64_t memories = 0);

  std::string Name() const;
  // A rank's part: its rows among those of the whole, in the order of the plan.
  std::vector<int64_t> RowsOf(SequenceCut cut, int size, int rank) const;
  RecurrencePlan PlanOf(SequenceCut cut, int size, int rank) const;

  RecurrenceValues OnOneRank() const;
  RecurrenceValues OnThisRank(Device& device, const AffineScan& scan, SequenceCut cut) const;
  // What OnThisRank should give, of what OnOneRank gave.
  RecurrenceValues PartOf(const RecurrenceValues& whole, const Communicator& axis,
                          SequenceCut cut) const;

  RecurrenceCase c;
  SampleSet samples;
  int64_t memories;
  std::vector<Tensor> tensors;
  Tensor dout, dfinal;

 private:
  std::vector<Tensor> InputsOf(Device& device, const std::vector<int64_t>& rows) const;
};

}  // namespace trireme::testing
