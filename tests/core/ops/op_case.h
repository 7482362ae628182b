// A table of ops: each line is one op on small inputs with its definition in plain f64 loops. The
// generic suite (op_suite_test.cc) tests every line: values, gradients, element types, strides,
// threads.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/tensor/tensor.h"
#include "tests/testing/gradient_check.h"

namespace trireme::testing {

// A dense tensor of doubles on the host.
struct HostTensor {
  Shape shape;
  std::vector<double> values;
  double& at(int64_t i) { return values[i]; }
  double at(int64_t i) const { return values[i]; }
  double at(int64_t i, int64_t j) const { return values[i * shape[1] + j]; }
  double& at(int64_t i, int64_t j) { return values[i * shape[1] + j]; }
};
HostTensor HostZeros(const Shape& shape);

struct InputSpec {
  Shape shape;
  enum Kind { kNormal, kPositive, kIndex, kLabel, kMask } kind = kNormal;
  int64_t limit = 0;  // kIndex: in [0, limit), i32; kLabel: each third is kIgnoredLabel.
};

using Reference = std::function<HostTensor(const std::vector<HostTensor>&)>;

struct OpCase {
  std::string name;
  CheckedFn fn;
  std::vector<InputSpec> inputs;
  Reference reference;
  // Larger sizes of the same, which every kernel splits over threads; empty: `inputs` are enough.
  std::vector<InputSpec> large = {};
  // Many random inputs hit a kink or a tie, where there is no slope to compare with.
  bool has_kinks = false;
};
inline std::ostream& operator<<(std::ostream& out, const OpCase& c) { return out << c.name; }

// References of elementwise functions, with broadcasting.
Reference Pointwise(std::function<double(double)> fn);
Reference Pointwise(std::function<double(double, double)> fn);
Reference Pointwise(std::function<double(double, double, double)> fn);

std::vector<Tensor> MakeInputs(Device& device, const std::vector<InputSpec>& specs,
                               DType dtype = DType::kF64);

// Tokens of samples 3 and 5, cut at odd places, `n` in all.
TokenLayout RaggedLayout(Device& device, int64_t n);

std::vector<OpCase> ElementwiseCases();
std::vector<OpCase> ReductionCases();
std::vector<OpCase> ShapeCases();
std::vector<OpCase> IndexingCases();
std::vector<OpCase> LayerCases();
std::vector<OpCase> LossCases();
std::vector<OpCase> TokenRunCases();

}  // namespace trireme::testing
