#include "data/input_file.h"

#include <glob.h>
#include <zlib.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "core/base/log.h"
#include "core/io/file.h"

namespace trireme {
namespace {

class PlainFile final : public InputFile {
 public:
  PlainFile(File file, int64_t size) : file_(std::move(file)), size_(size) {}

  StatusOr<size_t> Read(char* data, size_t bytes) override {
    bytes = std::min<size_t>(bytes, size_ - offset_);
    RETURN_IF_ERROR(file_.ReadAt(offset_, data, bytes));
    offset_ += bytes;
    return bytes;
  }

 private:
  File file_;
  int64_t size_, offset_ = 0;
};

class GzipFile final : public InputFile {
 public:
  GzipFile(std::string path, std::unique_ptr<InputFile> packed)
      : path_(std::move(path)), packed_(std::move(packed)), buffer_(1 << 16, '\0') {}
  ~GzipFile() override { inflateEnd(&stream_); }

  Status Start() {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    if (inflateInit2(&stream_, kGzipOnly) == Z_OK) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat(path_, ": no memory to unpack gzip data"));
  }

  StatusOr<size_t> Read(char* data, size_t bytes) override {
    size_t filled = 0;
    while (filled < bytes) {
      if (stream_.avail_in == 0) {
        ASSIGN_OR_RETURN(const size_t n, packed_->Read(buffer_.data(), buffer_.size()));
        if (n == 0) {
          if (!member_ended_) return Damaged("gzip data end too early");
          return filled;
        }
        stream_.next_in = reinterpret_cast<Bytef*>(buffer_.data());
        stream_.avail_in = n;
        buffer_end_ += n;
      }
      if (member_ended_) {
        inflateReset(&stream_);
        member_ended_ = false;
      }
      // zlib counts in 32 bits.
      const uInt room = std::min<size_t>(bytes - filled, 1 << 30);
      stream_.next_out = reinterpret_cast<Bytef*>(data + filled);
      stream_.avail_out = room;
      const int result = inflate(&stream_, Z_NO_FLUSH);
      filled += room - stream_.avail_out;
      if (result == Z_STREAM_END) {
        member_ended_ = true;
      } else if (result == Z_MEM_ERROR) {
        return absl::ResourceExhaustedError(absl::StrCat(path_, ": no memory to unpack gzip data"));
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        return Damaged(stream_.msg != nullptr ? stream_.msg : "not gzip data");
      }
    }
    return filled;
  }

 private:
  Status Damaged(absl::string_view what) const {
    return absl::DataLossError(
        absl::StrCat(path_, ": byte ", buffer_end_ - stream_.avail_in, ": ", what));
  }

  std::string path_;
  std::unique_ptr<InputFile> packed_;
  std::string buffer_;
  int64_t buffer_end_ = 0;  // Offset in the file of the end of what buffer_ holds.
  z_stream stream_ = {};
  bool member_ended_ = false;
};

}  // namespace

StatusOr<std::unique_ptr<InputFile>> InputFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(File file, File::Open(path));
  ASSIGN_OR_RETURN(const int64_t size, file.Size());
  unsigned char magic[2] = {};
  if (size >= 2) RETURN_IF_ERROR(file.ReadAt(0, magic, sizeof(magic)));
  auto plain = std::make_unique<PlainFile>(std::move(file), size);
  if (magic[0] != 0x1f || magic[1] != 0x8b) return plain;
  auto unpacked = std::make_unique<GzipFile>(path, std::move(plain));
  RETURN_IF_ERROR(unpacked->Start());
  return unpacked;
}

StatusOr<std::vector<std::string>> ExpandFileList(absl::string_view list) {
  std::vector<std::string> files;
  for (absl::string_view item : absl::StrSplit(list, ',', absl::SkipWhitespace())) {
    const std::string pattern(absl::StripAsciiWhitespace(item));
    if (PathExists(pattern)) {  // A name may hold characters that mean something in patterns.
      files.push_back(pattern);
      continue;
    }
    glob_t matches = {};
    const int result = glob(pattern.c_str(), GLOB_ERR, nullptr, &matches);
    files.insert(files.end(), matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
    globfree(&matches);
    if (result == GLOB_NOMATCH) {
      return absl::NotFoundError(absl::StrCat("no file matches '", pattern, "'"));
    }
    if (result != 0) return absl::UnknownError(absl::StrCat("glob ", pattern, ": failed"));
  }
  if (files.empty()) return absl::InvalidArgumentError("the list of files is empty");
  return files;
}

}  // namespace trireme
