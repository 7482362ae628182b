// Calls that fail because a test wants them to. Every call of the stand-ins' functions is of a
// site, the place that it returns to; a test runs something once to learn its sites, and then again
// for each of them with the first call from there failing.
#pragma once

#include <cstdint>

namespace trireme::emulation {

bool FailsNow(const char* function, const void* caller);

}  // namespace trireme::emulation

// First in a function of a CUDA library: returns `code` when a test asks for it.
#define FAIL_IF_ASKED(code)                                                                   \
  do {                                                                                        \
    if (::trireme::emulation::FailsNow(__func__, __builtin_return_address(0))) [[unlikely]] { \
      return code;                                                                            \
    }                                                                                         \
  } while (false)

// A plug-in hides its own symbols; these are what tests look up in it.
extern "C" {
#define EXPORTED __attribute__((visibility("default")))
// How many sites have been seen, and the function that site `i` calls.
EXPORTED int64_t trireme_emulation_num_sites();
EXPORTED const char* trireme_emulation_site_function(int64_t i);
// The next call from site i fails; -1: none does.
EXPORTED void trireme_emulation_fail_site(int64_t i);
// Whether that call came.
EXPORTED bool trireme_emulation_has_failed();
// TakeErrors, their number.
EXPORTED int64_t trireme_emulation_take_errors();
#undef EXPORTED
}
