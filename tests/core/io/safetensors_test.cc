#include "core/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "core/ops/devices.h"
#include "tests/testing/gradient_check.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

constexpr DType kAllDTypes[] = {DType::kF64, DType::kF32, DType::kBF16, DType::kF16,
                                DType::kI64, DType::kI32, DType::kU8};

std::string Message(const Status& status) { return std::string(status.message()); }

std::vector<char> Bytes(const Tensor& tensor) {
  const char* data = static_cast<const char*>(tensor.raw());
  return {data, data + tensor.numel() * DTypeSize(tensor.dtype())};
}

// A file with this header and this many bytes of data, whatever the two say of each other.
std::string RawFile(absl::string_view header, int64_t data_bytes) {
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), 8);
  file.append(header.data(), header.size());
  file.append(data_bytes, '\x7F');
  return file;
}

// Bytes 0, 1, 2, ... as a tensor of any type: NaNs and other odd patterns must survive.
Tensor CountingBytes(Device& device, const Shape& shape, DType dtype) {
  Tensor tensor = Tensor::Empty(device, shape, dtype);
  auto* data = static_cast<unsigned char*>(tensor.raw());
  for (int64_t i = 0; i < tensor.numel() * DTypeSize(dtype); ++i) data[i] = i * 7 + 1;
  return tensor;
}

class SafetensorsTest : public ::testing::Test {
 protected:
  Status Write(const std::vector<std::pair<std::string, Tensor>>& tensors,
               const SafetensorsMetadata& metadata = {}) {
    std::vector<SafetensorsEntry> entries;
    for (const auto& [name, tensor] : tensors) {
      entries.push_back({name, tensor.dtype(), tensor.shape(), 0, 0});
    }
    ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path_, entries, metadata));
    for (const auto& [name, tensor] : tensors) RETURN_IF_ERROR(writer.Append(name, tensor));
    RETURN_IF_ERROR(writer.Finish());
    EXPECT_EQ(static_cast<int64_t>(ReadFile(path_)->size()), writer.file_bytes());
    return absl::OkStatus();
  }
  Status OpenRaw(absl::string_view contents) {
    EXPECT_TRUE(WriteFileAtomically(path_, contents).ok());
    return SafetensorsReader::Open(path_).status();
  }

  TemporaryDirectory dir_;
  const std::string path_ = dir_ / "x.safetensors";
  std::unique_ptr<CpuDevice> device_ = MakeCpuDevice();
};

TEST_F(SafetensorsTest, RoundTripOfEveryTypeAndShape) {
  const Shape shapes[] = {{}, {1}, {7}, {0}, {3, 0, 2}, {2, 3}, {3, 1, 5}, {2, 1, 2, 1, 3, 2}};
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const DType dtype : kAllDTypes) {
    for (const Shape& shape : shapes) {
      tensors.push_back({absl::StrCat(DTypeName(dtype), shape.ToString(), "\"\n\xC3\xA9"),
                         CountingBytes(*device_, shape, dtype)});
    }
  }
  const SafetensorsMetadata metadata = {{"format", "trireme"}, {"", "\\"}};
  ASSERT_TRUE(Write(tensors, metadata).ok());
  const auto reader = SafetensorsReader::Open(path_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->metadata(), metadata);
  EXPECT_EQ(reader->tensors().size(), tensors.size());
  EXPECT_EQ(reader->data_offset() % 64, 0);
  EXPECT_EQ(reader->Find("none"), nullptr);
  for (const auto& [name, tensor] : tensors) {
    const SafetensorsEntry* entry = reader->Find(name);
    ASSERT_NE(entry, nullptr) << name;
    EXPECT_EQ(entry->dtype, tensor.dtype());
    EXPECT_EQ(entry->shape, tensor.shape());
    EXPECT_EQ(entry->offset % DTypeSize(entry->dtype), 0) << "aligned";
    const auto read = reader->Read(*entry, *device_);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(Bytes(*read), Bytes(tensor)) << name;
  }
}

TEST_F(SafetensorsTest, LayoutDependsOnTheDeclarationOnly) {
  const Tensor a = CountingBytes(*device_, {3}, DType::kU8);
  const Tensor b = CountingBytes(*device_, {3}, DType::kF64);
  ASSERT_TRUE(Write({{"a", a}, {"b", b}}).ok());
  const std::string first = *ReadFile(path_);
  ASSERT_TRUE(Write({{"b", b}, {"a", a}}).ok());
  EXPECT_EQ(*ReadFile(path_), first);
  const auto reader = SafetensorsReader::Open(path_);
  EXPECT_EQ(reader->tensors()[0].name, "b") << "wide elements first";
}

TEST_F(SafetensorsTest, EveryBox) {
  const Tensor tensor = CountingBytes(*device_, {4, 3, 2}, DType::kI32);
  ASSERT_TRUE(Write({{"t", tensor}}).ok());
  const auto reader = SafetensorsReader::Open(path_);
  const SafetensorsEntry& entry = reader->tensors()[0];
  for (int64_t b = 0; b < 4; ++b) {
    for (int64_t n = 0; b + n <= 4; ++n) {
      for (int64_t c = 0; c < 3; ++c) {
        const Box box{{b, c, 1}, {n, 3 - c, 1}};
        const Tensor part = Tensor::Empty(*device_, box.size, DType::kI32);
        ASSERT_TRUE(reader->ReadBox(entry, box, part).ok());
        std::vector<int32_t> host(box.numel());
        ASSERT_TRUE(reader->ReadBox(entry, box, host.data()).ok());
        int64_t k = 0;
        for (int64_t i = b; i < b + n; ++i) {
          for (int64_t j = c; j < 3; ++j, ++k) {
            const int32_t expected = tensor.data<int32_t>()[(i * 3 + j) * 2 + 1];
            ASSERT_EQ(part.data<int32_t>()[k], expected);
            ASSERT_EQ(host[k], expected);
          }
        }
      }
    }
  }
  char none;
  EXPECT_THAT(Message(reader->ReadBox(entry, {{3, 0, 0}, {2, 3, 2}}, &none)), HasSubstr("'t'"));
}

TEST_F(SafetensorsTest, LargeTensorsCrossBlocks) {
  const Tensor tensor = testing::RandomTensor(*device_, {300, 4001}, 1);  // 9.6 MB
  ASSERT_TRUE(Write({{"t", tensor}}).ok());
  const auto reader = SafetensorsReader::Open(path_);
  EXPECT_EQ(Bytes(*reader->Read(reader->tensors()[0], *device_)), Bytes(tensor));
  const Box column{{7, 3999}, {290, 2}};
  const Tensor part = Tensor::Empty(*device_, column.size, DType::kF64);
  ASSERT_TRUE(reader->ReadBox(reader->tensors()[0], column, part).ok());
  for (int64_t i = 0; i < 290; ++i) {
    for (int64_t j = 0; j < 2; ++j) {
      ASSERT_EQ(part.data<double>()[i * 2 + j], tensor.data<double>()[(i + 7) * 4001 + 3999 + j]);
    }
  }
}

TEST_F(SafetensorsTest, WriterTakesPiecesAndViews) {
  const Tensor a = CountingBytes(*device_, {4, 2}, DType::kI32);
  const Tensor transposed = a.AsStrided({2, 4}, {1, 2}, 0);
  auto writer = SafetensorsWriter::Create(
      path_, {{"a", DType::kI32, {4, 2}, 0, 0}, {"t", DType::kI32, {2, 4}, 0, 0}});
  ASSERT_TRUE(writer.ok());
  const char* raw = static_cast<const char*>(a.raw());
  ASSERT_TRUE(writer->Append("a", raw, 5).ok());
  ASSERT_TRUE(writer->Append("t", transposed).ok());
  ASSERT_TRUE(writer->Append("a", raw + 5, 27).ok());
  ASSERT_TRUE(writer->Finish().ok());
  const auto reader = SafetensorsReader::Open(path_);
  EXPECT_EQ(Bytes(*reader->Read(*reader->Find("a"), *device_)), Bytes(a));
  EXPECT_EQ(reader->Read(*reader->Find("t"), *device_)->ToVector(), transposed.ToVector());
}

TEST_F(SafetensorsTest, WriterRefusesBadNames) {
  const auto create = [this](const std::string& a, const std::string& b) {
    return SafetensorsWriter::Create(path_,
                                     {{a, DType::kF32, {1}, 0, 0}, {b, DType::kF32, {1}, 0, 0}})
        .status();
  };
  EXPECT_THAT(Message(create("a", "a")), HasSubstr("'a' twice"));
  EXPECT_THAT(Message(create("a", "\xFF")), HasSubstr("no name"));
  EXPECT_FALSE(create("a", "__metadata__").ok());
  EXPECT_FALSE(PathExists(path_));
}

TEST_F(SafetensorsTest, EmptyFilesOfTheFormat) {
  EXPECT_TRUE(OpenRaw(RawFile("{}", 0)).ok());
  EXPECT_TRUE(OpenRaw(RawFile("{}      ", 0)).ok());
  EXPECT_TRUE(OpenRaw(RawFile(R"({"__metadata__":{}})", 0)).ok());
  ASSERT_TRUE(Write({}).ok());
  EXPECT_TRUE(SafetensorsReader::Open(path_)->tensors().empty());
}

struct BadHeader {
  const char* header;
  int64_t data_bytes;
  const char* message;
};

class SafetensorsRejectionTest : public SafetensorsTest,
                                 public ::testing::WithParamInterface<BadHeader> {};

TEST_P(SafetensorsRejectionTest, NamesFileAndTensor) {
  const Status status = OpenRaw(RawFile(GetParam().header, GetParam().data_bytes));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), HasSubstr(path_));
  EXPECT_THAT(Message(status), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Headers, SafetensorsRejectionTest,
    ::testing::Values(
        BadHeader{"", 0, "does not begin with '{'"}, BadHeader{" {}", 0, "does not begin with '{'"},
        BadHeader{"[]", 0, "does not begin with '{'"},
        BadHeader{"{", 0, "expected a key at byte 1"}, BadHeader{"{} x", 0, "expected the end"},
        BadHeader{R"({"a":{"b":{"c":{"d":{}}}}})", 0, "deeper"},
        BadHeader{R"({"a":1})", 0, "tensor 'a' is not {dtype, shape, data_offsets}"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1]}})", 4, "tensor 'a' is not {"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4, "is not {"},
        BadHeader{R"({"a":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}})", 1, "dtype \"F8\""},
        BadHeader{R"({"a":{"dtype":32,"shape":[1],"data_offsets":[0,1]}})", 1, "dtype 32"},
        BadHeader{R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4, "no list of sizes"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "no list of"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "no list of"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "not [begin, end]"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4,
                  "not [begin, end]"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":{}}})", 4, "not [begin, end]"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4, "not [begin"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4,
                  "has 7 dimensions"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "does not fill"},
        // 2^32 * 2^32 elements wrap to none; 2^62 elements of 4 bytes wrap too.
        BadHeader{R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
                  0, "2^63 elements"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0,
                  "does not fill"},
        BadHeader{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 3, "the file at 3"},
        BadHeader{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 5, "the file at 5"},
        BadHeader{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}})", 5, "with a hole"},
        BadHeader{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                  R"("b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})",
                  7, "tensor 'b' begins at byte 3 of the data, inside"},
        BadHeader{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                  R"("b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})",
                  9, "tensor 'b' begins at byte 5 of the data, with a hole"},
        BadHeader{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                  R"("a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                  8, "key 'a' twice"},
        BadHeader{R"({"__metadata__":[]})", 0, "__metadata__ is no object"},
        BadHeader{R"({"__metadata__":{"a":1}})", 0, "__metadata__ key 'a' is no string"}));

TEST_F(SafetensorsTest, LengthsThatLie) {
  const std::string good = RawFile(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  ASSERT_TRUE(OpenRaw(good).ok());
  for (const uint64_t length :
       {uint64_t{1} << 63, ~uint64_t{0}, uint64_t{100'000'001}, uint64_t{good.size() - 7}}) {
    std::string bad = good;
    std::memcpy(bad.data(), &length, 8);
    EXPECT_THAT(Message(OpenRaw(bad)), HasSubstr(absl::StrCat("header length ", length)));
  }
  EXPECT_THAT(Message(OpenRaw("1234567")), HasSubstr("it has 7 bytes"));
}

TEST_F(SafetensorsTest, EveryTruncationIsRefused) {
  const std::string good = RawFile(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  for (size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(OpenRaw(good.substr(0, n)).ok()) << n;
}

TEST_F(SafetensorsTest, FileThatShrinksWhileOpen) {
  ASSERT_TRUE(Write({{"t", CountingBytes(*device_, {1000}, DType::kU8)}}).ok());
  const auto reader = SafetensorsReader::Open(path_);
  ASSERT_EQ(truncate(path_.c_str(), reader->data_offset() + 10), 0);
  EXPECT_EQ(reader->Read(reader->tensors()[0], *device_).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(SafetensorsTest, FullDiskNamesTheFile) {
  TemporaryDirectory small(64 << 10);
  if (!small.mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted";
  auto writer = SafetensorsWriter::Create(small / "x", {{"t", DType::kU8, {1 << 20}, 0, 0}});
  ASSERT_TRUE(writer.ok());
  const Status status = writer->Append("t", CountingBytes(*device_, {1 << 20}, DType::kU8));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr(small / "x"));
}

}  // namespace
}  // namespace trireme
