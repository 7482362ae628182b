// Libraries that are loaded when they are needed, so that the program starts on machines without
// what they link to.
#pragma once

#include <string>

#include "core/base/status.h"

namespace trireme {

// The address of `symbol` in lib<library>.so, which lies beside the program, in the folder above
// it, among the libraries installed with it, or where the system looks; it is loaded once and
// stays. UNAVAILABLE when it is not there or cannot be loaded; FAILED_PRECONDITION when it belongs
// to another build of Trireme, whose types may differ.
StatusOr<void*> PluginSymbol(const std::string& library, const char* symbol);

// What a plug-in says of itself in `const char* trireme_plugin_build()`: equal for one build.
const char* PluginBuild();

// Whether the machine has a CUDA driver, which says nothing of a device.
bool HasCudaDriver();

}  // namespace trireme
