#include "parallel/comm/journal.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace trireme {

const char* VerbName(Verb verb) {
  switch (verb) {
    case Verb::kAllReduce:
      return "all_reduce";
    case Verb::kAllGather:
      return "all_gather";
    case Verb::kReduceScatter:
      return "reduce_scatter";
    case Verb::kAllToAll:
      return "all_to_all";
    case Verb::kBroadcast:
      return "broadcast";
    case Verb::kSend:
      return "send";
    case Verb::kRecv:
      return "recv";
    case Verb::kBarrier:
      return "barrier";
    case Verb::kSplit:
      return "split";
  }
  return "?";
}

const char* CallStateName(CallState state) {
  switch (state) {
    case CallState::kQueued:
      return "queued";
    case CallState::kRunning:
      return "running";
    case CallState::kDone:
      return "done";
    case CallState::kFailed:
      return "failed";
  }
  return "?";
}

std::vector<CallRecord> Journal::Records() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<CallRecord> records;
  records.reserve(ring_.size());
  for (int64_t ticket = next_ticket_ - static_cast<int64_t>(ring_.size()); ticket < next_ticket_;
       ++ticket) {
    records.push_back(ring_[ticket % capacity_]);
  }
  return records;
}

std::string Journal::ToString() const {
  const absl::Time now = absl::Now();
  std::string text;
  for (const CallRecord& record : Records()) {
    absl::StrAppend(&text, absl::FormatTime("%H:%M:%E3S ", record.posted, absl::LocalTimeZone()),
                    VerbName(record.verb), " #", record.number, " ", record.purpose, ", ",
                    record.axis);
    if (record.peer >= 0) absl::StrAppend(&text, " peer ", record.peer);
    absl::StrAppend(&text, ": ", CallStateName(record.state), ", ", record.sent_bytes, " bytes");
    const absl::Time started = std::min(record.started, now);
    if (record.state != CallState::kQueued) {
      absl::StrAppend(&text, ", ", absl::FormatDuration(std::min(record.ended, now) - started));
    }
    absl::StrAppend(&text, " (queued ", absl::FormatDuration(started - record.posted), ")\n");
  }
  return text;
}

std::map<std::pair<std::string, std::string>, int64_t> Journal::SentBytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return sent_bytes_;
}

int64_t Journal::SentBytes(absl::string_view axis) const {
  std::lock_guard<std::mutex> lock(mutex_);
  int64_t total = 0;
  for (const auto& [key, bytes] : sent_bytes_) {
    if (key.first == axis) total += bytes;
  }
  return total;
}

int64_t Journal::Add(CallRecord record) {
  record.posted = absl::Now();
  std::lock_guard<std::mutex> lock(mutex_);
  if (static_cast<int>(ring_.size()) < capacity_) {
    ring_.push_back(std::move(record));
  } else {
    ring_[next_ticket_ % capacity_] = std::move(record);
  }
  return next_ticket_++;
}

void Journal::CountBytes(int64_t ticket, const std::string& axis, const std::string& purpose,
                         int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  sent_bytes_[{axis, purpose}] += bytes;
  if (CallRecord* record = Find(ticket)) record->sent_bytes += bytes;
}

void Journal::SetState(int64_t ticket, CallState state) {
  const absl::Time now = absl::Now();
  std::lock_guard<std::mutex> lock(mutex_);
  CallRecord* record = Find(ticket);
  if (record == nullptr) return;
  record->state = state;
  (state == CallState::kRunning ? record->started : record->ended) = now;
}

CallRecord* Journal::Find(int64_t ticket) {
  const bool overwritten = ticket < next_ticket_ - static_cast<int64_t>(ring_.size());
  return overwritten ? nullptr : &ring_[ticket % capacity_];
}

}  // namespace trireme
