#include "parallel/sync/powersgd.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "core/ops/devices.h"
#include "parallel/sync/orthonormal.h"
#include "tests/parallel/sync/codec_case.h"

namespace trireme {
namespace {

// Replicas that meet in this thread.
template <typename T>
class PowerSgdReplicas {
 public:
  PowerSgdReplicas(int64_t rank, const Shape& shape)
      : codec_(CodecOrDie("powersgd", {{"rank", absl::StrCat(rank)}})), piece_(WholePiece(shape)) {
    state_.resize(codec_->LinearStateSize(piece_), T(99));
    codec_->LinearStart(piece_, 5, ViewOf(state_));
  }

  // What all replicas decode of their mean.
  std::vector<T> Round(const std::vector<std::vector<T>>& values) {
    std::vector<T> decoded(piece_.size, T(-77));
    for (int pass = 0; pass < 2; ++pass) {
      std::vector<T> mean(codec_->LinearSize(piece_, pass), 0), wire(mean.size());
      for (const auto& v : values) {
        codec_->LinearEncode(pass, piece_, {5, round_}, ViewOf(v), ViewOf(state_), ViewOf(wire));
        for (size_t i = 0; i < mean.size(); ++i) mean[i] += wire[i] / T(values.size());
      }
      codec_->LinearDecode(pass, piece_, {5, round_}, ViewOf(mean), ViewOf(state_),
                           pass == 1 ? ViewOf(decoded) : View());
    }
    ++round_;
    return decoded;
  }

  const std::vector<T>& state() const { return state_; }

 private:
  std::unique_ptr<Codec> codec_;
  CodecPiece piece_;
  std::vector<T> state_;
  int64_t round_ = 0;
};

template <typename T>
std::vector<T> MeanOf(const std::vector<std::vector<T>>& values) {
  std::vector<T> mean(values[0].size(), 0);
  for (const auto& v : values) {
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += v[i] / T(values.size());
  }
  return mean;
}

template <typename T>
void ExpectNear(const std::vector<T>& a, const std::vector<T>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_LE(std::sqrt(SquaredDistance(a, b)), tolerance * std::sqrt(SquaredNorm(b)));
}

template <typename T>
class PowerSgdTest : public testing::Test {};
using ValueTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(PowerSgdTest, ValueTypes);

TYPED_TEST(PowerSgdTest, AtFullRankTheMeanComesOut) {
  const double epsilon = std::numeric_limits<TypeParam>::epsilon();
  for (const Shape& shape : {Shape{6, 6}, Shape{5, 9}, Shape{9, 5}, Shape{4, 3, 2, 2}, Shape{1, 7},
                             Shape{7, 1}, Shape{1, 1}, Shape{40, 30}}) {
    PowerSgdReplicas<TypeParam> replicas(64, shape);
    for (int round = 0; round < 3; ++round) {
      std::vector<std::vector<TypeParam>> values;
      for (int k = 0; k < 3; ++k) {
        values.push_back(NormalVector<TypeParam>(shape.numel(), 10 * round + k));
      }
      ExpectNear(replicas.Round(values), MeanOf(values), 100 * epsilon);
    }
  }
}

TYPED_TEST(PowerSgdTest, ZerosAndDeficientMatricesDoNotNarrowWhatLaterRoundsSee) {
  const double epsilon = std::numeric_limits<TypeParam>::epsilon();
  for (const Shape& shape : {Shape{5, 9}, Shape{9, 5}}) {
    PowerSgdReplicas<TypeParam> replicas(5, shape);
    const std::vector<TypeParam> zeros(45, 0), ones(45, 1);
    EXPECT_EQ(replicas.Round({zeros, zeros}), zeros);
    ExpectNear(replicas.Round({ones, ones}), ones, 100 * epsilon);
    EXPECT_EQ(replicas.Round({zeros, zeros}), zeros);
    const auto v = NormalVector<TypeParam>(45), w = NormalVector<TypeParam>(45, 8);
    ExpectNear(replicas.Round({v, w}), MeanOf<TypeParam>({v, w}), 100 * epsilon);
    // The extremes of the type.
    const double huge = sizeof(TypeParam) == 4 ? 1e35 : 1e250;
    const auto large = NormalVector<TypeParam>(45, 9, huge);
    const auto decoded = replicas.Round({large});
    for (int i = 0; i < 45; ++i) {
      EXPECT_NEAR(decoded[i] / huge, large[i] / huge, 100 * epsilon);
    }
    const auto small = NormalVector<TypeParam>(45, 9, 1 / huge);
    ExpectNear<TypeParam>(replicas.Round({small}), small, 1e-5);
  }
}

TYPED_TEST(PowerSgdTest, AMatrixOfItsRankIsWhole) {
  const double epsilon = std::numeric_limits<TypeParam>::epsilon();
  const auto a = NormalVector<TypeParam>(20 * 3, 1), b = NormalVector<TypeParam>(3 * 30, 2);
  std::vector<TypeParam> m(600, 0);
  for (int i = 0; i < 20; ++i) {
    for (int j = 0; j < 30; ++j) {
      for (int c = 0; c < 3; ++c) m[i * 30 + j] += a[i * 3 + c] * b[c * 30 + j];
    }
  }
  PowerSgdReplicas<TypeParam> replicas(3, {20, 30});
  ExpectNear(replicas.Round({m}), m, 100 * epsilon);
  // Of a larger rank than the matrix has: the other directions carry nothing.
  PowerSgdReplicas<TypeParam> more(8, {20, 30});
  ExpectNear(more.Round({m, m}), m, 100 * epsilon);
  // Encode draws a basis of its own.
  ExpectNear(ThereAndBack(*CodecOrDie("powersgd", {{"rank", "3"}}), {20, 30}, m), m, 100 * epsilon);
}

template <typename T>
void Orthonormalize(std::vector<T>& basis, int64_t num_rows) {
  GemmLibrary library;
  const auto device = MakeCpuDevice();
  MakeOrthonormal(basis.data(), num_rows, basis.size() / num_rows, library, *device);
}

TEST(PowerSgdWarmStartTest, RoundsFindTheBestLowRank) {
  // Singular values 1/1, 1/2, ..., in turned bases.
  const int n = 12;
  auto u = NormalVector<double>(n * n, 1), v = NormalVector<double>(n * n, 2);
  Orthonormalize(u, n);
  Orthonormalize(v, n);
  std::vector<double> m(n * n, 0);
  double best = 0;
  for (int c = 0; c < n; ++c) {
    if (c >= 2) best += 1.0 / ((c + 1) * (c + 1));
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) m[i * n + j] += u[c * n + i] * v[c * n + j] / (c + 1);
    }
  }
  PowerSgdReplicas<double> replicas(2, {n, n});
  double before = std::numeric_limits<double>::infinity(), lost = 0;
  for (int round = 0; round < 60; ++round) {
    lost = SquaredDistance(replicas.Round({m, m, m}), m);
    EXPECT_LE(lost, before * (1 + 1e-12));
    before = lost;
  }
  EXPECT_NEAR(lost, best, 1e-9);
}

TEST(PowerSgdWarmStartTest, ALostRoundIsSeenAndNotInherited) {
  PowerSgdReplicas<float> replicas(2, {6, 8});
  auto v = NormalVector<float>(48);
  const auto good = v;
  v[5] = std::numeric_limits<float>::quiet_NaN();
  const auto decoded = replicas.Round({v, good});
  EXPECT_TRUE(std::any_of(decoded.begin(), decoded.end(), [](float x) { return x != x; }));
  for (const float x : replicas.Round({good, good})) EXPECT_TRUE(std::isfinite(x));
}

TEST(PowerSgdWarmStartTest, StartsFromSeedAndParameter) {
  const auto codec = CodecOrDie("powersgd");
  const auto start = [&](uint64_t key, uint64_t seed) {
    CodecPiece piece = WholePiece({4, 6});
    piece.key = key;
    std::vector<float> state(codec->LinearStateSize(piece), 7);
    codec->LinearStart(piece, seed, ViewOf(state));
    return state;
  };
  EXPECT_EQ(start(1, 2), start(1, 2));
  EXPECT_NE(start(1, 2), start(2, 2));
  EXPECT_NE(start(1, 2), start(1, 3));
}

TEST(PowerSgdWarmStartTest, AnEmptyMatrixIsNothing) {
  PowerSgdReplicas<float> replicas(2, {0, 8});
  EXPECT_TRUE(replicas.Round({{}, {}}).empty());
  EXPECT_TRUE(replicas.state().empty());
}

TEST(OrthonormalTest, RowsAreOrthonormalWhateverComesIn) {
  for (const int kind : {0, 1, 2, 3, 4}) {
    for (const int n : {1, 2, 5, 64}) {
      for (const int r : {1, 2, 5, 64}) {
        if (r > n) continue;
        auto basis = NormalVector<double>(r * n, 3);
        for (int i = 0; i < r * n; ++i) {
          if (kind == 1) basis[i] = 0;
          if (kind == 2) basis[i] = i % n + 1;  // All rows alike.
          if (kind == 3) basis[i] *= i / n % 2 == 0 ? 1e-300 : 1e300;
          if (kind == 4) basis[i] = (i % n == 0) + 1e-9 * basis[i];  // Nearly alike.
        }
        Orthonormalize(basis, r);
        for (int a = 0; a < r; ++a) {
          for (int b = 0; b <= a; ++b) {
            double dot = 0;
            for (int i = 0; i < n; ++i) dot += basis[a * n + i] * basis[b * n + i];
            EXPECT_NEAR(dot, a == b ? 1 : 0, 1e-14) << kind << " " << n << " " << r;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace trireme
