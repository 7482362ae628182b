#include "launch/checkpoint/manifest.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "core/base/log.h"
#include "core/io/crc32c.h"
#include "core/io/safetensors.h"

namespace trireme {
namespace {

using checkpoint::Manifest;
using checkpoint::Part;
using checkpoint::ShardFile;
using checkpoint::TensorRecord;

// The checksum closes the file: field 15, wire type 5, then four bytes.
constexpr char kChecksumTag = 15 << 3 | 5;
constexpr int64_t kChecksumBytes = 5;
// Bounds the time that pairs of parts take in CheckTiles.
constexpr int kMaxParts = 1 << 16;
constexpr int64_t kMaxBlockBytes = 1 << 30;

Status Invalid(absl::string_view what) { return absl::InvalidArgumentError(what); }

absl::Span<const int64_t> Dims(const google::protobuf::RepeatedField<int64_t>& field) {
  return {field.data(), static_cast<size_t>(field.size())};
}

// One component, so that it can neither be absolute nor leave the directory.
bool IsPlainFileName(absl::string_view name) {
  return !name.empty() && name[0] != '.' && name.size() <= 255 &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

// "what 'x' twice" when two entries of a repeated field have one name, or one has none.
template <typename Field>
Status CheckNames(absl::string_view what, const Field& field) {
  std::set<absl::string_view> names;
  for (const auto& entry : field) {
    if (entry.name().empty()) return Invalid(absl::StrCat(what, " without a name"));
    if (!names.insert(entry.name()).second) {
      return Invalid(absl::StrCat(what, " '", entry.name(), "' twice"));
    }
  }
  return absl::OkStatus();
}

// A run of bytes of a file that a part fills.
struct Extent {
  int64_t begin, end;
  const std::string* tensor;
};

Status CheckPart(const Manifest& manifest, const TensorRecord& record, const Part& part,
                 const Shape& whole, std::vector<std::vector<Extent>>* extents) {
  if (part.file() >= static_cast<uint32_t>(manifest.files_size())) {
    return Invalid(absl::StrCat("names file ", part.file(), " of ", manifest.files_size()));
  }
  if (part.begin_size() != whole.rank() || part.size_size() != whole.rank()) {
    return Invalid("has a part of another rank");
  }
  for (int i = 0; i < whole.rank(); ++i) {
    if (part.begin(i) < 0 || part.size(i) < 1)
      return Invalid("has a part with a negative or no size");
  }
  const Box box = BoxOf(part);
  RETURN_IF_ERROR(CheckInside(box, whole));
  // Inside a whole whose bytes were checked: no overflow.
  const int64_t bytes = box.numel() * DTypeSize(DTypeOfRecord(record));
  const ShardFile& file = manifest.files(part.file());
  if (part.offset() < file.header_bytes() || part.offset() > file.bytes() ||
      bytes > file.bytes() - part.offset()) {
    return Invalid(absl::StrCat("has ", bytes, " bytes at byte ", part.offset(), " of '",
                                file.name(), "', which has ", file.bytes(), " with a header of ",
                                file.header_bytes()));
  }
  const int64_t num_blocks = (bytes - 1) / manifest.block_bytes() + 1;
  if (part.block_crc32c_size() != num_blocks) {
    return Invalid(
        absl::StrCat("has ", part.block_crc32c_size(), " checksums for ", num_blocks, " blocks"));
  }
  (*extents)[part.file()].push_back({part.offset(), part.offset() + bytes, &record.name()});
  return absl::OkStatus();
}

Status CheckTensor(const Manifest& manifest, const TensorRecord& record,
                   std::vector<std::vector<Extent>>* extents) {
  DType dtype;
  if (!ParseSafetensorsDType(record.dtype(), &dtype)) {
    return Invalid(absl::StrCat("has the unknown dtype '", record.dtype(), "'"));
  }
  if (record.shape_size() > kMaxRank) {
    return Invalid(absl::StrCat("has ", record.shape_size(), " dimensions"));
  }
  ASSIGN_OR_RETURN(const int64_t numel, CheckedNumel(Dims(record.shape())));
  int64_t bytes;
  if (__builtin_mul_overflow(numel, DTypeSize(dtype), &bytes))
    return Invalid("has 2^63 bytes or more");
  if (!checkpoint::ReplicaPolicy_IsValid(record.policy())) {
    return Invalid(absl::StrCat("has the unknown policy ", static_cast<int>(record.policy())));
  }
  if (record.policy() != checkpoint::SHARED && record.shape_size() == 0) {
    return Invalid("is per replica but has no dimension");
  }
  if (record.parts_size() > kMaxParts) {
    return Invalid(absl::StrCat("has ", record.parts_size(), " parts, more than ", kMaxParts));
  }
  const Shape whole = ShapeOf(record);
  std::vector<Box> boxes;
  for (const Part& part : record.parts()) {
    RETURN_IF_ERROR(CheckPart(manifest, record, part, whole, extents));
    boxes.push_back(BoxOf(part));
  }
  return CheckTiles(whole, boxes);
}

// Every byte behind the header belongs to exactly one part.
Status CheckFilled(const ShardFile& file, std::vector<Extent>* extents) {
  std::sort(extents->begin(), extents->end(),
            [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  int64_t end = file.header_bytes();
  for (const Extent& extent : *extents) {
    if (extent.begin != end) {
      return Invalid(absl::StrCat(
          "file '", file.name(), "': tensor '", *extent.tensor, "' begins at byte ", extent.begin,
          extent.begin < end ? " inside" : " with a hole after", " the one that ends at ", end));
    }
    end = extent.end;
  }
  if (end == file.bytes()) return absl::OkStatus();
  return Invalid(
      absl::StrCat("file '", file.name(), "': parts end at byte ", end, " of ", file.bytes()));
}

Status CheckManifest(const Manifest& manifest) {
  if (manifest.format_version() != kManifestVersion) {
    return absl::UnimplementedError(absl::StrCat("format version ", manifest.format_version(),
                                                 "; this program reads ", kManifestVersion));
  }
  if (manifest.step() < 0) return Invalid(absl::StrCat("step ", manifest.step()));
  if (manifest.block_bytes() < 8 || manifest.block_bytes() > kMaxBlockBytes ||
      manifest.block_bytes() % 8 != 0) {
    return Invalid(absl::StrCat("blocks of ", manifest.block_bytes(), " bytes"));
  }
  RETURN_IF_ERROR(CheckNames("mesh axis", manifest.mesh()));
  RETURN_IF_ERROR(CheckNames("scalar", manifest.scalars()));
  RETURN_IF_ERROR(CheckNames("file", manifest.files()));
  RETURN_IF_ERROR(CheckNames("tensor", manifest.tensors()));
  for (const checkpoint::MeshAxis& axis : manifest.mesh()) {
    if (axis.size() < 1)
      return Invalid(absl::StrCat("mesh axis '", axis.name(), "' of ", axis.size()));
  }
  for (const checkpoint::Scalar& scalar : manifest.scalars()) {
    if (scalar.value_case() == checkpoint::Scalar::VALUE_NOT_SET) {
      return Invalid(absl::StrCat("scalar '", scalar.name(), "' has no value"));
    }
  }
  for (const ShardFile& file : manifest.files()) {
    if (!IsPlainFileName(file.name())) {
      return Invalid(absl::StrCat("file '", absl::CEscape(file.name()),
                                  "' is no name of a file in the checkpoint's directory"));
    }
    if (file.header_bytes() < 8 || file.bytes() < file.header_bytes()) {
      return Invalid(absl::StrCat("file '", file.name(), "' has ", file.bytes(),
                                  " bytes and a header of ", file.header_bytes()));
    }
  }
  std::vector<std::vector<Extent>> extents(manifest.files_size());
  for (const TensorRecord& record : manifest.tensors()) {
    const Status status = CheckTensor(manifest, record, &extents);
    if (!status.ok()) return Annotate(status, absl::StrCat("tensor '", record.name(), "'"));
  }
  for (int i = 0; i < manifest.files_size(); ++i) {
    RETURN_IF_ERROR(CheckFilled(manifest.files(i), &extents[i]));
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::string> SerializeManifest(Manifest manifest) {
  manifest.set_format_version(kManifestVersion);
  manifest.clear_crc32c();
  std::string bytes;
  if (static_cast<int64_t>(manifest.ByteSizeLong()) > kMaxManifestBytes - kChecksumBytes ||
      !manifest.SerializeToString(&bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the manifest exceeds ", kMaxManifestBytes, " bytes"));
  }
  const uint32_t crc = Crc32c(bytes.data(), bytes.size());
  bytes.push_back(kChecksumTag);
  bytes.append(reinterpret_cast<const char*>(&crc), sizeof(crc));
  RETURN_IF_ERROR(ParseManifest(bytes).status());
  return bytes;
}

StatusOr<Manifest> ParseManifest(absl::string_view bytes) {
  const int64_t size = bytes.size();
  if (size > kMaxManifestBytes || size < kChecksumBytes ||
      bytes[size - kChecksumBytes] != kChecksumTag) {
    return absl::DataLossError(absl::StrCat("no manifest or a truncated one: ", size,
                                            " bytes that do not end in a checksum"));
  }
  uint32_t stored;
  std::memcpy(&stored, bytes.data() + size - sizeof(stored), sizeof(stored));
  const uint32_t computed = Crc32c(bytes.data(), size - kChecksumBytes);
  if (stored != computed) {
    return absl::DataLossError(absl::StrCat("the manifest is damaged: checksum ",
                                            absl::Hex(computed), " instead of ",
                                            absl::Hex(stored)));
  }
  Manifest manifest;
  if (!manifest.ParseFromArray(bytes.data(), static_cast<int>(size))) {
    return Invalid("the manifest is no message of its type");
  }
  RETURN_IF_ERROR(CheckManifest(manifest));
  return manifest;
}

Shape ShapeOf(const TensorRecord& record) { return Shape(Dims(record.shape())); }

DType DTypeOfRecord(const TensorRecord& record) {
  DType dtype = DType::kU8;
  CHECK(ParseSafetensorsDType(record.dtype(), &dtype)) << record.dtype();
  return dtype;
}

Box BoxOf(const Part& part) { return {Shape(Dims(part.begin())), Shape(Dims(part.size()))}; }

}  // namespace trireme
