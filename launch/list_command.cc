// trireme list: what is registered.
#include <algorithm>
#include <cstdio>

#include "core/base/params.h"
#include "launch/bootstrap.h"
#include "launch/catalogue.h"
#include "launch/commands.h"

namespace trireme {
namespace {

int RunList(const CommandLine& line) {
  const std::vector<Listing> catalogue = Catalogue();
  std::string family;
  if (!line.positional().empty()) {
    family = line.positional()[0];
    const std::vector<std::string> known = Families(catalogue);
    if (std::find(known.begin(), known.end(), family) == known.end()) {
      return UsageError(absl::InvalidArgumentError(UnknownNameMessage("family", family, known)));
    }
  }
  std::fputs(FormatCatalogue(catalogue, family).c_str(), stdout);
  return kExitDone;
}

}  // namespace

Command ListCommand() {
  return {{"list",
           "Prints every registered component with its parameters.",
           "[family]",
           0,
           1,
           {},
           "trireme list optimizer"},
          &RunList};
}

}  // namespace trireme
