#include "parallel/sync/whole_blocks.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/rng.h"

namespace trireme {
namespace {

// Consecutive elements of a parameter that belong to one rank.
struct Run {
  int64_t first = 0, last = 0;  // Flat elements [first, last).
  int rank = 0;
  int64_t offset = 0;  // Of `first`, among what the rank has of this parameter.
};

// The ranks that tile the parameter together with `rank`: of those that own the same box, the n-th
// of each when this rank is the n-th of its own. Empty when it owns nothing.
StatusOr<std::vector<int>> TilesWith(const BlockParameter& parameter, int rank) {
  std::vector<int> nth(parameter.boxes.size(), 0);  // Among the ranks with the same box.
  std::vector<Box> distinct;
  std::vector<int> copies;
  for (size_t r = 0; r < parameter.boxes.size(); ++r) {
    const Box& box = parameter.boxes[r];
    RETURN_IF_ERROR(CheckInside(box, parameter.shape));
    if (box.numel() == 0) continue;
    const auto same = std::find(distinct.begin(), distinct.end(), box);
    if (same == distinct.end()) {
      distinct.push_back(box);
      copies.push_back(1);
    } else {
      nth[r] = copies[same - distinct.begin()]++;
    }
  }
  if (parameter.shape.numel() == 0) return std::vector<int>();
  RETURN_IF_ERROR(CheckTiles(parameter.shape, distinct));
  for (size_t i = 0; i < distinct.size(); ++i) {
    if (copies[i] == copies[0]) continue;
    return absl::InvalidArgumentError(absl::StrCat(copies[0], " ranks own ", distinct[0].ToString(),
                                                   " and ", copies[i], " own ",
                                                   distinct[i].ToString()));
  }
  std::vector<int> ranks;
  if (parameter.boxes[rank].numel() == 0) return ranks;
  for (size_t r = 0; r < parameter.boxes.size(); ++r) {
    if (parameter.boxes[r].numel() > 0 && nth[r] == nth[rank]) ranks.push_back(static_cast<int>(r));
  }
  return ranks;
}

// What the ranks own, ascending.
std::vector<Run> OwnedRuns(const BlockParameter& parameter, const std::vector<int>& ranks) {
  std::vector<Run> runs;
  for (const int rank : ranks) {
    const Box& box = parameter.boxes[rank];
    Shape zero = box.size;
    for (int i = 0; i < zero.rank(); ++i) zero[i] = 0;
    const BoxRuns in_whole(box.size, zero, parameter.shape, box.begin, box.size);
    for (int64_t k = 0; k < in_whole.count(); ++k) {
      const BoxRuns::Run run = in_whole[k];
      runs.push_back({run.dest, run.dest + in_whole.length(), rank, run.source});
    }
  }
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.first < b.first; });
  return runs;
}

// Who has which blocks then, ascending; offsets count from the first of each rank.
std::vector<Run> BlockRuns(const std::vector<Run>& owned, int64_t block_size, int num_ranks) {
  std::vector<Run> blocks;
  std::vector<int64_t> sizes(num_ranks, 0);
  const int64_t n = owned.empty() ? 0 : owned.back().last;
  const int64_t block = block_size == 0 ? n : block_size;
  for (const Run& run : owned) {
    // The blocks whose first elements are in the run.
    const int64_t first = (run.first + block - 1) / block * block;
    const int64_t last = std::min(n, (run.last + block - 1) / block * block);
    if (first >= last) continue;
    if (!blocks.empty() && blocks.back().rank == run.rank) {
      blocks.back().last = last;
    } else {
      blocks.push_back({first, last, run.rank, sizes[run.rank]});
    }
    sizes[run.rank] += last - first;
  }
  return blocks;
}

char* At(const Tensor& tensor, int64_t element) {
  return static_cast<char*>(tensor.raw()) + element * DTypeSize(tensor.dtype());
}

void Copy(char* to, const char* from, int64_t count, DType dtype) {
  std::memcpy(to, from, static_cast<size_t>(count * DTypeSize(dtype)));
}

int64_t NumElements(const std::vector<BlockMove>& moves) {
  int64_t n = 0;
  for (const BlockMove& move : moves) n += move.size;
  return n;
}

}  // namespace

StatusOr<BlockPlan> PlanBlocks(absl::Span<const BlockParameter> parameters, int64_t block_size,
                               int rank, int num_ranks) {
  BlockPlan plan;
  // Flat elements of each rank's layout before the parameter.
  std::vector<int64_t> bases(num_ranks, 0);
  for (size_t p = 0; p < parameters.size(); ++p) {
    const BlockParameter& parameter = parameters[p];
    CHECK_EQ(static_cast<int>(parameter.boxes.size()), num_ranks) << "boxes [whole blocks]";
    // Of every copy, so that all ranks know the bases of all, and whether anything moves.
    std::vector<bool> seen(num_ranks, false);
    std::vector<int64_t> sizes(num_ranks, 0);
    for (int r = 0; r < num_ranks; ++r) {
      if (seen[r]) continue;
      ASSIGN_OR_RETURN(const std::vector<int> ranks, TilesWith(parameter, r));
      for (const int member : ranks) seen[member] = true;
      const std::vector<Run> owned = OwnedRuns(parameter, ranks);
      const std::vector<Run> blocks = BlockRuns(owned, block_size, num_ranks);
      for (const Run& run : blocks) {
        sizes[run.rank] += run.last - run.first;
        if (run.rank == rank) {
          plan.pieces.push_back({parameter.key, parameter.shape, run.first, run.last - run.first});
        }
      }
      // Both tile [0, n).
      for (size_t i = 0, j = 0; i < owned.size() && j < blocks.size();) {
        const Run &from = owned[i], &to = blocks[j];
        const int64_t first = std::max(from.first, to.first);
        const int64_t last = std::min(from.last, to.last);
        plan.moves |= from.rank != to.rank;
        if (from.rank == rank || to.rank == rank) {
          BlockMove move;
          move.parameter = static_cast<int>(p);
          move.slice = from.offset + first - from.first;
          move.flat = bases[to.rank] + to.offset + first - to.first;
          move.size = last - first;
          move.peer = from.rank == rank ? to.rank : from.rank;
          auto& moves = from.rank != to.rank ? (from.rank == rank ? plan.out : plan.in) : plan.kept;
          moves.push_back(move);
        }
        if (from.last == last) ++i;
        if (to.last == last) ++j;
      }
    }
    for (int r = 0; r < num_ranks; ++r) bases[r] += sizes[r];
  }
  plan.size = bases[rank];
  const auto by_peer = [](const BlockMove& a, const BlockMove& b) { return a.peer < b.peer; };
  std::stable_sort(plan.out.begin(), plan.out.end(), by_peer);
  std::stable_sort(plan.in.begin(), plan.in.end(), by_peer);
  return plan;
}

StatusOr<std::unique_ptr<WholeBlocks>> WholeBlocks::Create(const ParameterSet& parameters,
                                                           absl::Span<const int> chosen,
                                                           int64_t block_size, Communicator* group,
                                                           Device& host) {
  const int rank = group == nullptr ? 0 : group->rank();
  const int num_ranks = group == nullptr ? 1 : group->size();
  std::vector<int64_t> corners;  // Of this rank's boxes.
  for (const int i : chosen) {
    const Box& box = parameters.parameters()[i]->owned_box;
    corners.insert(corners.end(), box.begin.dims().begin(), box.begin.dims().end());
    corners.insert(corners.end(), box.size.dims().begin(), box.size.dims().end());
  }
  const size_t num_corners = corners.size();
  if (group != nullptr) {
    const std::vector<int64_t> mine = corners;
    RETURN_IF_ERROR(CatchFailure([&] {
      const int64_t n = static_cast<int64_t>(num_corners);
      const Tensor all = Tensor::Empty(host, {n * num_ranks}, DType::kI64);
      const Tensor own = Tensor::FromHost<int64_t>(host, {n}, corners);
      ThrowIfError(group->AllGather(own, all, {.purpose = "owned boxes"})->Wait());
      corners = all.ToHost<int64_t>();
    }));
    // Slices are read and written where the boxes say.
    if (!std::equal(mine.begin(), mine.end(), corners.begin() + rank * num_corners)) {
      return absl::InternalError("owned boxes: not the rank's own came back");
    }
  }
  std::vector<BlockParameter> blocks;
  std::vector<int64_t> slice_sizes;
  size_t at = 0;  // Among the corners of a rank.
  for (const int i : chosen) {
    const Parameter& parameter = *parameters.parameters()[i];
    slice_sizes.push_back(parameter.owned_box.numel());
    BlockParameter& block = blocks.emplace_back();
    block.key = StableHash(parameter.spec.path);
    block.shape = parameter.spec.global;
    const size_t dims = static_cast<size_t>(block.shape.rank());
    for (int r = 0; r < num_ranks; ++r) {
      const absl::Span<const int64_t> box =
          absl::MakeConstSpan(corners).subspan(r * num_corners + at, 2 * dims);
      block.boxes.push_back({Shape(box.subspan(0, dims)), Shape(box.subspan(dims))});
    }
    at += 2 * dims;
  }
  ASSIGN_OR_RETURN(BlockPlan plan, PlanBlocks(blocks, block_size, rank, num_ranks));
  return std::unique_ptr<WholeBlocks>(
      new WholeBlocks(std::move(plan), std::move(slice_sizes), num_ranks, group));
}

int64_t WholeBlocks::ToBlocksBytes(DType dtype) const {
  return NumElements(plan_.out) * DTypeSize(dtype);
}

int64_t WholeBlocks::FromBlocksBytes(DType dtype) const {
  return NumElements(plan_.in) * DTypeSize(dtype);
}

Status WholeBlocks::ToBlocks(absl::Span<const Tensor> slices, const Tensor& flat) const {
  CheckTensors(slices, flat);
  const auto of_slice = [&](const BlockMove& move) {
    return At(slices[move.parameter], move.slice);
  };
  const auto of_flat = [&](const BlockMove& move) { return At(flat, move.flat); };
  for (const BlockMove& move : plan_.kept) {
    Copy(of_flat(move), of_slice(move), move.size, flat.dtype());
  }
  return Exchange(plan_.out, of_slice, plan_.in, of_flat, flat);
}

Status WholeBlocks::FromBlocks(const Tensor& flat, absl::Span<const Tensor> slices) const {
  CheckTensors(slices, flat);
  const auto of_slice = [&](const BlockMove& move) {
    return At(slices[move.parameter], move.slice);
  };
  const auto of_flat = [&](const BlockMove& move) { return At(flat, move.flat); };
  for (const BlockMove& move : plan_.kept) {
    Copy(of_slice(move), of_flat(move), move.size, flat.dtype());
  }
  return Exchange(plan_.in, of_flat, plan_.out, of_slice, flat);
}

Status WholeBlocks::Exchange(const std::vector<BlockMove>& sent, const Place& from,
                             const std::vector<BlockMove>& received, const Place& to,
                             const Tensor& flat) const {
  if (!plan_.moves) return absl::OkStatus();
  return CatchFailure([&] {
    const auto buffer = [&](const std::vector<BlockMove>& moves) {
      return Tensor::Empty(flat.device(), {NumElements(moves)}, flat.dtype(),
                           MemoryKind::kCommunication, "whole blocks");
    };
    const Tensor out = buffer(sent), in = buffer(received);
    int64_t at = 0;
    for (const BlockMove& move : sent) {
      Copy(At(out, at), from(move), move.size, flat.dtype());
      at += move.size;
    }
    ThrowIfError(
        group_->AllToAll(out, Counts(sent), in, Counts(received), {.purpose = "whole blocks"})
            ->Wait());
    at = 0;
    for (const BlockMove& move : received) {
      Copy(to(move), At(in, at), move.size, flat.dtype());
      at += move.size;
    }
  });
}

std::vector<int64_t> WholeBlocks::Counts(const std::vector<BlockMove>& moves) const {
  std::vector<int64_t> counts(num_ranks_, 0);
  for (const BlockMove& move : moves) counts[move.peer] += move.size;
  return counts;
}

void WholeBlocks::CheckTensors(absl::Span<const Tensor> slices, const Tensor& flat) const {
  CHECK_EQ(slices.size(), slice_sizes_.size()) << "slices [whole blocks]";
  CHECK(flat.is_contiguous() && flat.numel() == plan_.size)
      << flat.numel() << " elements for " << plan_.size << " [whole blocks]";
  for (size_t i = 0; i < slices.size(); ++i) {
    CHECK(slices[i].is_contiguous() && slices[i].dtype() == flat.dtype()) << "[whole blocks]";
    CHECK_EQ(slices[i].numel(), slice_sizes_[i]) << "slice " << i << " [whole blocks]";
  }
}

}  // namespace trireme
