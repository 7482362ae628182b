// safetensors: named tensors in one file (github.com/huggingface/safetensors, README, "Format").
//
//   8 bytes    n, the length of the header, little endian
//   n bytes    JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
//              and optionally "__metadata__": {"key": "text", ...}; padded with spaces
//   the rest   the elements, little endian, row-major; offsets count from here and leave no hole
//
// A file is checked whole before anything of the size that it claims is allocated. Data are read
// with pread: a file that shrinks gives an error, not a signal.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

#include "core/base/status.h"
#include "core/io/file.h"
#include "core/tensor/box.h"
#include "core/tensor/tensor.h"

namespace trireme {

using SafetensorsMetadata = std::map<std::string, std::string>;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t offset = 0;  // Of the first element, from the start of the file.
  int64_t bytes = 0;
};

// Positions in a list of entries, by name.
using SafetensorsIndex = absl::flat_hash_map<std::string, size_t>;

// "F32", "BF16", ...
const char* SafetensorsDTypeName(DType dtype);
// False when the name is unknown or of a type that tensors do not have (I8, BOOL, F8_E4M3, ...).
bool ParseSafetensorsDType(absl::string_view name, DType* dtype);

class SafetensorsReader {
 public:
  // INVALID_ARGUMENT names the file, the tensor and what is wrong with it.
  static StatusOr<SafetensorsReader> Open(const std::string& path,
                                          File::Links links = File::Links::kFollow);

  const std::string& path() const { return file_.path(); }
  const std::vector<SafetensorsEntry>& tensors() const { return tensors_; }  // By offset.
  const SafetensorsMetadata& metadata() const { return metadata_; }
  const SafetensorsEntry* Find(absl::string_view name) const;  // nullptr when there is none.
  int64_t data_offset() const { return data_offset_; }         // Where the header ends.
  const File& file() const { return file_; }

  // One box of a tensor, dense and row-major, into host memory of box.numel() elements.
  Status ReadBox(const SafetensorsEntry& entry, const Box& box, void* dst) const;
  // The same into a contiguous tensor of the box's shape and the entry's dtype, on any device.
  Status ReadBox(const SafetensorsEntry& entry, const Box& box, const Tensor& dst) const;
  StatusOr<Tensor> Read(const SafetensorsEntry& entry, Device& device,
                        MemoryKind kind = MemoryKind::kActivations) const;

 private:
  File file_;
  std::vector<SafetensorsEntry> tensors_;
  SafetensorsIndex by_name_;
  SafetensorsMetadata metadata_;
  int64_t data_offset_ = 0;
};

// Writes a file piece by piece. The layout depends on the declared tensors only: wide elements
// first, then by name, behind a header that ends at a multiple of 64 bytes: elements are aligned.
class SafetensorsWriter {
 public:
  // Of each entry, name, dtype and shape are read. INVALID_ARGUMENT on a name that comes twice or
  // is no UTF-8. The header is written at once.
  static StatusOr<SafetensorsWriter> Create(const std::string& path,
                                            std::vector<SafetensorsEntry> tensors,
                                            const SafetensorsMetadata& metadata = {});

  // With offsets and sizes filled in, in file order.
  const std::vector<SafetensorsEntry>& tensors() const { return tensors_; }
  const SafetensorsEntry* Find(absl::string_view name) const;
  const std::string& header() const { return header_; }  // All bytes before the data.
  int64_t file_bytes() const;

  // The next `bytes` bytes of a tensor. Tensors may be written in any order and interleaved.
  Status Append(absl::string_view name, const void* data, int64_t bytes);
  Status Append(absl::string_view name, const Tensor& tensor);  // All of it.

  // CHECKs that every tensor was written to its end; fsyncs and closes.
  Status Finish();

 private:
  File file_;
  std::vector<SafetensorsEntry> tensors_;
  SafetensorsIndex by_name_;
  std::vector<int64_t> written_;  // Bytes, by tensor.
  std::string header_;
};

}  // namespace trireme
