#include "launch/checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/io/crc32c.h"
#include "core/io/file.h"
#include "core/io/safetensors.h"
#include "launch/checkpoint/checkpoint_dir.h"
#include "launch/checkpoint/manifest.h"

namespace trireme {
namespace {

using checkpoint::Manifest;
using checkpoint::Part;
using checkpoint::ShardReport;
using checkpoint::TensorRecord;

constexpr int64_t kBlockBytes = 1 << 20;

std::string Serialized(const Status& status) {
  ShardReport report;
  report.set_status_code(static_cast<int>(status.code()));
  report.set_status_message(std::string(status.message()));
  return report.SerializeAsString();
}

StatusOr<ShardReport> ParseReport(const std::string& text) {
  ShardReport report;
  if (!report.ParseFromString(text)) return absl::InternalError("a report of a shard is damaged");
  if (report.status_code() != 0) {
    return Status(static_cast<absl::StatusCode>(report.status_code()), report.status_message());
  }
  return report;
}

// Writes the tensor block by block and notes the checksum of each block.
Status WriteTensor(const Tensor& tensor, const std::string& entry, SafetensorsWriter* writer,
                   Part* part) {
  Tensor dense;
  RETURN_IF_ERROR(CatchFailure([&] { dense = tensor.Contiguous(); }));
  Device& device = dense.device();
  const int64_t bytes = dense.numel() * DTypeSize(dense.dtype());
  std::vector<char> block(std::min(bytes, kBlockBytes));
  for (int64_t at = 0; at < bytes; at += kBlockBytes) {
    const int64_t size = std::min(kBlockBytes, bytes - at);
    device.Copy(block.data(), static_cast<const char*>(dense.raw()) + at, size, device.compute());
    RETURN_IF_ERROR(device.Synchronize());
    part->add_block_crc32c(Crc32c(block.data(), size));
    RETURN_IF_ERROR(writer->Append(entry, block.data(), size));
  }
  part->set_offset(writer->Find(entry)->offset);
  return absl::OkStatus();
}

TensorRecord RecordOf(const SavedTensor& tensor) {
  TensorRecord record;
  record.set_name(tensor.name);
  record.set_dtype(SafetensorsDTypeName(tensor.data.dtype()));
  for (const int64_t dim : tensor.global.dims()) record.add_shape(dim);
  record.set_policy(static_cast<checkpoint::ReplicaPolicy>(tensor.policy));
  return record;
}

// Adds what rank `rank` wrote, as file number `file`, to the records of all.
Status MergeRecords(const ShardReport& report, int rank, uint32_t file,
                    std::map<std::string, TensorRecord>* records) {
  for (const TensorRecord& record : report.tensors()) {
    const auto [it, is_new] = records->try_emplace(record.name(), record);
    TensorRecord& merged = it->second;
    if (is_new) merged.clear_parts();
    if (merged.dtype() != record.dtype() || merged.policy() != record.policy() ||
        ShapeOf(merged) != ShapeOf(record)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", record.name(), "' of rank ", rank,
                       " has another shape, dtype or policy than on the ranks before"));
    }
    for (const Part& part : record.parts()) {
      Part* added = merged.add_parts();
      *added = part;
      added->set_file(file);
    }
  }
  return absl::OkStatus();
}

void FillInfo(const CheckpointInfo& info, Manifest* manifest) {
  manifest->set_step(info.step);
  manifest->set_config_hash(info.config_hash);
  manifest->set_config(info.config);
  for (const auto& [name, size] : info.mesh) {
    checkpoint::MeshAxis* axis = manifest->add_mesh();
    axis->set_name(name);
    axis->set_size(size);
  }
  for (const auto& [name, value] : info.scalars) {
    checkpoint::Scalar* scalar = manifest->add_scalars();
    scalar->set_name(name);
    if (const int64_t* integer = std::get_if<int64_t>(&value)) scalar->set_integer(*integer);
    if (const double* number = std::get_if<double>(&value)) scalar->set_number(*number);
    if (const std::string* text = std::get_if<std::string>(&value)) scalar->set_text(*text);
  }
}

}  // namespace

CheckpointGroup CheckpointGroup::Single() {
  CheckpointGroup group;
  group.gather = [](const std::string& mine) { return std::vector<std::string>{mine}; };
  group.broadcast = [](const std::string& text) { return text; };
  return group;
}

Status CheckpointWriter::Prepare() {
  RETURN_IF_ERROR(MakeDirectory(dir_));
  RETURN_IF_ERROR(RemoveLeftovers(dir_));
  return MakeDirectory(TemporaryName(JoinPath(dir_, CheckpointName(step_))));
}

StatusOr<std::string> CheckpointWriter::WriteShard(int rank, int num_ranks,
                                                   absl::Span<const SavedTensor> tensors) {
  ShardReport report;
  std::vector<SafetensorsEntry> entries;  // One for each part, in the same order.
  std::vector<std::pair<const SavedTensor*, Part*>> parts;
  std::map<std::string, TensorRecord*> records;
  std::map<std::string, int> num_boxes;
  for (const SavedTensor& tensor : tensors) {
    CHECK_EQ(tensor.data.shape(), tensor.local.size) << tensor.name << " [checkpoint]";
    RETURN_IF_ERROR(Annotate(CheckInside(tensor.local, tensor.global), tensor.name));
    TensorRecord*& record = records[tensor.name];
    if (record == nullptr) {
      record = report.add_tensors();
      *record = RecordOf(tensor);
    }
    if (tensor.local.numel() == 0) continue;
    Part* const part = record->add_parts();
    for (const int64_t begin : tensor.local.begin.dims()) part->add_begin(begin);
    for (const int64_t size : tensor.local.size.dims()) part->add_size(size);
    // A second box of one tensor needs a name of its own in the file.
    const int box = num_boxes[tensor.name]++;
    if (box > 0) part->set_entry(absl::StrCat(tensor.name, "#", box));
    entries.push_back(
        {box > 0 ? part->entry() : tensor.name, tensor.data.dtype(), tensor.data.shape(), 0, 0});
    parts.push_back({&tensor, part});
  }
  if (parts.empty()) return report.SerializeAsString();

  const std::string name = absl::StrFormat("shard-%05d-of-%05d.safetensors", rank, num_ranks);
  const std::string path = JoinPath(TemporaryName(JoinPath(dir_, CheckpointName(step_))), name);
  ASSIGN_OR_RETURN(SafetensorsWriter writer,
                   SafetensorsWriter::Create(path, entries, {{"format", "trireme"}}));
  for (size_t i = 0; i < parts.size(); ++i) {
    RETURN_IF_ERROR(WriteTensor(parts[i].first->data, entries[i].name, &writer, parts[i].second));
  }
  RETURN_IF_ERROR(writer.Finish());
  report.mutable_file()->set_name(name);
  report.mutable_file()->set_bytes(writer.file_bytes());
  report.mutable_file()->set_header_bytes(writer.header().size());
  report.mutable_file()->set_header_crc32c(Crc32c(writer.header().data(), writer.header().size()));
  return report.SerializeAsString();
}

Status CheckpointWriter::Commit(absl::Span<const std::string> reports, const CheckpointInfo& info) {
  CHECK_EQ(info.step, step_) << "[checkpoint]";
  Manifest manifest;
  FillInfo(info, &manifest);
  manifest.set_block_bytes(kBlockBytes);
  std::map<std::string, TensorRecord> records;
  for (size_t rank = 0; rank < reports.size(); ++rank) {
    const StatusOr<ShardReport> report = ParseReport(reports[rank]);
    if (!report.ok()) return Annotate(report.status(), absl::StrCat("rank ", rank));
    RETURN_IF_ERROR(MergeRecords(*report, rank, manifest.files_size(), &records));
    if (report->has_file()) *manifest.add_files() = report->file();
  }
  for (auto& [name, record] : records) *manifest.add_tensors() = std::move(record);
  ASSIGN_OR_RETURN(const std::string bytes, SerializeManifest(std::move(manifest)));
  const std::string path = JoinPath(dir_, CheckpointName(step_));
  RETURN_IF_ERROR(WriteFileAtomically(JoinPath(TemporaryName(path), kManifestName), bytes));
  return PublishDirectory(TemporaryName(path), path);
}

Status CheckpointWriter::Abandon() {
  return RemoveTree(TemporaryName(JoinPath(dir_, CheckpointName(step_))));
}

Status SaveCheckpoint(const CheckpointGroup& group, const std::string& dir,
                      absl::Span<const SavedTensor> tensors, const CheckpointInfo& info, int keep) {
  // Rank 0's status on every rank.
  const auto agree = [&group](const Status& status) -> Status {
    ASSIGN_OR_RETURN(const std::string text, group.broadcast(Serialized(status)));
    return ParseReport(text).status();
  };
  CheckpointWriter writer(dir, info.step);
  RETURN_IF_ERROR(agree(group.rank == 0 ? writer.Prepare() : absl::OkStatus()));

  const StatusOr<std::string> shard = writer.WriteShard(group.rank, group.size, tensors);
  ASSIGN_OR_RETURN(const std::vector<std::string> reports,
                   group.gather(shard.ok() ? *shard : Serialized(shard.status())));
  if (group.rank != 0) return agree(absl::OkStatus());

  Status status = writer.Commit(reports, info);
  if (!status.ok()) {
    const Status abandoned = writer.Abandon();
    if (!abandoned.ok()) LOG(ERROR) << "after a failed save: " << abandoned.ToString();
  } else {
    status = RemoveOldCheckpoints(dir, keep);
  }
  return agree(Annotate(status, absl::StrCat("checkpoint of step ", info.step)));
}

}  // namespace trireme
