#include "launch/checkpoint/checkpoint_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/io/crc32c.h"
#include "core/io/safetensors.h"
#include "core/io/stored_box.h"
#include "launch/checkpoint/manifest.h"

namespace trireme {
namespace {

using checkpoint::Part;
using checkpoint::ShardFile;
using checkpoint::TensorRecord;

// Well below the usual limit of 1024 descriptors.
constexpr size_t kMaxOpenFiles = 256;

CheckpointInfo InfoOf(const checkpoint::Manifest& manifest) {
  CheckpointInfo info;
  info.step = manifest.step();
  info.config_hash = manifest.config_hash();
  info.config = manifest.config();
  for (const checkpoint::MeshAxis& axis : manifest.mesh()) info.mesh[axis.name()] = axis.size();
  for (const checkpoint::Scalar& scalar : manifest.scalars()) {
    if (scalar.has_integer()) info.scalars[scalar.name()] = scalar.integer();
    if (scalar.has_number()) info.scalars[scalar.name()] = scalar.number();
    if (scalar.has_text()) info.scalars[scalar.name()] = scalar.text();
  }
  return info;
}

StoredTensor StoredOf(const TensorRecord& record, const Part& part) {
  const int64_t element_bytes = DTypeSize(DTypeOfRecord(record));
  return {part.offset(), BoxOf(part).numel() * element_bytes, element_bytes};
}

}  // namespace

CheckpointReader::CheckpointReader() = default;
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader& CheckpointReader::operator=(CheckpointReader&&) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

StatusOr<CheckpointReader> CheckpointReader::Open(const std::string& directory) {
  const std::string path = JoinPath(directory, kManifestName);
  ASSIGN_OR_RETURN(const std::string bytes,
                   ReadFile(path, kMaxManifestBytes, File::Links::kRefuse));
  StatusOr<checkpoint::Manifest> manifest = ParseManifest(bytes);
  if (!manifest.ok()) return Annotate(manifest.status(), path);

  CheckpointReader reader;
  reader.directory_ = directory;
  reader.info_ = InfoOf(*manifest);
  for (const TensorRecord& record : manifest->tensors()) {
    reader.tensors_.push_back({record.name(), ShapeOf(record), DTypeOfRecord(record),
                               static_cast<ReplicaPolicy>(record.policy())});
    reader.by_name_.emplace(record.name(), reader.tensors_.size() - 1);
  }
  reader.files_.resize(manifest->files_size());
  reader.manifest_ = std::make_unique<checkpoint::Manifest>(*std::move(manifest));
  return reader;
}

const CheckpointReader::TensorInfo* CheckpointReader::Find(absl::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

Status CheckpointReader::CheckConfigHash(absl::string_view expected) const {
  if (info_.config_hash == expected) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      directory_, " was saved under another config: hash ", info_.config_hash, ", now ", expected));
}

StatusOr<const File*> CheckpointReader::OpenShard(int index) {
  File& file = files_[index];
  if (!file.path().empty()) return &file;
  const ShardFile& shard = manifest_->files(index);
  ASSIGN_OR_RETURN(File opened,
                   File::Open(JoinPath(directory_, shard.name()), File::Links::kRefuse));
  ASSIGN_OR_RETURN(const int64_t bytes, opened.Size());
  if (bytes != shard.bytes()) {
    return absl::DataLossError(
        absl::StrCat(opened.path(), " has ", bytes, " bytes, the manifest says ", shard.bytes()));
  }
  if (open_order_.size() == kMaxOpenFiles) {
    files_[open_order_.front()] = File();
    open_order_.pop_front();
  }
  open_order_.push_back(index);
  file = std::move(opened);
  return &file;
}

Status CheckpointReader::ReadPart(const TensorRecord& record, const Part& part, const BoxRuns& runs,
                                  const Tensor& dst) {
  ASSIGN_OR_RETURN(const File* file, OpenShard(part.file()));
  const int64_t block_bytes = manifest_->block_bytes();
  const auto check = [&](int64_t block, absl::Span<const char> bytes) -> Status {
    if (Crc32c(bytes.data(), bytes.size()) == part.block_crc32c(block)) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(
        file->path(), ": tensor '", record.name(), "' is damaged: wrong checksum of the ",
        bytes.size(), " bytes at byte ", part.offset() + block * block_bytes));
  };
  const auto put = [&](int64_t at, absl::Span<const char> bytes) {
    if (!dst.defined()) return;
    Device& device = dst.device();
    device.Copy(static_cast<char*>(dst.raw()) + at, bytes.data(), bytes.size(), device.compute());
  };
  const auto block_done = [&] {
    return dst.defined() ? dst.device().Synchronize() : absl::OkStatus();
  };
  return ReadStoredBox(*file, StoredOf(record, part), runs, block_bytes, {check, put, block_done});
}

Status CheckpointReader::ReadBox(const TensorRecord& record, const Box& box, const Tensor& dst) {
  for (const Part& part : record.parts()) {
    const Box stored = BoxOf(part);
    const Box shared = Intersect(stored, box);
    if (shared.numel() == 0) continue;
    Shape in_part = shared.begin, in_dst = shared.begin;
    for (int i = 0; i < shared.rank(); ++i) {
      in_part[i] -= stored.begin[i];
      in_dst[i] -= box.begin[i];
    }
    RETURN_IF_ERROR(
        ReadPart(record, part, BoxRuns(stored.size, in_part, box.size, in_dst, shared.size), dst));
  }
  return absl::OkStatus();
}

Status CheckpointReader::Read(const SavedTensor& tensor) {
  const auto it = by_name_.find(tensor.name);
  if (it == by_name_.end()) {
    return absl::NotFoundError(absl::StrCat(directory_, " has no tensor '", tensor.name, "'"));
  }
  CHECK_EQ(tensor.data.shape(), tensor.local.size) << tensor.name << " [checkpoint]";
  CHECK(tensor.data.is_contiguous()) << tensor.name << " [checkpoint]";
  const TensorInfo& saved = tensors_[it->second];
  const auto invalid = [&](absl::string_view what, absl::string_view there,
                           absl::string_view here) {
    return absl::InvalidArgumentError(absl::StrCat(directory_, ": tensor '", tensor.name, "' has ",
                                                   what, " ", there, ", expected ", here));
  };
  if (saved.policy != tensor.policy) {
    return invalid("policy", ReplicaPolicyName(saved.policy), ReplicaPolicyName(tensor.policy));
  }
  if (saved.dtype != tensor.data.dtype()) {
    return invalid("dtype", DTypeName(saved.dtype), DTypeName(tensor.data.dtype()));
  }
  const bool replicated = saved.policy != ReplicaPolicy::kShared;
  const bool same_rank = saved.global.rank() == tensor.global.rank();
  // The number of replicas may differ, nothing else.
  const bool fits = same_rank && (replicated ? saved.global.WithDim(0, tensor.global[0])
                                             : saved.global) == tensor.global;
  if (!fits) return invalid("shape", saved.global.ToString(), tensor.global.ToString());
  RETURN_IF_ERROR(Annotate(CheckInside(tensor.local, tensor.global), tensor.name));
  const TensorRecord& record = manifest_->tensors(it->second);
  if (saved.global == tensor.global) return ReadBox(record, tensor.local, tensor.data);
  return ReadForOtherReplicas(record, tensor);
}

Status CheckpointReader::ReadForOtherReplicas(const TensorRecord& record,
                                              const SavedTensor& tensor) {
  const int64_t num_saved = record.shape(0), num_now = tensor.global[0];
  const auto describe = [&](absl::string_view what) {
    return absl::StrCat(directory_, ": tensor '", tensor.name, "' was saved of ", num_saved,
                        " replicas, there are ", num_now, " now, ", what);
  };
  if (tensor.policy == ReplicaPolicy::kRefuse) {
    return absl::FailedPreconditionError(describe("and its policy is refuse"));
  }
  if (tensor.policy == ReplicaPolicy::kDrop) {
    return CatchFailure([&] { tensor.data.Fill(0); });
  }
  if (num_saved == 0) return absl::InvalidArgumentError(describe("and zero say nothing of them"));
  const bool average = tensor.policy != ReplicaPolicy::kSame;
  if (average && !IsFloating(tensor.data.dtype())) {
    return absl::InvalidArgumentError(describe("and integers have no mean"));
  }
  // What every new replica takes is made once, from the same box of the saved ones.
  const Box box{tensor.local.begin.WithDim(0, 0), tensor.local.size.WithDim(0, 1)};
  const double divisor =
      static_cast<double>(tensor.policy == ReplicaPolicy::kMean ? num_saved : num_now);
  Status status;
  const Status memory = CatchFailure([&] {
    Device& device = tensor.data.device();
    Tensor one = Tensor::Empty(device, box.size, tensor.data.dtype(), MemoryKind::kWorkspace);
    status = ReadBox(record, box, one);
    if (average) {
      std::vector<double> sum = one.ToVector();
      for (int64_t replica = 1; status.ok() && replica < num_saved; ++replica) {
        status = ReadBox(record, {box.begin.WithDim(0, replica), box.size}, one);
        const std::vector<double> values = one.ToVector();
        for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
      }
      for (double& value : sum) value /= divisor;
      one = Tensor::FromVector(device, box.size, sum, tensor.data.dtype());
    }
    for (int64_t i = 0; i < tensor.local.size[0]; ++i) {
      tensor.data.View1D(i * one.numel(), one.numel()).CopyFrom(one.WithShape({one.numel()}));
    }
  });
  return status.ok() ? memory : status;
}

Status CheckpointReader::Verify(Depth depth) {
  for (const ShardFile& shard : manifest_->files()) {
    const std::string path = JoinPath(directory_, shard.name());
    ASSIGN_OR_RETURN(const SafetensorsReader reader,
                     SafetensorsReader::Open(path, File::Links::kRefuse));
    ASSIGN_OR_RETURN(const int64_t bytes, reader.file().Size());
    if (bytes != shard.bytes() || reader.data_offset() != shard.header_bytes()) {
      return absl::DataLossError(absl::StrCat(path, " has ", bytes, " bytes and a header of ",
                                              reader.data_offset(), ", the manifest says ",
                                              shard.bytes(), " and ", shard.header_bytes()));
    }
    std::string header(shard.header_bytes(), '\0');
    RETURN_IF_ERROR(reader.file().ReadAt(0, header.data(), header.size()));
    if (Crc32c(header.data(), header.size()) != shard.header_crc32c()) {
      return absl::DataLossError(absl::StrCat(path, ": the header is damaged: wrong checksum"));
    }
  }
  if (depth == Depth::kHeaders) return absl::OkStatus();
  for (const TensorRecord& record : manifest_->tensors()) {
    RETURN_IF_ERROR(ReadBox(record, WholeBox(ShapeOf(record)), Tensor()));
  }
  return absl::OkStatus();
}

}  // namespace trireme
