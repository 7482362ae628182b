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
    ForEachBitRow(block.size, 1, [&](int row, int64_t first, int64_t size) {
      const T* in = x + first;
      if (row == 0) std::memset(bytes, 0, BitRowBytes(block.size, 1));
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<uint8_t>(bytes[i] | (in[i] < 0 ? 1 : 0) << row);
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
  // Sums in f64. Squares of f32 stay in its range; those of f64 may not.
  template <typename T>
  static T RootMeanSquare(const T* x, int64_t n) {
    const double lift = sizeof(T) == 8 ? LiftForSquares(LargestMagnitude(x, n)) : 1;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
      const double value = x[i] * lift;
      sum += value * value;
    }
    return static_cast<T>(std::sqrt(sum / n) / lift);
  }

  template <typename T>
  static T MeanMagnitude(const T* x, int64_t n) {
    const double lift = sizeof(T) == 8 ? LiftForSquares(LargestMagnitude(x, n)) : 1;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += std::abs(x[i] * lift);
    return static_cast<T>(sum / n / lift);
  }

  const bool l2_;
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeSign(const Params& params) {
  return {std::make_unique<Sign>(params.Int("block"), params.String("norm") == "l2")};
}

}  // namespace trireme
