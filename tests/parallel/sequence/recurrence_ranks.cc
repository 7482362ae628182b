#include "tests/parallel/sequence/recurrence_ranks.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

// Inputs that have no row for each token: a constant decay, the initial state.
bool IsWhole(const RecurrenceCase& c, size_t input) {
  return input == 7 || (input == 3 && c.decay == Decay::kConstant);
}

// What memories take: some tokens nothing, some several.
bool Takes(int64_t memory, int64_t token) { return (token * 7 + memory * 5) % 11 < 5; }

// Results that belong to lines: the final state, dinitial.
bool IsOfLines(size_t result) { return result == 1 || result == 9; }

std::vector<double> ValuesOf(const Tensor& x) {
  return x.defined() ? x.ToVector() : std::vector<double>();
}

// The gradients of sum(out dout) + sum(final dfinal), beside the outputs.
RecurrenceValues Differentiate(const std::vector<Tensor>& inputs, const RecurrenceOutputs& outputs,
                               const Tensor& dout, const Tensor& dfinal) {
  Tensor loss = Sum(Mul(outputs.out, dout));
  if (outputs.final_state.defined()) {
    loss = Add(To(loss, outputs.final_state.dtype()), Sum(Mul(outputs.final_state, dfinal)));
  }
  loss.Backward();
  RecurrenceValues values = {ValuesOf(outputs.out), ValuesOf(outputs.final_state)};
  for (const Tensor& input : inputs) {
    values.push_back(input.defined() ? ValuesOf(input.grad()) : std::vector<double>());
  }
  return values;
}

RecurrenceInputs RecurrenceOf(const RecurrenceCase& c, const std::vector<Tensor>& x) {
  RecurrenceInputs inputs;
  inputs.rule = c.rule;
  inputs.q = x[0];
  inputs.k = x[1];
  inputs.v = x[2];
  inputs.log_decay = x[3];
  inputs.beta = x[4];
  inputs.a = x[5];
  inputs.b = x[6];
  inputs.scale = 0.7;
  return inputs;
}

}  // namespace

std::string ScanSetup::Name() const { return absl::StrCat(scan, " ", SequenceCutName(cut)); }

std::vector<ScanSetup> ScanSetups() {
  std::vector<ScanSetup> setups;
  for (const auto& entry : Scans()) {
    for (const SequenceCut cut : {SequenceCut::kContiguous, SequenceCut::kZigzag}) {
      setups.push_back({entry.name, {}, cut});
    }
  }
  return setups;
}

int64_t SampleSet::num_tokens() const {
  int64_t n = 0;
  for (const auto& documents : samples) {
    for (const int64_t length : documents) n += length;
  }
  return n;
}

TokenLayout SampleSet::LayoutOf(SequenceCut cut, int size, int rank) const {
  TokenLayout layout;
  std::vector<Segment> whole;
  for (size_t s = 0; s < samples.size(); ++s) {
    Segment sample = {static_cast<int64_t>(s), 0, 0};
    for (const int64_t length : samples[s]) {
      layout.documents.push_back({sample.sample, sample.length, length});
      sample.length += length;
    }
    whole.push_back(sample);
  }
  layout.axis_segments = CutSegments(whole, cut, size);
  layout.segments = layout.axis_segments[rank];
  return layout;
}

std::vector<int64_t> SampleSet::RowsOf(SequenceCut cut, int size, int rank) const {
  std::vector<int64_t> first = {0};
  for (const auto& documents : samples) {
    first.push_back(first.back());
    for (const int64_t length : documents) first.back() += length;
  }
  std::vector<int64_t> rows;
  for (const Segment& segment : LayoutOf(cut, size, rank).segments) {
    for (int64_t i = 0; i < segment.length; ++i) {
      rows.push_back(first[segment.sample] + segment.begin + i);
    }
  }
  return rows;
}

std::vector<SampleSet> SampleSets() {
  return {
      {"packed", {{31, 1, 41, 28}, {7, 90}}},
      {"one_prime_document", {{151}}},
      {"short_samples", {{1}, {2}, {3, 2}, {17}, {1, 1, 1}}},
      {"one_token", {{1}}},
      {"borders", {{16, 16, 16, 16}, {32, 32}}},  // Documents begin where pieces do.
  };
}

Tensor TakeRows(Device& device, const Tensor& x, const std::vector<int64_t>& rows) {
  Shape shape = x.shape();
  shape[0] = static_cast<int64_t>(rows.size());
  const std::vector<double> all = x.ToVector();
  const int64_t width = x.dim(0) == 0 ? 0 : x.numel() / x.dim(0);
  std::vector<double> taken;
  for (const int64_t row : rows) {
    taken.insert(taken.end(), all.begin() + row * width, all.begin() + (row + 1) * width);
  }
  return Tensor::FromVector(device, shape, taken, x.dtype());
}

RecurrenceProblem::RecurrenceProblem(Device& device, const RecurrenceCase& kind,
                                     const SampleSet& samples, DType dtype, DType rounded,
                                     int64_t memories)
    : c(kind), samples(samples), memories(memories) {
  const int64_t copies = std::max<int64_t>(1, memories), lines = samples.num_lines() * copies;
  c.n = samples.num_tokens() * copies;
  c.runs.assign(lines, {0, 0});  // As many initial states.
  tensors = RecurrenceTensors(device, c, dtype, rounded);
  const Tensor& v = tensors[2];
  dout = RandomTensor(device, v.shape(), 91, 1, rounded).CopyTo(dtype);
  dfinal = RandomTensor(device, {lines, v.dim(1), c.key, c.value}, 92, 1, rounded)
               .CopyTo(AccumulationType(dtype));
}

std::string RecurrenceProblem::Name() const {
  return absl::StrCat(c.name, " ", samples.name, c.initial ? "" : " from zeros",
                      memories > 0 ? absl::StrCat(" ", memories, " memories") : "");
}

std::vector<int64_t> RecurrenceProblem::RowsOf(SequenceCut cut, int size, int rank) const {
  const std::vector<int64_t> tokens = samples.RowsOf(cut, size, rank);
  if (memories == 0) return tokens;
  const TokenLayout layout = samples.LayoutOf(cut, size, rank);
  std::vector<int64_t> rows;
  for (const DocumentRun& run : DocumentRuns(layout.segments, layout.documents)) {
    for (int64_t memory = 0; memory < memories; ++memory) {
      for (int64_t i = run.rows.begin; i < run.rows.end; ++i) {
        if (Takes(memory, tokens[i])) rows.push_back(tokens[i] * memories + memory);
      }
    }
  }
  return rows;
}

RecurrencePlan RecurrenceProblem::PlanOf(SequenceCut cut, int size, int rank) const {
  const TokenLayout layout = samples.LayoutOf(cut, size, rank);
  const RecurrencePlan plan = PlanRecurrence(layout, cut, rank, c.initial);
  if (memories == 0) return plan;
  const std::vector<int64_t> tokens = samples.RowsOf(cut, size, rank);
  MemoryRows rows = {memories, {}};
  for (const RecurrencePlan::Run& run : plan.runs) {
    std::vector<int64_t>& counts = rows.of_runs.emplace_back(memories, 0);
    for (int64_t memory = 0; memory < memories; ++memory) {
      for (int64_t i = run.rows.begin; i < run.rows.end; ++i) {
        counts[memory] += Takes(memory, tokens[i]);
      }
    }
  }
  return PlanMemories(plan, rows);
}

// The inputs of a rank, as leaves.
std::vector<Tensor> RecurrenceProblem::InputsOf(Device& device,
                                                const std::vector<int64_t>& rows) const {
  std::vector<Tensor> x;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const bool whole = IsWhole(c, i);
    if (tensors[i].defined()) {
      x.push_back(whole ? Tensor::FromVector(device, tensors[i].shape(), tensors[i].ToVector(),
                                             tensors[i].dtype())
                        : TakeRows(device, tensors[i], rows));
      x.back().set_requires_grad(!(whole && i == 3));  // A constant decay has none.
    } else {
      x.emplace_back();
    }
  }
  return x;
}

RecurrenceValues RecurrenceProblem::OnOneRank() const {
  const SequenceCut cut = SequenceCut::kContiguous;
  Device& device = dout.device();
  const std::vector<int64_t> rows = RowsOf(cut, 1, 0);
  const std::vector<Tensor> x = InputsOf(device, rows);
  RecurrenceValues values =
      Differentiate(x, WholeRecurrence(RecurrenceOf(c, x), PlanOf(cut, 1, 0), x[7]),
                    TakeRows(device, dout, rows), dfinal);
  // In the order of all rows.
  for (size_t i = 0; i < values.size(); ++i) {
    if (IsOfLines(i) || values[i].empty()) continue;
    const size_t width = values[i].size() / rows.size();
    std::vector<double> all(c.n * width, 0);
    for (size_t row = 0; row < rows.size(); ++row) {
      std::copy_n(values[i].begin() + row * width, width, all.begin() + rows[row] * width);
    }
    values[i] = all;
  }
  return values;
}

RecurrenceValues RecurrenceProblem::OnThisRank(Device& device, const AffineScan& scan,
                                               SequenceCut cut) const {
  const int rank = scan.axis().rank(), size = scan.axis().size();
  const std::vector<int64_t> rows = RowsOf(cut, size, rank);
  const std::vector<Tensor> x = InputsOf(device, rows);
  const RecurrenceOutputs outputs =
      SequenceRecurrence(RecurrenceOf(c, x), PlanOf(cut, size, rank), scan, x[7]);
  const Tensor own_dfinal =
      Tensor::FromVector(device, dfinal.shape(), dfinal.ToVector(), dfinal.dtype());
  return Differentiate(x, outputs, TakeRows(device, dout, rows), own_dfinal);
}

RecurrenceValues RecurrenceProblem::PartOf(const RecurrenceValues& whole, const Communicator& axis,
                                           SequenceCut cut) const {
  const std::vector<int> owners = SlotOwners(cut, axis.size());
  const std::vector<int64_t> rows = RowsOf(cut, axis.size(), axis.rank());
  RecurrenceValues part(whole.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    if (IsOfLines(i)) {
      const int owner = i == 1 ? owners.back() : owners.front();
      if (axis.rank() == owner) part[i] = whole[i];
      continue;
    }
    const int64_t width = c.n == 0 ? 0 : static_cast<int64_t>(whole[i].size()) / c.n;
    for (const int64_t row : rows) {
      part[i].insert(part[i].end(), whole[i].begin() + row * width,
                     whole[i].begin() + (row + 1) * width);
    }
  }
  return part;
}

}  // namespace trireme::testing
