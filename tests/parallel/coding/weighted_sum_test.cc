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
  for (const int64_t size : {0, 1, 7, 2047, 2048, 2049, 5000}) {
    for (int num_parts = 0; num_parts <= 5; ++num_parts) {
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
        ASSERT_NEAR(out[i], sum, 4e-7 * scale) << size << " " << num_parts << " " << i;
      }
      EXPECT_EQ(out[size], 123.0f) << "written beyond the end";
    }
  }
}

TEST(WeightedSumTest, OnesHaveTheBitsOfPlainAdditions) {
  const auto parts = Parts(4, 3001);
  for (int num_parts = 1; num_parts <= 4; ++num_parts) {
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

TEST(WeightedSumTest, TheOutputMayBeAPart) {
  auto parts = Parts(2, 2500);
  const std::vector<float> first = parts[0];
  const WeightedPart terms[] = {{2, parts[0].data()}, {1, parts[1].data()}};
  WeightedSum(terms, 2500, parts[0].data());
  for (int64_t i = 0; i < 2500; ++i) EXPECT_FLOAT_EQ(parts[0][i], 2 * first[i] + parts[1][i]);
}

}  // namespace
}  // namespace trireme
