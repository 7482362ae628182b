#include "tests/parallel/sequence/recurrence_ranks.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

// Inputs that have no row for each token: a constant decay, the initial state.
bool IsWhole(const RecurrenceCase& c, size_t input) {
  return input == 7 || (input == 3 && c.decay == Decay::kConstant);
}

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

RecurrenceInputs InputsOf(const RecurrenceCase& c, const std::vector<Tensor>& x) {
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
                                     const SampleSet& samples, DType dtype, DType rounded)
    : c(kind), samples(samples) {
  c.n = samples.num_tokens();
  c.runs.assign(samples.num_lines(), {0, 0});  // As many initial states.
  tensors = RecurrenceTensors(device, c, dtype, rounded);
  const Tensor& v = tensors[2];
  dout = RandomTensor(device, v.shape(), 91, 1, dtype);
  dfinal = RandomTensor(device, {samples.num_lines(), v.dim(1), c.key, c.value}, 92, 1,
                        AccumulationType(dtype));
}

RecurrenceValues RecurrenceProblem::OnOneRank() const {
  std::vector<Tensor> x;
  for (size_t i = 0; i < tensors.size(); ++i) {
    x.push_back(tensors[i].defined() ? tensors[i].CopyTo(tensors[i].dtype()) : Tensor());
    if (x[i].defined() && !(i == 3 && IsWhole(c, i))) x[i].set_requires_grad();
  }
  const TokenLayout layout = samples.LayoutOf(SequenceCut::kContiguous, 1, 0);
  return Differentiate(x, WholeRecurrence(InputsOf(c, x), layout, x[7]), dout, dfinal);
}

RecurrenceValues RecurrenceProblem::OnThisRank(Device& device, const AffineScan& scan,
                                               SequenceCut cut) const {
  const int rank = scan.axis().rank(), size = scan.axis().size();
  const std::vector<int64_t> rows = samples.RowsOf(cut, size, rank);
  std::vector<Tensor> x;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].defined()) {
      x.emplace_back();
      continue;
    }
    std::vector<int64_t> all(tensors[i].dim(0));
    for (size_t j = 0; j < all.size(); ++j) all[j] = static_cast<int64_t>(j);
    x.push_back(TakeRows(device, tensors[i], IsWhole(c, i) ? all : rows));
    if (!(i == 3 && IsWhole(c, i))) x[i].set_requires_grad();
  }
  const RecurrenceOutputs outputs = SequenceRecurrence(
      InputsOf(c, x), PlanRecurrence(samples.LayoutOf(cut, size, rank), cut, rank, x[7].defined()),
      scan, x[7]);
  const Tensor own_dfinal =
      Tensor::FromVector(device, dfinal.shape(), dfinal.ToVector(), dfinal.dtype());
  return Differentiate(x, outputs, TakeRows(device, dout, rows), own_dfinal);
}

RecurrenceValues RecurrenceProblem::PartOf(const RecurrenceValues& whole, const Communicator& axis,
                                           SequenceCut cut) const {
  const std::vector<int> owners = SlotOwners(cut, axis.size());
  const std::vector<int64_t> rows = samples.RowsOf(cut, axis.size(), axis.rank());
  RecurrenceValues part(whole.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    if (i == 1 || i == 9) {
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
