// Codecs: what of a vector goes on the wire. A registry; `trireme list` prints the entries.
//
// A parameter is cut into *blocks* of block_size() consecutive elements of its global row-major
// order, the last one short (block_size() == 0: the whole parameter is one block), and every block
// is encoded by itself. A *piece* is a run of whole blocks. So how a parameter is spread over the
// ranks of a replica, and over the threads of a rank, never changes a bit of what is decoded.
//
// A codec has no state: memories of what was lost (error feedback) belong to the exchange. A
// codec never hides a NaN or an infinity: a block that holds one decodes to one that does.
#pragma once

#include <memory>

#include "absl/types/span.h"

#include "core/base/registry.h"
#include "core/tensor/shape.h"
#include "core/tensor/view.h"

namespace trireme {

// Consecutive whole blocks of one parameter.
struct CodecPiece {
  uint64_t key = 0;             // Of the parameter: StableHash(path).
  Shape parameter;              // Of the whole.
  int64_t first = 0, size = 0;  // Flat elements [first, first + size); first starts a block.
};

// Random numbers are a function of (seed, round, parameter, element): all replicas draw the same.
struct RoundKey {
  uint64_t seed = 0;
  int64_t round = 0;
};

class Codec {
 public:
  virtual ~Codec() = default;

  // Elements; 0: the whole parameter is one block.
  virtual int64_t block_size() const = 0;

  // INVALID_ARGUMENT when a parameter of this shape cannot be encoded ("k = 9 is larger than the
  // vector [4]"). The other functions CHECK what this one refuses.
  virtual Status Check(const Shape& /*parameter*/) const { return absl::OkStatus(); }

  // The largest alpha for which ||decoded - v||^2 <= (1 - alpha) ||v||^2 is known to hold for
  // every v of that shape, up to rounding (rand_k: in expectation). 0: none is.
  virtual double Contraction(const Shape& parameter) const = 0;

  // Bytes are known before anything is encoded: neither headers nor lengths travel. Those of a
  // piece are those of its blocks, one after another.
  virtual int64_t EncodedBytes(const CodecPiece& piece, DType dtype) const = 0;

  // `values`: piece.size dense elements on the host, f32 or f64. bytes.size() is EncodedBytes.
  // Pure, on the calling thread: parts of a piece, cut between blocks, may go to several threads.
  virtual void Encode(const CodecPiece& piece, const RoundKey& round, const View& values,
                      absl::Span<uint8_t> bytes) const = 0;
  virtual void Decode(const CodecPiece& piece, const RoundKey& round,
                      absl::Span<const uint8_t> bytes, const View& values) const = 0;

  // Linear codecs. Their encodings add up, so that the mean of v over replicas is decoded from the
  // mean of encodings, by all-reduces. For each pass:
  //   LinearEncode(pass, ..., wire);  wire = the mean over replicas;  LinearDecode(pass, ..., wire)
  // and the last LinearDecode writes the decoded mean. Decoding one's own wire gives what the
  // others see of it when there is one pass; with two passes (powersgd) that is the decoded mean.
  virtual int num_linear_passes() const { return 0; }
  // The wire is the values: what is encoded may be reduced in place.
  virtual bool wire_is_values() const { return false; }
  // Elements of the values' type that a pass puts on the wire.
  virtual int64_t LinearSize(const CodecPiece& piece, int pass) const;
  // Elements of the values' type that stay from round to round, the same on all replicas.
  virtual int64_t LinearStateSize(const CodecPiece& /*piece*/) const { return 0; }
  // What the state is before the first round.
  virtual void LinearStart(const CodecPiece& piece, uint64_t seed, const View& state) const;
  virtual void LinearEncode(int pass, const CodecPiece& piece, const RoundKey& round,
                            const View& values, const View& state, const View& wire) const;
  // `values` is written by the last pass alone, and may be undefined before.
  virtual void LinearDecode(int pass, const CodecPiece& piece, const RoundKey& round,
                            const View& wire, const View& state, const View& values) const;
};

using CodecFactory = StatusOr<std::unique_ptr<Codec>> (*)(const Params& params);

absl::Span<const Entry<CodecFactory>> Codecs();

// INVALID_ARGUMENT as Params::Create gives, or when parameters contradict each other.
StatusOr<std::unique_ptr<Codec>> MakeCodec(absl::string_view name, const ParamMap& params = {});

}  // namespace trireme
