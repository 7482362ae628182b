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

#include "parallel/sync/bit_rows.h"
#include "parallel/sync/block_scale.h"
#include "parallel/sync/lane_sums.h"

namespace trireme {
namespace {

constexpr int kNumBins = 4;
constexpr double kRangeInSigmas = 6;
constexpr double kOnes[] = {1, 1, 1, 1, 1, 1, 1, 1};

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
    const double mean = LaneSum(x, n, [&](F64Lanes v) { return v * lift; }) / n;
    const double squares = LaneSum(x, n, [&](F64Lanes v) {
      const F64Lanes centred = v * lift - mean;
      return centred * centred;
    });
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
    F64Lanes sums[kNumBins] = {}, counts[kNumBins] = {};
    const auto add = [&](F64Lanes v, F64Lanes one) {
      const F64Lanes value = v * lift, centred = value - mean, zero = {};
      const auto over1 = centred >= -width, over2 = centred >= 0, over3 = centred >= width;
      sums[0] += over1 ? zero : value, counts[0] += over1 ? zero : one;
      sums[1] += over1 & ~over2 ? value : zero, counts[1] += over1 & ~over2 ? one : zero;
      sums[2] += over2 & ~over3 ? value : zero, counts[2] += over2 & ~over3 ? one : zero;
      sums[3] += over3 ? value : zero, counts[3] += over3 ? one : zero;
    };
    const F64Lanes ones = F64Lanes{} + 1;
    int64_t i = 0;
    for (; i + kF64Lanes <= n; i += kF64Lanes) add(LoadLanes(x + i), ones);
    if (i < n) add(LoadLanes(x + i, n - i), LoadLanes(kOnes, n - i));

    for (int bin = 0; bin < kNumBins; ++bin) {
      const double count = SumOfLanes(counts[bin]);
      double decoded = count == 0 ? 0 : SumOfLanes(sums[bin]) / count / lift;
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
      const T mean0 = means[0], mean1 = means[1], mean2 = means[2], mean3 = means[3];
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        const int bin = bytes[i] >> (2 * row) & 3;
        const T low = (bin & 1) != 0 ? mean1 : mean0, high = (bin & 1) != 0 ? mean3 : mean2;
        out[i] = (bin & 2) != 0 ? high : low;
      }
    });
  }
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeTwoBit(const Params& params) {
  return {std::make_unique<TwoBit>(params.Int("block"))};
}

}  // namespace trireme
