#include "core/device/device.h"

#include "absl/strings/str_format.h"

namespace trireme {

const char* MemoryKindName(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kParameters:
      return "parameters";
    case MemoryKind::kGradients:
      return "gradients";
    case MemoryKind::kOptimizer:
      return "optimizer";
    case MemoryKind::kActivations:
      return "activations";
    case MemoryKind::kCommunication:
      return "communication";
    case MemoryKind::kWorkspace:
      return "workspace";
  }
  return "?";
}

std::string FormatMemoryStats(const MemoryStats& stats) {
  constexpr double kMiB = 1 << 20;
  std::string text;
  for (int i = 0; i < kNumMemoryKinds; ++i) {
    absl::StrAppendFormat(&text, "  %-14s %10.1f MiB (peak %.1f MiB)\n",
                          MemoryKindName(static_cast<MemoryKind>(i)), stats.current_bytes[i] / kMiB,
                          stats.peak_bytes[i] / kMiB);
  }
  absl::StrAppendFormat(&text, "  %-14s %10.1f MiB (peak %.1f MiB), %.1f MiB from the system\n",
                        "total", stats.current_total_bytes / kMiB, stats.peak_total_bytes / kMiB,
                        stats.reserved_bytes / kMiB);
  return text;
}

}  // namespace trireme
