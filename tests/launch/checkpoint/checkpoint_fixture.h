// Saving and loading by several ranks in one thread; the state is a fixed function of the step.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/io/file.h"
#include "core/ops/devices.h"
#include "launch/checkpoint/checkpoint_dir.h"
#include "launch/checkpoint/checkpoint_reader.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {

class CheckpointTest : public ::testing::Test {
 protected:
  // Element i of the whole of `name` at `step`, as small integers that every type holds exactly.
  static double Value(const std::string& name, int64_t step, int64_t i) {
    return static_cast<double>((name.size() * 31 + step * 7 + i * 3) % 97);
  }
  Tensor MakeBox(const std::string& name, int64_t step, const Shape& global, const Box& box,
                 DType dtype) {
    std::vector<double> values;
    const BoxRuns runs(global, box.begin, box.size, WholeBox(box.size).begin, box.size);
    for (int64_t k = 0; k < runs.count(); ++k) {
      for (int64_t i = 0; i < runs.length(); ++i) {
        values.push_back(Value(name, step, runs[k].source + i));
      }
    }
    return Tensor::FromVector(*device_, box.size, values, dtype);
  }
  SavedTensor Saved(const std::string& name, int64_t step, const Shape& global, const Box& box,
                    DType dtype) {
    return {name, global, box, MakeBox(name, step, global, box, dtype), ReplicaPolicy::kShared};
  }
  // Rows cut evenly over ranks, the first ones longer; late ranks have none when there are few.
  static Box RowsOf(const Shape& global, int rank, int num_ranks) {
    Box box = WholeBox(global);
    const int64_t rows = global[0], base = rows / num_ranks, extra = rows % num_ranks;
    box.begin[0] = rank * base + std::min<int64_t>(rank, extra);
    box.size[0] = base + (rank < extra ? 1 : 0);
    return box;
  }

  // One rank's part of a model: ragged rows, a column cut, a scalar, and the empty tensor.
  std::vector<SavedTensor> State(int64_t step, int rank, int num_ranks) {
    std::vector<SavedTensor> state;
    const Shape matrix{7, 5}, few_rows{2, 3}, columns{3, 8}, none{0, 4};
    state.push_back(Saved("rows", step, matrix, RowsOf(matrix, rank, num_ranks), DType::kF32));
    state.push_back(
        Saved("few_rows", step, few_rows, RowsOf(few_rows, rank, num_ranks), DType::kF64));
    const Box cut = RowsOf({8}, rank, num_ranks);
    state.push_back(
        Saved("columns", step, columns, {{0, cut.begin[0]}, {3, cut.size[0]}}, DType::kBF16));
    state.push_back(Saved("none", step, none, WholeBox(none), DType::kF32));
    if (rank == num_ranks - 1) state.push_back(Saved("scalar", step, {}, Box{}, DType::kI64));
    return state;
  }
  CheckpointInfo Info(int64_t step) {
    CheckpointInfo info;
    info.step = step;
    info.config_hash = "abc";
    info.config = "seed: 1";
    info.mesh = {{"replica", 2}, {"tensor", 1}};
    info.scalars = {{"next_sample", step * 8}, {"loss", 2.5}, {"note", std::string("text")}};
    return info;
  }
  // All ranks, one after another, by the phases of the writer.
  Status Save(const std::string& dir, int64_t step, int num_ranks) {
    CheckpointWriter writer(dir, step);
    RETURN_IF_ERROR(writer.Prepare());
    std::vector<std::string> reports;
    for (int rank = 0; rank < num_ranks; ++rank) {
      ASSIGN_OR_RETURN(reports.emplace_back(),
                       writer.WriteShard(rank, num_ranks, State(step, rank, num_ranks)));
    }
    return writer.Commit(reports, Info(step));
  }
  // Loads by num_ranks ranks and compares every element.
  Status LoadAndCompare(const std::string& path, int64_t step, int num_ranks) {
    ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(path));
    for (int rank = 0; rank < num_ranks; ++rank) {
      for (const SavedTensor& expected : State(step, rank, num_ranks)) {
        SavedTensor loaded = expected;
        loaded.data = Tensor::Full(*device_, expected.local.size, expected.data.dtype(), 99);
        RETURN_IF_ERROR(reader.Read(loaded));
        if (loaded.data.ToVector() != expected.data.ToVector()) {
          return absl::InternalError(expected.name + " differs");
        }
      }
    }
    return absl::OkStatus();
  }

  testing::TemporaryDirectory dir_;
  std::unique_ptr<CpuDevice> device_ = MakeCpuDevice();
};

// Names in a directory, sorted.
inline std::vector<std::string> NamesIn(const std::string& dir) {
  return ValueOrThrow(ListDirectory(dir));
}

inline std::string Message(const Status& status) { return std::string(status.message()); }

}  // namespace trireme
