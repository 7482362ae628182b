#include "parallel/coding/weighted_sum.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace trireme {
namespace {

std::vector<std::vector<float>> Parts(int num_parts, int64_t size) {
  std::vector<std::vector<float>> parts(num_parts, std::vector<float>(size));
  for (int p = 0; p < num_parts; ++p) {
    for (int64_t i = 0; i < size; ++i) parts[p][i] = std::sin(0.37f * (i + 1) * (p + 1));
  }
  return parts;
}

TEST(WeightedSumTest, EverySizeAndNumberOfParts) {
  for (const int64_t size : {0, 1, 15, 17, 4095, 4096, 4097, 9000}) {
    for (int num_parts = 0; num_parts <= 9; ++num_parts) {
      const auto parts = Parts(num_parts, size);
      std::vector<WeightedPart> terms;
      for (int p = 0; p < num_parts; ++p) terms.push_back({0.5 - 0.3 * p, parts[p].data()});
      std::vector<float> out(size + 1, 123.0f);
      WeightedSum(terms, size, out.data());
      for (int64_t i = 0; i < size; ++i) {
        double sum = 0, scale = 0;
        for (int p = 0; p < num_parts; ++p) {
          sum += terms[p].weight * parts[p][i];
          scale += std::abs(terms[p].weight * parts[p][i]);
        }
        ASSERT_NEAR(out[i], sum, 8e-7 * scale) << size << " " << num_parts << " " << i;
      }
      EXPECT_EQ(out[size], 123.0f) << "written beyond the end";
    }
  }
}

TEST(WeightedSumTest, OnesHaveTheBitsOfPlainAdditions) {
  const auto parts = Parts(6, 3001);
  for (int num_parts = 1; num_parts <= 6; ++num_parts) {
    std::vector<WeightedPart> terms;
    for (int p = 0; p < num_parts; ++p) terms.push_back({1.0, parts[p].data()});
    std::vector<float> out(3001);
    WeightedSum(terms, 3001, out.data());
    for (int64_t i = 0; i < 3001; ++i) {
      float sum = parts[0][i];
      for (int p = 1; p < num_parts; ++p) sum += parts[p][i];
      ASSERT_EQ(out[i], sum);
    }
  }
}

}  // namespace
}  // namespace trireme
