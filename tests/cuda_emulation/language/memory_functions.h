// Included before everything in emulated kernels: calls of these functions, the compiler's own
// copies of large structs among them, go where memory is checked.
#pragma once

#ifdef __cplusplus
#include <cstddef>

extern "C" {
void* memcpy(void* to, const void* from, std::size_t bytes) noexcept
    __asm__("trireme_emulated_memcpy");
void* memmove(void* to, const void* from, std::size_t bytes) noexcept
    __asm__("trireme_emulated_memmove");
void* memset(void* to, int value, std::size_t bytes) noexcept __asm__("trireme_emulated_memset");
}
#endif
