#include "parallel/sync/identity_codec.h"

#include "parallel/sync/block_codec.h"

namespace trireme {
namespace {

class IdentityCodec : public Codec {
 public:
  int64_t block_size() const override { return 1; }
  double Contraction(const Shape&) const override { return 1; }
  int64_t EncodedBytes(const CodecPiece& piece, DType dtype) const override {
    return piece.size * DTypeSize(dtype);
  }

  void Encode(const CodecPiece& piece, const RoundKey&, const View& values,
              absl::Span<uint8_t> bytes) const override {
    CheckSizes(piece, values, bytes.size());
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data, bytes.size());
  }
  void Decode(const CodecPiece& piece, const RoundKey&, absl::Span<const uint8_t> bytes,
              const View& values) const override {
    CheckSizes(piece, values, bytes.size());
    if (!bytes.empty()) std::memcpy(values.data, bytes.data(), bytes.size());
  }

  int num_linear_passes() const override { return 1; }
  bool wire_is_values() const override { return true; }
  int64_t LinearSize(const CodecPiece& piece, int) const override { return piece.size; }
  void LinearEncode(int, const CodecPiece& piece, const RoundKey&, const View& values, const View&,
                    const View& wire) const override {
    Copy(piece, values, wire);
  }
  void LinearDecode(int, const CodecPiece& piece, const RoundKey&, const View& wire, const View&,
                    const View& values) const override {
    Copy(piece, wire, values);
  }

 private:
  void CheckSizes(const CodecPiece& piece, const View& values, size_t num_bytes) const {
    CHECK_EQ(values.numel(), piece.size);
    CHECK_EQ(static_cast<int64_t>(num_bytes), EncodedBytes(piece, values.dtype));
  }
  void Copy(const CodecPiece& piece, const View& from, const View& to) const {
    CHECK(from.dtype == to.dtype && from.numel() == piece.size && to.numel() == piece.size);
    if (from.data == to.data || piece.size == 0) return;
    std::memcpy(to.data, from.data, piece.size * DTypeSize(from.dtype));
  }
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakeIdentityCodec(const Params&) {
  return {std::make_unique<IdentityCodec>()};
}

}  // namespace trireme
