// What comes out of a decoding, computed from the messages alone.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "parallel/coding/gradient_code.h"

namespace trireme {

inline std::unique_ptr<GradientCode> CodeOf(absl::string_view name, int n,
                                            const ParamMap& params = {}) {
  StatusOr<std::unique_ptr<GradientCode>> code = MakeGradientCode(name, n, params);
  EXPECT_TRUE(code.ok()) << code.status();
  return std::move(code).value();
}

// By block of the gradient, block of the parts and part: the weight with which the one comes out in
// the other.
using Coefficients = std::vector<std::vector<std::vector<double>>>;

inline Coefficients CoefficientsOf(const GradientCode& code, const Decoding& decoding) {
  const CodeShape& shape = code.shape();
  Coefficients out(shape.num_blocks,
                   std::vector<std::vector<double>>(shape.num_blocks,
                                                    std::vector<double>(shape.num_parts(), 0.0)));
  for (const DecodeTerm& term : decoding.terms) {
    const Message message = code.MessageOf(term.worker, term.message);
    for (int block = 0; block < shape.num_blocks; ++block) {
      for (const PartTerm& part : message.parts) {
        out[term.block][block][part.part] += term.weight * message.blocks[block] * part.weight;
      }
    }
  }
  return out;
}

// How far a decoding is from the sum of all parts, in every block.
inline double LargestDeviation(const GradientCode& code, const Decoding& decoding) {
  const Coefficients coefficients = CoefficientsOf(code, decoding);
  double largest = 0;
  for (size_t u = 0; u < coefficients.size(); ++u) {
    for (size_t v = 0; v < coefficients.size(); ++v) {
      for (const double c : coefficients[u][v]) {
        largest = std::max(largest, std::abs(c - (u == v ? 1.0 : 0.0)));
      }
    }
  }
  return largest;
}

// Message 0 of the workers whose bit is set.
inline std::vector<uint64_t> Arrived(int n, uint64_t survivors) {
  std::vector<uint64_t> masks(n);
  for (int worker = 0; worker < n; ++worker) masks[worker] = survivors >> worker & 1;
  return masks;
}

}  // namespace trireme
