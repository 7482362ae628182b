#include "tests/cuda_emulation/fault_injection.h"

#include <mutex>
#include <unordered_map>
#include <vector>

#include "tests/cuda_emulation/errors.h"

namespace trireme::emulation {
namespace {

struct Sites {
  std::mutex mutex;
  std::unordered_map<const void*, int64_t> numbers;  // By where the call returns to.
  std::vector<const char*> functions;
  int64_t failing = -1;
  bool has_failed = false;
};
Sites& AllSites() {
  static Sites& sites = *new Sites;
  return sites;
}

}  // namespace

bool FailsNow(const char* function, const void* caller) {
  Sites& sites = AllSites();
  const std::lock_guard<std::mutex> lock(sites.mutex);
  const auto [site, is_new] =
      sites.numbers.try_emplace(caller, static_cast<int64_t>(sites.functions.size()));
  if (is_new) sites.functions.push_back(function);
  if (site->second != sites.failing) return false;
  sites.failing = -1;
  sites.has_failed = true;
  return true;
}

}  // namespace trireme::emulation

using trireme::emulation::AllSites;

int64_t trireme_emulation_num_sites() {
  const std::lock_guard<std::mutex> lock(AllSites().mutex);
  return static_cast<int64_t>(AllSites().functions.size());
}
const char* trireme_emulation_site_function(int64_t i) {
  const std::lock_guard<std::mutex> lock(AllSites().mutex);
  return AllSites().functions.at(static_cast<size_t>(i));
}
void trireme_emulation_fail_site(int64_t i) {
  const std::lock_guard<std::mutex> lock(AllSites().mutex);
  AllSites().failing = i;
  AllSites().has_failed = false;
}
bool trireme_emulation_has_failed() {
  const std::lock_guard<std::mutex> lock(AllSites().mutex);
  return AllSites().has_failed;
}
int64_t trireme_emulation_take_errors() {
  return static_cast<int64_t>(trireme::emulation::TakeErrors().size());
}
