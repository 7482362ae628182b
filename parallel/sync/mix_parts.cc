#include "parallel/sync/mix_parts.h"

#include <algorithm>

#include "absl/functional/function_ref.h"

#include "core/base/log.h"
#include "core/device/cpu/cpu_device.h"
#include "parallel/comm/schedule.h"

namespace trireme {
namespace {

constexpr int64_t kPartElements =
    32768;  // Decoded once, added once: it stays in the cache between.

// The first boundary between blocks at or after element `at` of the piece.
int64_t BlockEnd(const Codec& codec, const CodecPiece& piece, int64_t at) {
  if (at == 0) return 0;
  const int64_t block = codec.block_size() == 0 ? piece.size : codec.block_size();
  return std::min(piece.size, (at + block - 1) / block * block);
}

// In `dtype`, which is f32 or f64.
template <typename Fn>
void DispatchDType(DType dtype, const Fn& fn) {
  dtype == DType::kF64 ? fn(double{}) : fn(float{});
}

template <typename T>
void ScaleAs(T* values, T scale, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) values[i] *= scale;
}

template <typename T>
void AddScaledAs(T* values, T scale, const T* other, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) values[i] += scale * other[i];
}

void ForEachPart(const Tensor& on, absl::Span<const MixPart> parts,
                 absl::FunctionRef<void(const MixPart& part)> fn) {
  AsCpu(on.device())
      .ParallelFor(static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) fn(parts[i]);
      });
}

absl::Span<uint8_t> Bytes(uint8_t* bytes, const MixPart& part) {
  return {bytes + part.byte_offset, static_cast<size_t>(part.bytes)};
}

absl::Span<const uint8_t> Bytes(const uint8_t* bytes, const MixPart& part) {
  return {bytes + part.byte_offset, static_cast<size_t>(part.bytes)};
}

class Finished : public PendingMix {
 public:
  Status Finish() override { return absl::OkStatus(); }
};

}  // namespace

int64_t NumElements(absl::Span<const CodecPiece> pieces) {
  int64_t n = 0;
  for (const CodecPiece& piece : pieces) n += piece.size;
  return n;
}

int64_t BytesOf(absl::Span<const MixPart> parts) {
  return parts.empty() ? 0 : parts.back().byte_offset + parts.back().bytes;
}

std::vector<MixPart> CutParts(const Codec& codec, absl::Span<const CodecPiece> pieces,
                              DType dtype) {
  return CutParts(codec, pieces, dtype, {0, NumElements(pieces)});
}

std::vector<MixPart> CutParts(const Codec& codec, absl::Span<const CodecPiece> pieces, DType dtype,
                              Mixer::Range range) {
  std::vector<MixPart> parts;
  int64_t offset = 0, byte_offset = 0;
  for (const CodecPiece& piece : pieces) {
    const int64_t last = std::min(piece.size, range.last - offset);
    int64_t first = std::max<int64_t>(0, range.first - offset);
    CHECK(first >= last ||
          (BlockEnd(codec, piece, first) == first && BlockEnd(codec, piece, last) == last))
        << "elements [" << first << ", " << last << ") of a piece are no whole blocks of "
        << codec.block_size() << " [mix]";
    while (first < last) {
      const int64_t end =
          std::min(last, BlockEnd(codec, piece, std::min(last, first + kPartElements)));
      MixPart part;
      part.piece = piece;
      part.piece.first += first;
      part.piece.size = end - first;
      part.offset = offset + first;
      part.byte_offset = byte_offset;
      part.bytes = codec.EncodedBytes(part.piece, dtype);
      byte_offset += part.bytes;
      parts.push_back(part);
      first = end;
    }
    offset += piece.size;
  }
  return parts;
}

std::vector<int64_t> CutRanges(const Codec& codec, absl::Span<const CodecPiece> pieces,
                               int num_ranges) {
  const int64_t total = NumElements(pieces);
  std::vector<int64_t> begins = {0};
  size_t at = 0;
  int64_t offset = 0;  // Of piece `at`.
  for (int i = 1; i < num_ranges; ++i) {
    const int64_t target = PartBegin(total, num_ranges, i);
    while (at < pieces.size() && target - offset >= pieces[at].size) offset += pieces[at++].size;
    begins.push_back(at == pieces.size() ? total
                                         : offset + BlockEnd(codec, pieces[at], target - offset));
  }
  begins.push_back(total);
  return begins;
}

View Elements(const Tensor& tensor, int64_t first, int64_t size) {
  View view;
  view.dtype = tensor.dtype();
  view.data = static_cast<char*>(tensor.raw()) + first * DTypeSize(view.dtype);
  view.rank = 1;
  view.sizes[0] = size;
  view.strides[0] = 1;
  return view;
}

void EncodeParts(const Codec& codec, const RoundKey& round, absl::Span<const MixPart> parts,
                 const Tensor& values, uint8_t* bytes, const Tensor& decoded) {
  ForEachPart(values, parts, [&](const MixPart& part) {
    codec.Encode(part.piece, round, Elements(values, part.offset, part.piece.size),
                 Bytes(bytes, part));
    if (!decoded.defined()) return;
    codec.Decode(part.piece, round, Bytes(bytes, part),
                 Elements(decoded, part.offset, part.piece.size));
  });
}

void DecodeParts(const Codec& codec, const RoundKey& round, absl::Span<const MixPart> parts,
                 const uint8_t* bytes, const Tensor& values) {
  ForEachPart(values, parts, [&](const MixPart& part) {
    codec.Decode(part.piece, round, Bytes(bytes, part),
                 Elements(values, part.offset, part.piece.size));
  });
}

void DecodeSum(const Codec& codec, const RoundKey& round, absl::Span<const MixPart> parts,
               absl::Span<const Encoded> encoded, const Tensor& values, int64_t first) {
  DispatchDType(values.dtype(), [&](auto zero) {
    using T = decltype(zero);
    ForEachPart(values, parts, [&](const MixPart& part) {
      const View sum = Elements(values, part.offset - first, part.piece.size);
      const int64_t n = part.piece.size;
      if (encoded.empty()) std::fill_n(sum.as<T>(), n, T{0});
      std::vector<T> one(encoded.size() > 1 ? n : 0);
      View one_view = sum;
      one_view.data = one.data();
      for (size_t r = 0; r < encoded.size(); ++r) {
        const T weight = static_cast<T>(encoded[r].weight);
        codec.Decode(part.piece, round, Bytes(encoded[r].bytes, part), r == 0 ? sum : one_view);
        r == 0 ? ScaleAs(sum.as<T>(), weight, n) : AddScaledAs(sum.as<T>(), weight, one.data(), n);
      }
    });
  });
}

void Scale(const View& values, double scale) {
  DispatchDType(values.dtype, [&](auto zero) {
    using T = decltype(zero);
    ScaleAs(values.as<T>(), static_cast<T>(scale), values.numel());
  });
}

void AddScaled(const View& values, double scale, const View& other) {
  CHECK(values.dtype == other.dtype && values.numel() == other.numel()) << "[mix]";
  DispatchDType(values.dtype, [&](auto zero) {
    using T = decltype(zero);
    AddScaledAs(values.as<T>(), static_cast<T>(scale), other.as<T>(), values.numel());
  });
}

int64_t CheckInput(const MixInput& input) {
  const int64_t n = NumElements(input.bundle.pieces);
  const DType dtype = input.values.dtype();
  CHECK(dtype == DType::kF32 || dtype == DType::kF64) << DTypeName(dtype) << " [mix]";
  const auto check = [&](const Tensor& tensor, int64_t size, DType type, const char* name) {
    CHECK(tensor.is_contiguous() && tensor.dtype() == type) << name << " [mix]";
    CHECK_EQ(tensor.numel(), size) << name << " [mix]";
  };
  check(input.values, n, dtype, "values");
  check(input.mean, n, dtype, "mean");
  if (input.sent.defined()) check(input.sent, n, dtype, "sent");
  if (input.push_weight.defined()) check(input.push_weight, 1, DType::kF64, "push weight");
  CHECK_EQ(static_cast<int>(input.bundle.weights.size()), input.replica.size()) << "weights [mix]";
  return n;
}

std::unique_ptr<PendingMix> FinishedMix() { return std::make_unique<Finished>(); }

}  // namespace trireme
