#include "core/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "core/base/log.h"
#include "core/io/json.h"
#include "core/io/stored_box.h"

static_assert(std::endian::native == std::endian::little,
              "files are little endian, read as they are");

namespace trireme {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;
constexpr int64_t kHeaderAlignment = 64;
constexpr int64_t kBlockBytes = 4 << 20;
constexpr char kMetadataKey[] = "__metadata__";
constexpr DType kDTypes[] = {DType::kF64, DType::kF32, DType::kBF16, DType::kF16,
                             DType::kI64, DType::kI32, DType::kU8};

// "dtype", "shape" and "data_offsets" of one tensor; offset is still relative to the data.
StatusOr<SafetensorsEntry> ParseEntry(const Json::Member& member) {
  SafetensorsEntry entry;
  entry.name = member.key;
  const Json* dtype = member.value.Find("dtype");
  const Json* shape = member.value.Find("shape");
  const Json* offsets = member.value.Find("data_offsets");
  if (dtype == nullptr || shape == nullptr || offsets == nullptr ||
      member.value.As<Json::Object>()->size() != 3) {
    return absl::InvalidArgumentError("is not {dtype, shape, data_offsets}");
  }
  const std::string* dtype_name = dtype->As<std::string>();
  if (dtype_name == nullptr || !ParseSafetensorsDType(*dtype_name, &entry.dtype)) {
    std::string text;
    JsonWriter(&text).Value(*dtype);
    return absl::InvalidArgumentError(
        absl::StrCat("dtype ", text, " is none of ",
                     absl::StrJoin(kDTypes, ", ", [](std::string* out, DType known) {
                       out->append(SafetensorsDTypeName(known));
                     })));
  }
  const auto integers = [](const Json& json, std::vector<int64_t>* out) {
    const Json::Array* array = json.As<Json::Array>();
    if (array == nullptr) return false;
    for (const Json& element : *array) {
      const int64_t* value = element.As<int64_t>();
      if (value == nullptr || *value < 0) return false;
      out->push_back(*value);
    }
    return true;
  };
  std::vector<int64_t> dims, range;
  if (!integers(*shape, &dims)) return absl::InvalidArgumentError("shape is no list of sizes");
  if (!integers(*offsets, &range) || range.size() != 2 || range[0] > range[1]) {
    return absl::InvalidArgumentError("data_offsets is not [begin, end]");
  }
  if (dims.size() > kMaxRank) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", dims.size(), " dimensions, more than ", kMaxRank));
  }
  ASSIGN_OR_RETURN(const int64_t numel, CheckedNumel(dims));
  int64_t bytes;
  if (__builtin_mul_overflow(numel, DTypeSize(entry.dtype), &bytes) ||
      bytes != range[1] - range[0]) {
    return absl::InvalidArgumentError(
        absl::StrCat(*dtype_name, " of shape [", absl::StrJoin(dims, ", "),
                     "] does not fill data_offsets [", range[0], ", ", range[1], "]"));
  }
  entry.shape = Shape(dims);
  entry.offset = range[0];
  entry.bytes = bytes;
  return entry;
}

Status ParseMetadata(const Json& json, SafetensorsMetadata* metadata) {
  const Json::Object* object = json.As<Json::Object>();
  if (object == nullptr) return absl::InvalidArgumentError("__metadata__ is no object");
  for (const Json::Member& member : *object) {
    const std::string* text = member.value.As<std::string>();
    if (text == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("__metadata__ key '", member.key, "' is no string"));
    }
    metadata->emplace(member.key, *text);
  }
  return absl::OkStatus();
}

// Checks all that the file format demands. Offsets are relative to the data; in their order.
Status ParseHeader(absl::string_view header, int64_t data_bytes,
                   std::vector<SafetensorsEntry>* tensors, SafetensorsMetadata* metadata) {
  if (!absl::StartsWith(header, "{")) {
    return absl::InvalidArgumentError("the header at byte 8 does not begin with '{'");
  }
  const StatusOr<Json> json = ParseJson(header, {.max_bytes = kMaxHeaderBytes, .max_depth = 4});
  if (!json.ok()) return Annotate(json.status(), "header at byte 8");
  for (const Json::Member& member : *json->As<Json::Object>()) {
    if (member.key == kMetadataKey) {
      RETURN_IF_ERROR(ParseMetadata(member.value, metadata));
      continue;
    }
    StatusOr<SafetensorsEntry> entry = ParseEntry(member);
    if (!entry.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", member.key, "' ", entry.status().message()));
    }
    tensors->push_back(*std::move(entry));
  }
  std::sort(tensors->begin(), tensors->end(), [](const auto& a, const auto& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  int64_t end = 0;
  for (const SafetensorsEntry& entry : *tensors) {
    if (entry.offset != end) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor '", entry.name, "' begins at byte ", entry.offset, " of the data, ",
          entry.offset < end ? "inside" : "with a hole after", " the one that ends at ", end));
    }
    end += entry.bytes;
  }
  if (end != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensors end at byte ", end, " of the data, the file at ", data_bytes));
  }
  return absl::OkStatus();
}

const SafetensorsEntry* FindByName(const SafetensorsIndex& index,
                                   const std::vector<SafetensorsEntry>& tensors,
                                   absl::string_view name) {
  const auto it = index.find(name);
  return it == index.end() ? nullptr : &tensors[it->second];
}

SafetensorsIndex IndexByName(const std::vector<SafetensorsEntry>& tensors) {
  SafetensorsIndex index;
  for (size_t i = 0; i < tensors.size(); ++i) index.emplace(tensors[i].name, i);
  return index;
}

std::string HeaderText(const std::vector<SafetensorsEntry>& tensors,
                       const SafetensorsMetadata& metadata) {
  std::string text;
  JsonWriter json(&text);
  json.BeginObject();
  if (!metadata.empty()) {
    json.Key(kMetadataKey).BeginObject();
    for (const auto& [key, value] : metadata) json.Key(key).String(value);
    json.EndObject();
  }
  for (const SafetensorsEntry& entry : tensors) {
    json.Key(entry.name).BeginObject();
    json.Key("dtype").String(SafetensorsDTypeName(entry.dtype));
    json.Key("shape").BeginArray();
    for (const int64_t dim : entry.shape.dims()) json.Int(dim);
    json.EndArray();
    json.Key("data_offsets")
        .BeginArray()
        .Int(entry.offset)
        .Int(entry.offset + entry.bytes)
        .EndArray();
    json.EndObject();
  }
  json.EndObject();
  const int64_t end = kLengthBytes + text.size();
  text.append((kHeaderAlignment - end % kHeaderAlignment) % kHeaderAlignment, ' ');
  return text;
}

}  // namespace

const char* SafetensorsDTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "F64";
    case DType::kF32:
      return "F32";
    case DType::kBF16:
      return "BF16";
    case DType::kF16:
      return "F16";
    case DType::kI64:
      return "I64";
    case DType::kI32:
      return "I32";
    case DType::kU8:
      return "U8";
  }
  return "?";
}

bool ParseSafetensorsDType(absl::string_view name, DType* dtype) {
  for (const DType known : kDTypes) {
    if (name == SafetensorsDTypeName(known)) {
      *dtype = known;
      return true;
    }
  }
  return false;
}

StatusOr<SafetensorsReader> SafetensorsReader::Open(const std::string& path, File::Links links) {
  SafetensorsReader reader;
  ASSIGN_OR_RETURN(reader.file_, File::Open(path, links));
  ASSIGN_OR_RETURN(const int64_t file_bytes, reader.file_.Size());
  const auto invalid = [&path](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
  };
  if (file_bytes < kLengthBytes) {
    return invalid(absl::StrCat("no safetensors file: it has ", file_bytes, " bytes"));
  }
  uint64_t length;
  RETURN_IF_ERROR(reader.file_.ReadAt(0, &length, kLengthBytes));
  if (length > uint64_t{kMaxHeaderBytes} ||
      static_cast<int64_t>(length) > file_bytes - kLengthBytes) {
    return invalid(absl::StrCat("header length ", length, " at byte 0 exceeds ",
                                std::min(kMaxHeaderBytes, file_bytes - kLengthBytes)));
  }
  std::string header(length, '\0');
  RETURN_IF_ERROR(reader.file_.ReadAt(kLengthBytes, header.data(), length));
  reader.data_offset_ = kLengthBytes + length;
  const Status parsed =
      ParseHeader(header, file_bytes - reader.data_offset_, &reader.tensors_, &reader.metadata_);
  if (!parsed.ok()) return Annotate(parsed, path);
  for (SafetensorsEntry& entry : reader.tensors_) entry.offset += reader.data_offset_;
  reader.by_name_ = IndexByName(reader.tensors_);
  return reader;
}

const SafetensorsEntry* SafetensorsReader::Find(absl::string_view name) const {
  return FindByName(by_name_, tensors_, name);
}

namespace {

Status ReadStored(const SafetensorsReader& reader, const SafetensorsEntry& entry, const Box& box,
                  absl::FunctionRef<void(int64_t, absl::Span<const char>)> put,
                  absl::FunctionRef<Status()> block_done) {
  const Status inside = CheckInside(box, entry.shape);
  if (!inside.ok()) {
    return Annotate(inside, absl::StrCat(reader.path(), ": tensor '", entry.name, "'"));
  }
  return ReadStoredBox(
      reader.file(), {entry.offset, entry.bytes, DTypeSize(entry.dtype)},
      BoxRuns(entry.shape, box.begin, box.size, WholeBox(box.size).begin, box.size), kBlockBytes,
      {[](int64_t, absl::Span<const char>) { return absl::OkStatus(); }, put, block_done});
}

}  // namespace

Status SafetensorsReader::ReadBox(const SafetensorsEntry& entry, const Box& box, void* dst) const {
  return ReadStored(
      *this, entry, box,
      [dst](int64_t at, absl::Span<const char> bytes) {
        std::memcpy(static_cast<char*>(dst) + at, bytes.data(), bytes.size());
      },
      [] { return absl::OkStatus(); });
}

Status SafetensorsReader::ReadBox(const SafetensorsEntry& entry, const Box& box,
                                  const Tensor& dst) const {
  CHECK_EQ(dst.shape(), box.size) << entry.name;
  CHECK(dst.dtype() == entry.dtype && dst.is_contiguous()) << entry.name;
  Device& device = dst.device();
  return ReadStored(
      *this, entry, box,
      [&](int64_t at, absl::Span<const char> bytes) {
        device.Copy(static_cast<char*>(dst.raw()) + at, bytes.data(), bytes.size(),
                    device.compute());
      },
      [&] { return device.Synchronize(); });
}

StatusOr<Tensor> SafetensorsReader::Read(const SafetensorsEntry& entry, Device& device,
                                         MemoryKind kind) const {
  Tensor tensor;
  RETURN_IF_ERROR(CatchFailure(
      [&] { tensor = Tensor::Empty(device, entry.shape, entry.dtype, kind, entry.name); }));
  RETURN_IF_ERROR(ReadBox(entry, WholeBox(entry.shape), tensor));
  return tensor;
}

StatusOr<SafetensorsWriter> SafetensorsWriter::Create(const std::string& path,
                                                      std::vector<SafetensorsEntry> tensors,
                                                      const SafetensorsMetadata& metadata) {
  SafetensorsWriter writer;
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    const int64_t a_width = DTypeSize(a.dtype), b_width = DTypeSize(b.dtype);
    return std::tie(b_width, a.name) < std::tie(a_width, b.name);
  });
  int64_t end = 0;
  for (SafetensorsEntry& entry : tensors) {
    entry.offset = end;
    entry.bytes = entry.shape.numel() * DTypeSize(entry.dtype);
    end += entry.bytes;
  }
  const std::string text = HeaderText(tensors, metadata);
  // What the reader would refuse is refused: a name that comes twice or is no UTF-8, say.
  std::vector<SafetensorsEntry> read_back;
  SafetensorsMetadata metadata_read_back;
  const Status readable = ParseHeader(text, end, &read_back, &metadata_read_back);
  if (!readable.ok()) return Annotate(readable, path);
  const SafetensorsIndex index = IndexByName(read_back);
  for (const SafetensorsEntry& entry : tensors) {
    if (!index.contains(entry.name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": '", entry.name, "' is no name of a tensor"));
    }
  }
  const uint64_t length = text.size();
  writer.header_.assign(reinterpret_cast<const char*>(&length), kLengthBytes);
  writer.header_ += text;
  for (SafetensorsEntry& entry : tensors) entry.offset += writer.header_.size();
  writer.tensors_ = std::move(tensors);
  writer.by_name_ = IndexByName(writer.tensors_);
  writer.written_.resize(writer.tensors_.size());
  ASSIGN_OR_RETURN(writer.file_, File::Create(path));
  RETURN_IF_ERROR(writer.file_.WriteAt(0, writer.header_.data(), writer.header_.size()));
  return writer;
}

const SafetensorsEntry* SafetensorsWriter::Find(absl::string_view name) const {
  return FindByName(by_name_, tensors_, name);
}

int64_t SafetensorsWriter::file_bytes() const {
  return tensors_.empty() ? header_.size() : tensors_.back().offset + tensors_.back().bytes;
}

Status SafetensorsWriter::Append(absl::string_view name, const void* data, int64_t bytes) {
  const SafetensorsEntry* entry = Find(name);
  CHECK(entry != nullptr) << "tensor '" << name << "' was not declared [safetensors]";
  int64_t& written = written_[entry - tensors_.data()];
  CHECK_LE(written + bytes, entry->bytes) << name << " [safetensors]";
  RETURN_IF_ERROR(file_.WriteAt(entry->offset + written, data, bytes));
  written += bytes;
  return absl::OkStatus();
}

Status SafetensorsWriter::Append(absl::string_view name, const Tensor& tensor) {
  Device& device = tensor.device();
  std::vector<char> block;
  Tensor dense;
  RETURN_IF_ERROR(CatchFailure([&] { dense = tensor.Contiguous(); }));
  const int64_t bytes = dense.numel() * DTypeSize(dense.dtype());
  block.resize(std::min(bytes, kBlockBytes));
  for (int64_t at = 0; at < bytes; at += kBlockBytes) {
    const int64_t size = std::min(kBlockBytes, bytes - at);
    device.Copy(block.data(), static_cast<const char*>(dense.raw()) + at, size, device.compute());
    RETURN_IF_ERROR(device.Synchronize());
    RETURN_IF_ERROR(Append(name, block.data(), size));
  }
  return absl::OkStatus();
}

Status SafetensorsWriter::Finish() {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    CHECK_EQ(written_[i], tensors_[i].bytes) << tensors_[i].name << " [safetensors]";
  }
  RETURN_IF_ERROR(file_.Sync());
  return file_.Close();
}

}  // namespace trireme
