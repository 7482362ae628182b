#include "optim/update_items.h"

#include "core/base/log.h"

namespace trireme {

std::vector<UpdateItem> MakeUpdateItems(absl::Span<const UpdateSlice> slices) {
  std::vector<UpdateItem> items;
  items.reserve(slices.size());
  for (const UpdateSlice& slice : slices) {
    UpdateItem item{slice.owned.view(),  slice.grad.view(), View(), {},
                    slice.learning_rate, slice.weight_decay};
    if (slice.working.defined()) item.working = slice.working.view();
    CHECK_LE(slice.states.size(), 2u);
    for (size_t i = 0; i < slice.states.size(); ++i) item.states[i] = slice.states[i].view();
    items.push_back(item);
  }
  return items;
}

}  // namespace trireme
