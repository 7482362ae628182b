#include "models/attention/token_mixer.h"

namespace trireme {

void TokenMixer::AddKernels(std::set<std::string>* names) const {
  names->insert({"RecurrenceStates", "RecurrenceOutput", "RecurrenceTransition",
                 "RecurrenceBackward", "ShortConv", "ShortConvBackward"});
}

}  // namespace trireme
