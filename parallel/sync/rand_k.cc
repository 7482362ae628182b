// rand_k: k elements of a block of n, every subset as likely as any other, drawn from (seed, round,
// parameter, block) by all replicas alike: values travel, indices do not.
//
// Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory" (NeurIPS 2018). The draw is Floyd's
// ("A sample of brilliance", CACM 30(9), 1987): for j = n - k .. n - 1 take t, uniform in [0, j],
// or j itself when t was taken before.
#include "parallel/sync/rand_k.h"

#include <bit>
#include <limits>
#include <vector>

#include "core/base/rng.h"
#include "parallel/sync/block_codec.h"

namespace trireme {
namespace {

// The random number of draw `i`, in [0, n).
uint64_t DrawBelow(RngKey key, uint64_t i, uint64_t stream, uint64_t n) {
  const RngBlock bits = Philox(key, i, stream);
  const uint64_t word = uint64_t{bits[1]} << 32 | bits[0];
  return static_cast<uint64_t>((static_cast<unsigned __int128>(word) * n) >> 64);
}

template <typename T>
bool AllFinite(const T* x, int64_t n) {
  T sum = 0;  // Of zeros; NaN as soon as one is not finite.
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i] * 0;
  return sum == 0;
}

class RandK : public BlockCodec<RandK> {
 public:
  RandK(KeptCount kept, bool unbiased)
      : BlockCodec(kept.block()), kept_(std::move(kept)), unbiased_(unbiased) {}

  Status Check(const Shape& parameter) const override { return kept_.Check(parameter); }
  double Contraction(const Shape& parameter) const override {
    return unbiased_ ? 0 : kept_.Share(parameter);
  }

  int64_t BlockBytes(int64_t n, DType dtype) const { return kept_.Of(n) * DTypeSize(dtype); }

  template <typename T>
  void EncodeBlock(const CodecBlock& block, const T* x, uint8_t* bytes) const {
    T scale =
        unbiased_ ? static_cast<T>(static_cast<double>(block.size) / kept_.Of(block.size)) : 1;
    if (!AllFinite(x, block.size)) scale = std::numeric_limits<T>::quiet_NaN();
    ForEachKept(block, [&](int64_t i) { bytes = StoreAs<T>(x[i] * scale, bytes); });
  }

  template <typename T>
  void DecodeBlock(const CodecBlock& block, const uint8_t* bytes, T* x) const {
    std::fill_n(x, block.size, T(0));
    ForEachKept(block, [&](int64_t i) {
      x[i] = LoadAs<T>(bytes);
      bytes += sizeof(T);
    });
  }

  int num_linear_passes() const override { return 1; }
  int64_t LinearSize(const CodecPiece& piece, int) const override {
    return SumOverBlocks(piece, block_size(), [&](int64_t n) { return kept_.Of(n); });
  }
  void LinearEncode(int, const CodecPiece& piece, const RoundKey& round, const View& values,
                    const View&, const View& wire) const override {
    CHECK_EQ(wire.numel(), LinearSize(piece, 0));
    Encode(piece, round, values,
           {wire.as<uint8_t>(), static_cast<size_t>(EncodedBytes(piece, values.dtype))});
  }
  void LinearDecode(int, const CodecPiece& piece, const RoundKey& round, const View& wire,
                    const View&, const View& values) const override {
    CHECK_EQ(wire.numel(), LinearSize(piece, 0));
    Decode(piece, round,
           {wire.as<uint8_t>(), static_cast<size_t>(EncodedBytes(piece, values.dtype))}, values);
  }

 private:
  // fn(i) for the chosen i of the block, in rising order.
  template <typename Fn>
  void ForEachKept(const CodecBlock& block, Fn&& fn) const {
    const int64_t n = block.size, k = kept_.Of(n);
    const RngKey round_key =
        MakeRngKey(block.round.seed, "rand_k", static_cast<uint64_t>(block.round.round));
    const RngBlock mixed = Philox(round_key, block.piece.key, ~uint64_t{0});
    const RngKey key = {mixed[0], mixed[1]};
    std::vector<uint64_t> taken((n + 63) / 64, 0);
    const auto take = [&](uint64_t i) {
      const uint64_t bit = uint64_t{1} << (i % 64);
      const bool is_new = (taken[i / 64] & bit) == 0;
      taken[i / 64] |= bit;
      return is_new;
    };
    for (int64_t j = n - k; j < n; ++j) {
      const uint64_t t = DrawBelow(key, j, block.index, j + 1);
      if (!take(t)) take(j);
    }
    for (size_t word = 0; word < taken.size(); ++word) {
      for (uint64_t bits = taken[word]; bits != 0; bits &= bits - 1) {
        fn(static_cast<int64_t>(word * 64 + std::countr_zero(bits)));
      }
    }
  }

  const KeptCount kept_;
  const bool unbiased_;
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeRandK(const Params& params) {
  ASSIGN_OR_RETURN(KeptCount kept, KeptCount::Create("rand_k", params));
  return {std::make_unique<RandK>(std::move(kept), params.Bool("unbiased"))};
}

}  // namespace trireme
