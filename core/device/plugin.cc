#include "core/device/plugin.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"

#include "core/device/kernel.h"

namespace trireme {
namespace {

// The slots of the kernel table: a plug-in of other sources is likely to differ there.
constexpr char kBuild[] = "g++ " __VERSION__
#define KERNEL(Name) " " #Name
#include "core/ops/kernels.def"
#undef KERNEL
    ;

// The folder of the running program, with a slash; empty when the system does not tell.
std::string ProgramFolder() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0) return "";
  std::string program(path, length);
  return program.substr(0, program.rfind('/') + 1);
}

StatusOr<void*> Open(const std::string& library) {
  const std::string file = absl::StrCat("lib", library, ".so");
  const std::string folder = ProgramFolder();
  for (const std::string& path : {absl::StrCat(folder, file), absl::StrCat(folder, "../", file),
                                  absl::StrCat(folder, "../", TRIREME_LIBDIR, "/", file)}) {
    if (access(path.c_str(), F_OK) != 0) continue;
    if (void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    return absl::UnavailableError(dlerror());
  }
  if (void* const handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
  return absl::UnavailableError(absl::StrCat("this build has no ", file, " (", dlerror(), ")"));
}

}  // namespace

const char* PluginBuild() { return kBuild; }

StatusOr<void*> PluginSymbol(const std::string& library, const char* symbol) {
  ASSIGN_OR_RETURN(void* const handle, Open(library));
  const auto build = reinterpret_cast<const char* (*)()>(dlsym(handle, "trireme_plugin_build"));
  if (build == nullptr || std::strcmp(build(), kBuild) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("lib", library, ".so is of another build of Trireme; build both again"));
  }
  void* const address = dlsym(handle, symbol);
  if (address == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("lib", library, ".so has no ", symbol));
  }
  return address;
}

bool HasCudaDriver() { return dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) != nullptr; }

}  // namespace trireme
