// Encoding and decoding a bundle in parts, on the threads of its device: runs of whole blocks, so
// that neither the cut nor the number of threads changes a bit.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"

#include "parallel/sync/mixer.h"

namespace trireme {

// Whole blocks of one piece, with their place among the elements and in the bytes of a range.
struct MixPart {
  CodecPiece piece;
  int64_t offset = 0;  // Elements, from the bundle's first.
  int64_t byte_offset = 0, bytes = 0;
};

// Of elements [range.first, range.last) of the bundle, cut between blocks; bytes count from the
// range's first. CHECKs that it begins and ends between blocks.
std::vector<MixPart> CutParts(const Codec& codec, absl::Span<const CodecPiece> pieces, DType dtype,
                              Mixer::Range range);
std::vector<MixPart> CutParts(const Codec& codec, absl::Span<const CodecPiece> pieces, DType dtype);
int64_t BytesOf(absl::Span<const MixPart> parts);
int64_t NumElements(absl::Span<const CodecPiece> pieces);

// The elements cut into `num_ranges` ranges of about the same size, between blocks. Range i is
// [begins[i], begins[i + 1]); some may be empty.
std::vector<int64_t> CutRanges(const Codec& codec, absl::Span<const CodecPiece> pieces,
                               int num_ranges);

// Elements [first, first + size) of a dense vector.
View Elements(const Tensor& tensor, int64_t first, int64_t size);

// `values` is of the whole bundle; `bytes` are those of the parts. decoded: undefined, or what was
// encoded as others decode it, of the whole bundle.
void EncodeParts(const Codec& codec, const RoundKey& round, absl::Span<const MixPart> parts,
                 const Tensor& values, uint8_t* bytes, const Tensor& decoded);
void DecodeParts(const Codec& codec, const RoundKey& round, absl::Span<const MixPart> parts,
                 const uint8_t* bytes, const Tensor& values);

// One replica's encodings in a weighted sum.
struct Encoded {
  const uint8_t* bytes;
  double weight;
};
// values = sum of weight decoded, in the order given, in the values' type; nothing given is zero.
// `values` has element `first` of the bundle at its start.
void DecodeSum(const Codec& codec, const RoundKey& round, absl::Span<const MixPart> parts,
               absl::Span<const Encoded> encoded, const Tensor& values, int64_t first = 0);

// values = scale values, and values += scale other, elementwise in the values' type.
void Scale(const View& values, double scale);
void AddScaled(const View& values, double scale, const View& other);

// CHECKs that the tensors of `input` fit its bundle. Returns the number of elements.
int64_t CheckInput(const MixInput& input);

// A mix that was done when it started.
std::unique_ptr<PendingMix> FinishedMix();

}  // namespace trireme
