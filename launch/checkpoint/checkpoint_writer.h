// Saving a checkpoint: every rank writes one shard into a temporary directory, rank 0 adds the
// manifest and renames the directory. Until then nothing of it is found by FindLatest; afterwards
// all of it is.
//
// The library does not communicate: the caller supplies two functions.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "core/base/status.h"
#include "launch/checkpoint/saved_state.h"

namespace trireme {

// The ranks that save together. Both functions are called by all of them, in the same order.
struct CheckpointGroup {
  int rank = 0;
  int size = 1;
  // Gives rank 0 everybody's text, in rank order; what it gives the others is not looked at.
  std::function<StatusOr<std::vector<std::string>>(const std::string& mine)> gather;
  // Gives everybody rank 0's text.
  std::function<StatusOr<std::string>(const std::string& text_of_rank_0)> broadcast;

  // One rank that needs nobody.
  static CheckpointGroup Single();
};

// Saves `dir`/step-00000012 and then removes all but the newest `keep` usable checkpoints. Every
// rank returns the same status. On an error (a full disk, named with file and byte) the temporary
// directory is removed and the checkpoints that were there stay.
Status SaveCheckpoint(const CheckpointGroup& group, const std::string& dir,
                      absl::Span<const SavedTensor> tensors, const CheckpointInfo& info, int keep);

// The phases of SaveCheckpoint, for callers that communicate in their own way.
class CheckpointWriter {
 public:
  CheckpointWriter(std::string dir, int64_t step) : dir_(std::move(dir)), step_(step) {}

  // Rank 0, before the others go on: clears what earlier saves left, makes the temporary directory.
  Status Prepare();
  // Each rank: writes and fsyncs its shard. Returns, as bytes, what Commit needs to know of it.
  StatusOr<std::string> WriteShard(int rank, int num_ranks, absl::Span<const SavedTensor> tensors);
  // Rank 0, with the reports of all ranks in rank order: checks that the boxes tile, writes the
  // manifest, publishes. INVALID_ARGUMENT names the tensor whose boxes overlap or leave a hole.
  Status Commit(absl::Span<const std::string> reports, const CheckpointInfo& info);
  // Rank 0, after an error: removes the temporary directory.
  Status Abandon();

 private:
  std::string dir_;
  int64_t step_;
};

}  // namespace trireme
