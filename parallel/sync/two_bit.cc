// two_bit: four bins of equal width over six standard deviations around the block's mean (the outer
// ones are open: c < -1.5 sigma, c < 0, c < 1.5 sigma, the rest, where c = x - mean); an element is
// decoded as the mean of its bin.
//
// So C(v) is the projection of v on vectors that are constant over each bin: the sum of a block
// stays, ||v - C(v)||^2 = ||v||^2 - ||C(v)||^2, and as bins part what is above the mean from what
// is below, alpha >= 1 / n.
//
// Therien et al., "MuLoCo: Muon is a practical inner optimizer for DiLoCo" (2025), its statistical
// quantizer.
//
// Bytes of a block: four means, then 2 bits each (bit_rows.h).
#include "parallel/sync/two_bit.h"

#include <numeric>

#include "parallel/sync/bit_rows.h"
#include "parallel/sync/block_scale.h"

namespace trireme {
namespace {

constexpr int kNumBins = 4;
constexpr double kRangeInSigmas = 6;

class TwoBit : public BlockCodec<TwoBit> {
 public:
  using BlockCodec::BlockCodec;

  double Contraction(const Shape& parameter) const override {
    return MinOverBlocks(parameter, block_size(), [](int64_t n) { return 1.0 / n; });
  }

  int64_t BlockBytes(int64_t n, DType dtype) const {
    return kNumBins * DTypeSize(dtype) + BitRowBytes(n, 2);
  }

  template <typename T>
  void EncodeBlock(const CodecBlock& block, const T* x, uint8_t* bytes) const {
    const int64_t n = block.size;
    // Sums are in f64. Squares of f32 stay in its range; those of f64 may not.
    const double lift = sizeof(T) == 8 ? LiftForSquares(LargestMagnitude(x, n)) : 1;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += x[i] * lift;
    const double mean = sum / n;
    double squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < n; ++i) {
      const double centred = x[i] * lift - mean;
      squares += centred * centred;
    }
    const double width = kRangeInSigmas / kNumBins * std::sqrt(squares / n);

    uint8_t* codes = bytes + kNumBins * sizeof(T);
    std::memset(codes, 0, BitRowBytes(n, 2));
    const auto bin_of = [&](double value) {
      const double centred = value - mean;
      return (centred >= -width) + (centred >= 0) + (centred >= width);
    };
    ForEachBitRow(n, 2, [&](int row, int64_t first, int64_t size) {
      const T* in = x + first;
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        codes[i] = static_cast<uint8_t>(codes[i] | bin_of(in[i] * lift) << (2 * row));
      }
    });
    // Of each bin, in as many partial sums as vectors have lanes.
    constexpr int kLanes = 8;
    double sums[kNumBins][kLanes] = {}, counts[kNumBins][kLanes] = {};
    const auto add = [&](double value, int lane) {
      const int bin_of_value = bin_of(value);
      for (int bin = 0; bin < kNumBins; ++bin) {
        sums[bin][lane] += bin_of_value == bin ? value : 0;
        counts[bin][lane] += bin_of_value == bin ? 1 : 0;
      }
    };
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) add(x[i + lane] * lift, lane);
    }
    for (int lane = 0; i + lane < n; ++lane) add(x[i + lane] * lift, lane);

    for (int bin = 0; bin < kNumBins; ++bin) {
      const double count = std::accumulate(counts[bin], counts[bin] + kLanes, 0.0);
      const double sum_of_bin = std::accumulate(sums[bin], sums[bin] + kLanes, 0.0);
      double decoded = count == 0 ? 0 : sum_of_bin / count / lift;
      if (!std::isfinite(squares)) decoded = std::numeric_limits<double>::quiet_NaN();
      bytes = StoreAs<T>(static_cast<T>(decoded), bytes);
    }
  }

  template <typename T>
  void DecodeBlock(const CodecBlock& block, const uint8_t* bytes, T* x) const {
    T means[kNumBins];
    std::memcpy(means, bytes, sizeof means);
    bytes += sizeof means;
    ForEachBitRow(block.size, 2, [&](int row, int64_t first, int64_t size) {
      T* out = x + first;
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        const int bin = bytes[i] >> (2 * row) & 3;
        const T low = bin == 0 ? means[0] : means[1], high = bin == 2 ? means[2] : means[3];
        out[i] = bin < 2 ? low : high;
      }
    });
  }
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeTwoBit(const Params& params) {
  return {std::make_unique<TwoBit>(params.Int("block"))};
}

}  // namespace trireme
