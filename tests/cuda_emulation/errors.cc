#include "tests/cuda_emulation/errors.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "tests/cuda_emulation/machine.h"

namespace trireme::emulation {
namespace {

struct Errors {
  std::mutex mutex;
  std::vector<std::string> messages;
};
Errors& AllErrors() {
  static Errors& errors = *new Errors;
  return errors;
}

void FailProgram() {
  const std::lock_guard<std::mutex> lock(AllErrors().mutex);
  const size_t num_errors = AllErrors().messages.size();
  if (num_errors == 0) return;
  fprintf(stderr, "emulated device: the program ends with %zu error(s), the first: %s\n",
          num_errors, AllErrors().messages[0].c_str());
  fflush(nullptr);
  _exit(kExitCode);
}

std::string FirstLineOf(const std::string& command) {
  FILE* output = popen(command.c_str(), "r");
  if (output == nullptr) return "";
  char line[1024] = "";
  if (fgets(line, sizeof(line), output) == nullptr) line[0] = '\0';
  pclose(output);
  std::string text = line;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

std::string Format(const char* format, ...) {
  va_list args;
  va_start(args, format);
  char text[2048];
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  return text;
}

void ReportError(const std::string& message) {
  Errors& errors = AllErrors();
  const std::lock_guard<std::mutex> lock(errors.mutex);
  static const int registered = std::atexit(FailProgram);
  static_cast<void>(registered);
  fprintf(stderr, "emulated device: %s\n", message.c_str());
  errors.messages.push_back(message);
}

std::vector<std::string> TakeErrors() {
  Machine::Get().Recover();
  Errors& errors = AllErrors();
  const std::lock_guard<std::mutex> lock(errors.mutex);
  return std::exchange(errors.messages, {});
}

std::string SourceLine(const void* instruction) {
  Dl_info info;
  if (dladdr(instruction, &info) == 0 || info.dli_fname == nullptr) {
    return Format(" at %p", instruction);
  }
  const uintptr_t offset =
      reinterpret_cast<uintptr_t>(instruction) - reinterpret_cast<uintptr_t>(info.dli_fbase);
  const std::string line =
      FirstLineOf(Format("addr2line -e '%s' 0x%zx 2>/dev/null", info.dli_fname, offset));
  if (!line.empty() && line[0] != '?') return " at " + line.substr(line.rfind('/') + 1);
  return Format(" at %s+0x%zx", info.dli_fname, offset);
}

std::string FunctionName(const void* address) {
  Dl_info info;
  if (dladdr(address, &info) == 0) return Format("%p", address);
  std::string symbol = info.dli_sname != nullptr && info.dli_saddr == address ? info.dli_sname : "";
  if (symbol.empty()) {
    // Hidden symbols are not where the dynamic linker looks.
    const uintptr_t offset =
        reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(info.dli_fbase);
    symbol = FirstLineOf(Format("addr2line -f -e '%s' 0x%zx 2>/dev/null", info.dli_fname, offset));
  }
  int status = 0;
  char* demangled = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  std::string name = demangled != nullptr ? demangled : symbol;
  free(demangled);
  // "void scale<float>(float*, long)": the parameters say little.
  if (!name.empty() && name.back() == ')') {
    size_t begin = name.size() - 1;
    for (int depth = 1; depth > 0 && begin > 0;) {
      --begin;
      depth += name[begin] == ')' ? 1 : name[begin] == '(' ? -1 : 0;
    }
    name.resize(begin);
  }
  if (name.rfind("void ", 0) == 0) name.erase(0, 5);
  return name.empty() ? Format("%p", address) : name;
}

}  // namespace trireme::emulation
