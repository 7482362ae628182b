#include "data/idx.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"

#include "data/input_file.h"

namespace trireme {
namespace {

Status Damaged(const std::string& path, int64_t offset, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(path, ": byte ", offset, " of the IDX data: ", what));
}

}  // namespace

StatusOr<IdxArray> ReadIdx(const std::string& path, int64_t max_values) {
  constexpr unsigned char kUnsignedByte = 8;
  constexpr int64_t kChunk = 1 << 20;
  ASSIGN_OR_RETURN(const std::unique_ptr<InputFile> file, InputFile::Open(path));
  unsigned char magic[4] = {};
  ASSIGN_OR_RETURN(const size_t magic_bytes, file->Read(reinterpret_cast<char*>(magic), 4));
  if (magic_bytes < 4) return Damaged(path, magic_bytes, "ends inside the header");
  if (magic[0] != 0 || magic[1] != 0) return Damaged(path, 0, "not an IDX file");
  if (magic[2] != kUnsignedByte) {
    return Damaged(path, 2, absl::StrCat("type ", magic[2], "; only unsigned bytes (8) are read"));
  }
  if (magic[3] == 0) return Damaged(path, 3, "no dimensions");

  IdxArray array;
  int64_t num_values = 1;
  for (int i = 0; i < magic[3]; ++i) {
    unsigned char dim[4] = {};
    ASSIGN_OR_RETURN(const size_t dim_bytes, file->Read(reinterpret_cast<char*>(dim), 4));
    if (dim_bytes < 4) return Damaged(path, 4 + 4 * i + dim_bytes, "ends inside the header");
    array.dims.push_back(int64_t{dim[0]} << 24 | dim[1] << 16 | dim[2] << 8 | dim[3]);
    if (array.dims.back() != 0 && num_values > max_values / array.dims.back()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          path, ": byte ", 4 + 4 * i, " of the IDX data: more than ", max_values, " values"));
    }
    num_values *= array.dims.back();
  }
  const int64_t header_bytes = 4 + 4 * magic[3];
  // In pieces, since a header may promise more than there is.
  for (int64_t filled = 0; filled < num_values;) {
    const int64_t chunk = std::min(kChunk, num_values - filled);
    array.values.resize(filled + chunk);
    ASSIGN_OR_RETURN(const int64_t n, file->Read(&array.values[filled], chunk));
    filled += n;
    if (n < chunk) {
      return Damaged(path, header_bytes + filled,
                     absl::StrCat("ends after ", filled, " of ", num_values, " values"));
    }
  }
  char more;
  ASSIGN_OR_RETURN(const size_t num_more, file->Read(&more, 1));
  if (num_more > 0) return Damaged(path, header_bytes + num_values, "data after the last value");
  return array;
}

}  // namespace trireme
