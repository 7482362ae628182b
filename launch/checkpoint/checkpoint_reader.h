// Loading a checkpoint, on any layout: any box of a tensor is put together from shards.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/status.h"
#include "core/io/file.h"
#include "launch/checkpoint/saved_state.h"

namespace trireme {

namespace checkpoint {
class Manifest;
class Part;
class TensorRecord;
}  // namespace checkpoint

// Not thread-safe: it keeps files open between reads.
class CheckpointReader {
 public:
  // Reads and checks the manifest; the shards are opened when they are read. DATA_LOSS when it is
  // damaged, INVALID_ARGUMENT when it breaks a rule of the format, UNIMPLEMENTED for a version that
  // is not known.
  static StatusOr<CheckpointReader> Open(const std::string& directory);

  CheckpointReader(CheckpointReader&&) noexcept;
  CheckpointReader& operator=(CheckpointReader&&) noexcept;
  ~CheckpointReader();

  const std::string& directory() const { return directory_; }
  const CheckpointInfo& info() const { return info_; }

  struct TensorInfo {
    std::string name;
    Shape global;
    DType dtype;
    ReplicaPolicy policy;
  };
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // By name.
  const TensorInfo* Find(absl::string_view name) const;  // nullptr when there is none.

  // FAILED_PRECONDITION when the checkpoint was saved under another config.
  Status CheckConfigHash(absl::string_view expected) const;

  // Fills tensor.data. Every block that is read is checked against its checksum: DATA_LOSS names
  // file and byte. INVALID_ARGUMENT when shape, dtype or policy are not those of the saved tensor,
  // NOT_FOUND when there is none of that name. With another number of replicas than saved the
  // policy decides.
  Status Read(const SavedTensor& tensor);

  // Checks that the shards are there, of the right size, and that their headers agree with the
  // manifest; kData: that every byte has its checksum.
  enum class Depth { kHeaders, kData };
  Status Verify(Depth depth);

 private:
  CheckpointReader();

  StatusOr<const File*> OpenShard(int index);
  // An undefined dst: the blocks are read and checked only.
  Status ReadPart(const checkpoint::TensorRecord& record, const checkpoint::Part& part,
                  const BoxRuns& runs, const Tensor& dst);
  Status ReadBox(const checkpoint::TensorRecord& record, const Box& box, const Tensor& dst);
  Status ReadForOtherReplicas(const checkpoint::TensorRecord& record, const SavedTensor& tensor);

  std::string directory_;
  std::unique_ptr<checkpoint::Manifest> manifest_;
  CheckpointInfo info_;
  std::vector<TensorInfo> tensors_;
  absl::flat_hash_map<std::string, size_t> by_name_;  // Into tensors_.
  std::vector<File> files_;     // As in the manifest; one that is not open has no path.
  std::deque<int> open_order_;  // Those that are open, oldest first.
};

}  // namespace trireme
