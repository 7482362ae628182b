// top_k: the k elements of a block that are largest in magnitude, of equal ones those that come
// first. It keeps the most of ||v||^2 that k elements can: alpha = k / n.
//
// Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory" (NeurIPS 2018); Richtarik, Sokolov,
// Fatkhullin, "EF21" (NeurIPS 2021).
//
// Bytes of a block: k values, then where they are, in whichever form is shorter: their indices, in
// 1, 2, 4 or 8 bytes each, or a bit for each element; nothing when all are kept.
#include "parallel/sync/top_k.h"

#include "parallel/sync/block_codec.h"
#include "parallel/sync/magnitude_threshold.h"

namespace trireme {
namespace {

int64_t IndexBytes(int64_t n) {
  if (n <= int64_t{1} << 8) return 1;
  if (n <= int64_t{1} << 16) return 2;
  return n <= int64_t{1} << 32 ? 4 : 8;
}

bool AsBitmap(int64_t n, int64_t k) { return (n + 7) / 8 < k * IndexBytes(n); }

// fn(tag of the unsigned type that indices of a block of n travel in).
template <typename Fn>
void DispatchIndex(int64_t n, Fn&& fn) {
  switch (IndexBytes(n)) {
    case 1:
      return fn(uint8_t());
    case 2:
      return fn(uint16_t());
    case 4:
      return fn(uint32_t());
    default:
      return fn(uint64_t());
  }
}

class TopK : public BlockCodec<TopK> {
 public:
  explicit TopK(KeptCount kept) : BlockCodec(kept.block()), kept_(std::move(kept)) {}

  Status Check(const Shape& parameter) const override { return kept_.Check(parameter); }
  double Contraction(const Shape& parameter) const override { return kept_.Share(parameter); }

  int64_t BlockBytes(int64_t n, DType dtype) const {
    const int64_t k = kept_.Of(n);
    if (k == n) return n * DTypeSize(dtype);
    return k * DTypeSize(dtype) + (AsBitmap(n, k) ? (n + 7) / 8 : k * IndexBytes(n));
  }

  template <typename T>
  void EncodeBlock(const CodecBlock& block, const T* x, uint8_t* bytes) const {
    const int64_t n = block.size, k = kept_.Of(n);
    if (k == n) {
      std::memcpy(bytes, x, n * sizeof(T));
      return;
    }
    uint8_t* where = bytes + k * sizeof(T);
    if (AsBitmap(n, k)) {
      std::memset(where, 0, (n + 7) / 8);
      ForEachLargest(x, n, k, [&](int64_t i) {
        bytes = StoreAs<T>(x[i], bytes);
        where[i / 8] |= uint8_t{1} << (i % 8);
      });
      return;
    }
    DispatchIndex(n, [&]<typename Index>(Index) {
      ForEachLargest(x, n, k, [&](int64_t i) {
        bytes = StoreAs<T>(x[i], bytes);
        where = StoreAs<Index>(static_cast<Index>(i), where);
      });
    });
  }

  template <typename T>
  void DecodeBlock(const CodecBlock& block, const uint8_t* bytes, T* x) const {
    const int64_t n = block.size, k = kept_.Of(n);
    if (k == n) {
      std::memcpy(x, bytes, n * sizeof(T));
      return;
    }
    const uint8_t* where = bytes + k * sizeof(T);
    std::fill_n(x, n, T(0));
    if (AsBitmap(n, k)) {
      for (int64_t byte = 0; byte < (n + 7) / 8; ++byte) {
        for (unsigned bits = where[byte]; bits != 0; bits &= bits - 1) {
          x[byte * 8 + std::countr_zero(bits)] = LoadAs<T>(bytes);
          bytes += sizeof(T);
        }
      }
      return;
    }
    DispatchIndex(n, [&]<typename Index>(Index) {
      for (int64_t i = 0; i < k; ++i) {
        x[LoadAs<Index>(where + i * sizeof(Index))] = LoadAs<T>(bytes + i * sizeof(T));
      }
    });
  }

 private:
  // fn(i) for the k largest of x[n], in rising order of i.
  template <typename T, typename Fn>
  static void ForEachLargest(const T* x, int64_t n, int64_t k, Fn&& fn) {
    const MagnitudeThreshold<T> threshold = FindMagnitudeThreshold(x, n, k);
    int64_t num_equal = threshold.num_equal;
    ForEachWhere(
        n, [&](int64_t i) { return Magnitude(x[i]) >= threshold.magnitude; },
        [&](int64_t i) {
          if (Magnitude(x[i]) > threshold.magnitude || num_equal-- > 0) fn(i);
        });
  }

  const KeptCount kept_;
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeTopK(const Params& params) {
  ASSIGN_OR_RETURN(KeptCount kept, KeptCount::Create("top_k", params));
  return {std::make_unique<TopK>(std::move(kept))};
}

}  // namespace trireme
