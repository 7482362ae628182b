#include "core/tensor/storage.h"

#include "core/base/log.h"
#include "core/base/status.h"

namespace trireme {

std::shared_ptr<Storage> Storage::Allocate(Device& device, size_t bytes, MemoryKind kind,
                                           absl::string_view label) {
  std::shared_ptr<Storage> storage(new Storage(device, bytes, kind, label));
  storage->Refill();
  return storage;
}

Storage::Storage(Device& device, size_t bytes, MemoryKind kind, absl::string_view label)
    : device_(&device), bytes_(bytes), kind_(kind), label_(label) {}

Storage::~Storage() { Release(); }

void* Storage::data() const {
  CHECK(resident()) << "the storage of '" << label_ << "' was released";
  return block_.data;
}

void Storage::Release() {
  if (!resident()) return;
  device_->Free(block_);
  block_ = Block();
}

void Storage::Refill() {
  if (resident()) return;
  block_ = ValueOrThrow(device_->Allocate(bytes_, kind_, label_));
}

}  // namespace trireme
