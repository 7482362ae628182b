// CRC-32C (Castagnoli), the checksum of iSCSI (RFC 3720, appendix B.4): reflected polynomial
// 0x82F63B78. It detects every error burst of up to 32 bits, so every flipped bit and byte.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme {

// The checksum of a || b, where `crc` is the checksum of a and `data` is b. That of nothing is 0.
uint32_t ExtendCrc32c(uint32_t crc, const void* data, size_t bytes);

inline uint32_t Crc32c(const void* data, size_t bytes) { return ExtendCrc32c(0, data, bytes); }

namespace internal {
// The two implementations behind ExtendCrc32c, for tests; the second needs HaveSse42().
uint32_t ExtendCrc32cTables(uint32_t crc, const void* data, size_t bytes);
uint32_t ExtendCrc32cSse42(uint32_t crc, const void* data, size_t bytes);
bool HaveSse42();
}  // namespace internal

}  // namespace trireme
