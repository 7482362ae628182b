// Errors of the vectorizable functions, against the C library in a wider type.
#include "core/ops/cpu/vector_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace trireme {
namespace {

// The largest error of fn over `count` points of [low, high], in units of the last place of the
// result.
template <typename T, typename Fn, typename Exact>
double MaxUlps(Fn fn, Exact exact, double low, double high, int count = 200000) {
  std::vector<T> x(count), y(count);
  for (int i = 0; i < count; ++i) x[i] = static_cast<T>(low + (high - low) * i / (count - 1));
  const T* in = x.data();
  T* out = y.data();
#pragma omp simd
  for (int i = 0; i < count; ++i) out[i] = fn(in[i]);
  double worst = 0;
  for (int i = 0; i < count; ++i) {
    const long double want = exact(static_cast<long double>(x[i]));
    const T magnitude = std::abs(static_cast<T>(want));
    const T ulp = std::nextafter(magnitude, std::numeric_limits<T>::infinity()) - magnitude;
    const double error = static_cast<double>(std::abs(y[i] - want) / ulp);
    EXPECT_TRUE(error < 1e6) << "at " << x[i] << ": " << y[i] << ", want " << want;
    worst = std::max(worst, error);
  }
  return worst;
}

template <typename T>
class VectorMathTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(VectorMathTest, Types);

TYPED_TEST(VectorMathTest, Exp) {
  using T = TypeParam;
  const double low = sizeof(T) == 4 ? -87 : -708, high = sizeof(T) == 4 ? 88.7 : 709.7;
  const auto fn = [](T x) { return Exp(x); };
  const auto exact = [](long double x) { return std::exp(x); };
  EXPECT_LT((MaxUlps<T>(fn, exact, low, high)), 1.25);
  EXPECT_LT((MaxUlps<T>(fn, exact, -1, 1)), 1.25);
  EXPECT_EQ(Exp(T(0)), 1);
}

TYPED_TEST(VectorMathTest, ExpAtItsEnds) {
  using T = TypeParam;
  const T infinity = std::numeric_limits<T>::infinity();
  EXPECT_EQ(Exp(-infinity), 0);
  EXPECT_EQ(Exp(infinity), infinity);
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<T>::quiet_NaN())));
  const T subnormal = sizeof(T) == 4 ? T(-100) : T(-740);
  EXPECT_NEAR(Exp(subnormal) / std::exp(subnormal), 1, 0.05);
}

TYPED_TEST(VectorMathTest, Expm1) {
  using T = TypeParam;
  const auto fn = [](T x) { return Expm1(x); };
  const auto exact = [](long double x) { return std::expm1(x); };
  EXPECT_LT((MaxUlps<T>(fn, exact, -20, 20)), 2.0);
  EXPECT_LT((MaxUlps<T>(fn, exact, -1e-3, 1e-3)), 2.0);
}

TYPED_TEST(VectorMathTest, Tanh) {
  using T = TypeParam;
  const auto fn = [](T x) { return Tanh(x); };
  const auto exact = [](long double x) { return std::tanh(x); };
  EXPECT_LT((MaxUlps<T>(fn, exact, -25, 25)), 2.5);
  EXPECT_LT((MaxUlps<T>(fn, exact, -1e-3, 1e-3)), 2.5);
  EXPECT_EQ(Tanh(std::numeric_limits<T>::infinity()), 1);
  EXPECT_EQ(Tanh(-std::numeric_limits<T>::infinity()), -1);
  EXPECT_TRUE(std::isnan(Tanh(std::numeric_limits<T>::quiet_NaN())));
}

TYPED_TEST(VectorMathTest, Sigmoid) {
  using T = TypeParam;
  const auto fn = [](T x) { return Sigmoid(x); };
  const auto exact = [](long double x) { return 1 / (1 + std::exp(-x)); };
  EXPECT_LT((MaxUlps<T>(fn, exact, -80, 80)), 2.5);
  EXPECT_EQ(Sigmoid(-std::numeric_limits<T>::infinity()), 0);
  EXPECT_EQ(Sigmoid(std::numeric_limits<T>::infinity()), 1);
}

TEST(VectorMathFloatTest, Erf) {
  const auto fn = [](float x) { return Erf(x); };
  const auto exact = [](long double x) { return std::erf(x); };
  EXPECT_LT((MaxUlps<float>(fn, exact, -6, 6)), 2.0);
  EXPECT_LT((MaxUlps<float>(fn, exact, -1e-3, 1e-3)), 2.0);
  EXPECT_EQ(Erf(std::numeric_limits<float>::infinity()), 1);
  EXPECT_TRUE(std::isnan(Erf(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace trireme
