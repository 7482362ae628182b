#include "parallel/coding/decoder.h"

#include <utility>

#include "core/base/log.h"

namespace trireme {

Decoder::Decoder(const GradientCode& code, size_t capacity) : code_(code), capacity_(capacity) {
  CHECK(capacity > 0);
}

StatusOr<const Decoding*> Decoder::Decode(absl::Span<const uint64_t> arrived) {
  std::string key(reinterpret_cast<const char*>(arrived.data()), arrived.size() * sizeof(uint64_t));
  const auto place = places_.find(key);
  if (place != places_.end()) {
    kept_.splice(kept_.begin(), kept_, place->second);
    return &kept_.front().second;
  }
  ++num_solved_;
  ASSIGN_OR_RETURN(Decoding decoding, code_.Decode(arrived));
  if (kept_.size() == capacity_) {
    places_.erase(kept_.back().first);
    kept_.pop_back();
  }
  kept_.emplace_front(key, std::move(decoding));
  places_[std::move(key)] = kept_.begin();
  return &kept_.front().second;
}

}  // namespace trireme
