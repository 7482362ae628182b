#include "core/ops/catalogue.h"

namespace trireme {

void AppendOpListings(std::vector<Listing>* listings) {
#define OP(name, doc) listings->push_back({"op", #name, doc, {}});
#include "core/ops/ops.def"
#undef OP
}

}  // namespace trireme
