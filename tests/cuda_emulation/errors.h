// What the emulated device finds wrong. Each error is one line on stderr; a program that ends with
// errors that no test took exits with kExitCode, whatever its own verdict was.
#pragma once

#include <string>
#include <vector>

namespace trireme::emulation {

inline constexpr int kExitCode = 86;

void ReportError(const std::string& message);

// The messages since the last call; every device is well again. For tests that provoke errors.
std::vector<std::string> TakeErrors();

// What addresses are in, for messages: "attention_forward<float>(...)" of a function.
std::string FunctionName(const void* address);
// " at file:line" of an instruction, as addr2line tells it; else " at program+offset".
std::string SourceLine(const void* instruction);

__attribute__((format(printf, 1, 2))) std::string Format(const char* format, ...);

}  // namespace trireme::emulation
