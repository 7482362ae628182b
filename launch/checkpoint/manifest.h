// The manifest of a checkpoint between its bytes and its message, checked.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

#include "core/base/status.h"
#include "core/tensor/box.h"
#include "core/tensor/dtype.h"
#include "launch/checkpoint/manifest.pb.h"

namespace trireme {

inline constexpr char kManifestName[] = "manifest.pb";
inline constexpr int64_t kMaxManifestBytes = 256 << 20;
inline constexpr uint32_t kManifestVersion = 1;

// The bytes of manifest.pb, checksum included. INVALID_ARGUMENT when `manifest` breaks a rule: what
// ParseManifest would refuse is never written. Fills format_version and crc32c.
StatusOr<std::string> SerializeManifest(checkpoint::Manifest manifest);

// Checks every rule of manifest.proto before anything is believed: nothing in the result lies
// outside its tensor, its file or its directory, and no product of sizes overflows.
StatusOr<checkpoint::Manifest> ParseManifest(absl::string_view bytes);

// Of a checked manifest.
Shape ShapeOf(const checkpoint::TensorRecord& record);
DType DTypeOfRecord(const checkpoint::TensorRecord& record);
Box BoxOf(const checkpoint::Part& part);

}  // namespace trireme
