#include "launch/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "core/base/log.h"
#include "core/io/crc32c.h"

namespace trireme {
namespace {

using checkpoint::Manifest;
using ::testing::HasSubstr;

std::string Message(const Status& status) { return std::string(status.message()); }

Manifest Good() {
  Manifest manifest;
  CHECK(google::protobuf::TextFormat::ParseFromString(
      R"pb(
        format_version: 1
        step: 3
        config_hash: "h"
        block_bytes: 16
        mesh { name: "replica" size: 2 }
        scalars { name: "next" integer: 5 }
        files { name: "a.safetensors" bytes: 88 header_bytes: 64 }
        files { name: "b.safetensors" bytes: 80 header_bytes: 64 }
        tensors {
          name: "t"
          dtype: "F32"
          shape: 5
          shape: 2
          parts {
            file: 0
            begin: 0
            begin: 0
            size: 3
            size: 2
            offset: 64
            block_crc32c: 1
            block_crc32c: 2
          }
          parts { file: 1 begin: 3 begin: 0 size: 2 size: 2 offset: 64 block_crc32c: 3 }
        })pb",
      &manifest));
  return manifest;
}

// The bytes of a manifest that breaks rules, with a sound checksum.
std::string Bytes(const Manifest& manifest) {
  std::string bytes = manifest.SerializeAsString();
  const uint32_t crc = Crc32c(bytes.data(), bytes.size());
  bytes.push_back(0x7D);
  bytes.append(reinterpret_cast<const char*>(&crc), 4);
  return bytes;
}

TEST(ManifestTest, RoundTrip) {
  const auto bytes = SerializeManifest(Good());
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, Bytes(Good()));
  const auto manifest = ParseManifest(*bytes);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  Manifest plain;
  EXPECT_TRUE(plain.ParseFromString(*bytes)) << "the checksum is a field of the message";
  EXPECT_EQ(plain.crc32c(), manifest->crc32c());
  EXPECT_EQ(ShapeOf(manifest->tensors(0)), (Shape{5, 2}));
  EXPECT_EQ(BoxOf(manifest->tensors(0).parts(1)), (Box{{3, 0}, {2, 2}}));
}

TEST(ManifestTest, EveryTruncationAndEveryFlippedBitIsRefused) {
  const std::string bytes = *SerializeManifest(Good());
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(ParseManifest(bytes.substr(0, n)).ok()) << n;
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = bytes;
      bad[n] ^= 1 << bit;
      EXPECT_FALSE(ParseManifest(bad).ok()) << n;
    }
  }
  EXPECT_THAT(Message(ParseManifest(bytes + "\x7D"
                                            "abcd")
                          .status()),
              HasSubstr("damaged"));
}

struct BadManifest {
  const char* message;
  std::function<void(Manifest*)> change;
};

TEST(ManifestTest, EveryBrokenRuleIsNamed) {
  const int64_t huge = int64_t{1} << 62;
  const BadManifest cases[] = {
      {"format version 2; this program reads 1", [](Manifest* m) { m->set_format_version(2); }},
      {"step -1", [](Manifest* m) { m->set_step(-1); }},
      {"blocks of 0 bytes", [](Manifest* m) { m->set_block_bytes(0); }},
      {"blocks of 12 bytes", [](Manifest* m) { m->set_block_bytes(12); }},
      {"blocks of", [=](Manifest* m) { m->set_block_bytes(huge); }},
      {"mesh axis 'replica' twice", [](Manifest* m) { *m->add_mesh() = m->mesh(0); }},
      {"mesh axis 'replica' of 0", [](Manifest* m) { m->mutable_mesh(0)->set_size(0); }},
      {"scalar 'next' twice", [](Manifest* m) { *m->add_scalars() = m->scalars(0); }},
      {"scalar 'next' has no value", [](Manifest* m) { m->mutable_scalars(0)->clear_value(); }},
      {"scalar without a name", [](Manifest* m) { m->mutable_scalars(0)->clear_name(); }},
      {"file 'a.safetensors' twice",
       [](Manifest* m) { m->mutable_files(1)->set_name("a.safetensors"); }},
      {"'/etc/passwd' is no name",
       [](Manifest* m) { m->mutable_files(0)->set_name("/etc/passwd"); }},
      {"'../a' is no name", [](Manifest* m) { m->mutable_files(0)->set_name("../a"); }},
      {"'..' is no name", [](Manifest* m) { m->mutable_files(0)->set_name(".."); }},
      {"'a/b' is no name", [](Manifest* m) { m->mutable_files(0)->set_name("a/b"); }},
      {"is no name", [](Manifest* m) { m->mutable_files(0)->set_name("a\nb"); }},
      {"is no name", [](Manifest* m) { m->mutable_files(0)->set_name(std::string(256, 'a')); }},
      {"has 10 bytes and a header of 64", [](Manifest* m) { m->mutable_files(0)->set_bytes(10); }},
      {"a header of -1", [](Manifest* m) { m->mutable_files(0)->set_header_bytes(-1); }},
      {"tensor 't' twice", [](Manifest* m) { *m->add_tensors() = m->tensors(0); }},
      {"unknown dtype 'F8'", [](Manifest* m) { m->mutable_tensors(0)->set_dtype("F8"); }},
      {"has 7 dimensions",
       [](Manifest* m) {
         for (int i = 0; i < 5; ++i) m->mutable_tensors(0)->add_shape(1);
       }},
      {"negative dimension", [](Manifest* m) { m->mutable_tensors(0)->set_shape(0, -5); }},
      {"2^63 elements", [=](Manifest* m) { m->mutable_tensors(0)->set_shape(0, huge); }},
      {"2^63 bytes", [=](Manifest* m) { m->mutable_tensors(0)->set_shape(0, huge / 4); }},
      {"unknown policy 9",
       [](Manifest* m) { m->mutable_tensors(0)->set_policy(checkpoint::ReplicaPolicy(9)); }},
      {"per replica but has no dimension",
       [](Manifest* m) {
         m->mutable_tensors(0)->clear_shape();
         m->mutable_tensors(0)->set_policy(checkpoint::MEAN);
       }},
      {"names file 2 of 2",
       [](Manifest* m) { m->mutable_tensors(0)->mutable_parts(1)->set_file(2); }},
      {"part of another rank",
       [](Manifest* m) { m->mutable_tensors(0)->mutable_parts(1)->add_size(1); }},
      {"negative or no size",
       [](Manifest* m) { m->mutable_tensors(0)->mutable_parts(1)->set_size(0, 0); }},
      {"negative or no size",
       [](Manifest* m) { m->mutable_tensors(0)->mutable_parts(1)->set_begin(0, -1); }},
      {"is no box", [](Manifest* m) { m->mutable_tensors(0)->mutable_parts(1)->set_begin(0, 4); }},
      {"overlap", [](Manifest* m) { m->mutable_tensors(0)->mutable_parts(1)->set_begin(0, 2); }},
      {"cover 6 of 10", [](Manifest* m) { m->mutable_tensors(0)->mutable_parts()->RemoveLast(); }},
      {"24 bytes at byte 56",
       [](Manifest* m) { m->mutable_tensors(0)->mutable_parts(0)->set_offset(56); }},
      {"at byte 9223372036854775807",
       [](Manifest* m) { m->mutable_tensors(0)->mutable_parts(0)->set_offset(INT64_MAX); }},
      {"24 bytes at byte 72",
       [](Manifest* m) { m->mutable_tensors(0)->mutable_parts(0)->set_offset(72); }},
      {"has 3 checksums for 2 blocks",
       [](Manifest* m) { m->mutable_tensors(0)->mutable_parts(0)->add_block_crc32c(1); }},
      {"with a hole after", [](Manifest* m) { m->mutable_files(1)->set_header_bytes(60); }},
      {"inside the one that ends",
       [](Manifest* m) {
         m->mutable_files(0)->set_bytes(104);
         m->mutable_tensors(0)->mutable_parts(1)->set_file(0);
       }},
      {"parts end at byte 80 of 81", [](Manifest* m) { m->mutable_files(1)->set_bytes(81); }},
      {"65537 parts, more than",
       [](Manifest* m) {
         while (m->tensors(0).parts_size() < 65537) m->mutable_tensors(0)->add_parts();
       }},
  };
  for (const BadManifest& c : cases) {
    Manifest manifest = Good();
    c.change(&manifest);
    const Status status = ParseManifest(Bytes(manifest)).status();
    EXPECT_FALSE(status.ok()) << c.message;
    EXPECT_THAT(Message(status), HasSubstr(c.message));
    if (manifest.format_version() == 1) {
      EXPECT_THAT(Message(SerializeManifest(manifest).status()), HasSubstr(c.message))
          << "what is not read is not written";
    }
  }
}

TEST(ManifestTest, NamesAreUnicode) {
  Manifest manifest = Good();
  manifest.mutable_tensors(0)->set_name("\xFF");
  EXPECT_FALSE(SerializeManifest(manifest).ok()) << "it could not be read back";
}

TEST(ManifestTest, NoMessage) {
  std::string bytes = "\x0F\xFF";
  const uint32_t crc = Crc32c(bytes.data(), bytes.size());
  bytes.push_back(0x7D);
  bytes.append(reinterpret_cast<const char*>(&crc), 4);
  EXPECT_THAT(Message(ParseManifest(bytes).status()), HasSubstr("no message of its type"));
}

}  // namespace
}  // namespace trireme
