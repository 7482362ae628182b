// sign: one bit an element and one number a block: s sign(x), sign(0) = +1, with
//   s = ||v||_2 / sqrt(n)   (l2: the norm stays), or
//   s = ||v||_1 / n         (l1: the nearest of that form; alpha = ||v||_1^2 / (n ||v||_2^2) >=
//   1/n).
//
// l2: Tang et al., "1-bit Adam" (ICML 2021). l1: Karimireddy, Rebjock, Stich, Jaggi, "Error
// feedback fixes SignSGD" (ICML 2019).
//
// Bytes of a block: s, then a bit each (bit_rows.h).
#include "parallel/sync/sign.h"

#include "parallel/sync/bit_rows.h"
#include "parallel/sync/block_scale.h"
#include "parallel/sync/lane_sums.h"

namespace trireme {
namespace {

class Sign : public BlockCodec<Sign> {
 public:
  Sign(int64_t block_size, bool l2) : BlockCodec(block_size), l2_(l2) {}

  double Contraction(const Shape& parameter) const override {
    return l2_ ? 0 : MinOverBlocks(parameter, block_size(), [](int64_t n) { return 1.0 / n; });
  }

  int64_t BlockBytes(int64_t n, DType dtype) const { return DTypeSize(dtype) + BitRowBytes(n, 1); }

  template <typename T>
  void EncodeBlock(const CodecBlock& block, const T* x, uint8_t* bytes) const {
    bytes = StoreAs<T>(l2_ ? RootMeanSquare(x, block.size) : MeanMagnitude(x, block.size), bytes);
    const int64_t row_size = BitRowBytes(block.size, 1);
    if (block.size % 8 == 0) {
#pragma omp simd
      for (int64_t i = 0; i < row_size; ++i) {
        unsigned byte = 0;
#pragma GCC unroll 8
        for (int row = 0; row < 8; ++row) byte |= (x[row * row_size + i] < 0 ? 1u : 0u) << row;
        bytes[i] = static_cast<uint8_t>(byte);
      }
      return;
    }
    std::memset(bytes, 0, row_size);
    ForEachBitRow(block.size, 1, [&](int row, int64_t first, int64_t size) {
      for (int64_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<uint8_t>(bytes[i] | (x[first + i] < 0 ? 1 : 0) << row);
      }
    });
  }

  template <typename T>
  void DecodeBlock(const CodecBlock& block, const uint8_t* bytes, T* x) const {
    const T size_of_each = LoadAs<T>(bytes);
    bytes += sizeof(T);
    ForEachBitRow(block.size, 1, [&](int row, int64_t first, int64_t size) {
      T* out = x + first;
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        out[i] = (bytes[i] >> row & 1) != 0 ? -size_of_each : size_of_each;
      }
    });
  }

 private:
  static float RootMeanSquare(const float* x, int64_t n) {
    double sum = FastLaneSum(x, n, [](F32Lanes v) { return v * v; });
    // Squares that left the range of f32, either way; NaN.
    if (!(sum > 0x1p-60 && sum < 0x1p120)) {
      sum = LaneSum(x, n, [](F64Lanes v) { return v * v; });
    }
    return static_cast<float>(std::sqrt(sum / n));
  }

  static double RootMeanSquare(const double* x, int64_t n) {
    const double lift = LiftForSquares(LargestMagnitude(x, n));
    const double sum = LaneSum(x, n, [lift](F64Lanes v) { return v * lift * (v * lift); });
    return std::sqrt(sum / n) / lift;
  }

  static float MeanMagnitude(const float* x, int64_t n) {
    double sum = FastLaneSum(x, n, [](F32Lanes v) { return v < 0 ? -v : v; });
    if (!(sum < 0x1p120)) sum = LaneSum(x, n, [](F64Lanes v) { return v < 0 ? -v : v; });
    return static_cast<float>(sum / n);
  }

  static double MeanMagnitude(const double* x, int64_t n) {
    const double lift = LiftForSquares(LargestMagnitude(x, n));
    const double sum = LaneSum(x, n, [lift](F64Lanes v) { return (v < 0 ? -v : v) * lift; });
    return sum / n / lift;
  }

  const bool l2_;
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeSign(const Params& params) {
  return {std::make_unique<Sign>(params.Int("block"), params.String("norm") == "l2")};
}

}  // namespace trireme
