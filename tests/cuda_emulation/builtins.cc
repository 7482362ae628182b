#include "tests/cuda_emulation/builtins.h"

#include <bit>
#include <cstring>

#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/execution.h"

namespace trireme::emulation {
namespace {

unsigned Dim(const uint3& of, int dim) { return dim == 0 ? of.x : dim == 1 ? of.y : of.z; }
unsigned Dim(const dim3& of, int dim) { return dim == 0 ? of.x : dim == 1 ? of.y : of.z; }

struct ShuffleRecord {
  uint64_t bits;
  uint64_t result;
  WarpOperation operation;
  int argument;
  int width;
};

// The lane that `lane` reads from; its own where the source is outside of its segment.
int SourceLane(const ShuffleRecord& record, int lane) {
  const int segment = lane & ~(record.width - 1);
  switch (record.operation) {
    case WarpOperation::kShuffle:
      return segment + (record.argument & (record.width - 1));
    case WarpOperation::kShuffleUp:
      return lane - record.argument >= segment ? lane - record.argument : lane;
    case WarpOperation::kShuffleDown:
      return lane + record.argument < segment + record.width ? lane + record.argument : lane;
    default:
      break;
  }
  const int source = lane ^ record.argument;
  return source < segment + record.width ? source : lane;
}

struct BallotRecord {
  bool predicate;
  uint32_t result;
};

struct MultiplyRecord {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

float LowBf16(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float HighBf16(uint32_t pair) { return std::bit_cast<float>(pair & 0xFFFF0000); }

// The fragments' layout is that of language.cuh.
void MultiplyFragments(void* const* records, uint32_t) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const MultiplyRecord*>(records[lane]);
    const int row = lane / 4;
    const int column = 2 * (lane % 4);
    for (int i = 0; i < 4; ++i) {
      float* pair = &a[row + 8 * (i % 2)][column + 8 * (i / 2)];
      pair[0] = LowBf16(mine.a[i]);
      pair[1] = HighBf16(mine.a[i]);
    }
    for (int i = 0; i < 2; ++i) {
      b[column + 8 * i][row] = LowBf16(mine.b[i]);
      b[column + 8 * i + 1][row] = HighBf16(mine.b[i]);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const MultiplyRecord*>(records[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2);
      const int column = 2 * (lane % 4) + i % 2;
      float sum = mine.d[i];
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      mine.d[i] = sum;
    }
  }
}

}  // namespace

unsigned ThreadIndex(int dim) {
  const Execution& execution = *Execution::Current();
  return Dim(execution.thread_indices[execution.thread], dim);
}
unsigned BlockIndex(int dim) { return Dim(Execution::Current()->block_index, dim); }
unsigned BlockSize(int dim) { return Dim(Execution::Current()->launch->block, dim); }
unsigned GridSize(int dim) { return Dim(Execution::Current()->launch->grid, dim); }
void* SharedMemory() { return Execution::Current()->memory.shared(); }

bool BlockBarrier(bool predicate, int* count, const std::source_location& site) {
  return Execution::Current()->BlockBarrier(predicate, count, site);
}

void WarpBarrier(uint32_t mask, const std::source_location& site) {
  Execution::Current()->WarpMeeting(WarpOperation::kSync, mask, nullptr, nullptr, site);
}

uint64_t WarpShuffle(WarpOperation operation, uint32_t mask, uint64_t bits, int argument, int width,
                     const std::source_location& site) {
  Execution& execution = *Execution::Current();
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width))) {
    execution.Stop(cudaErrorLaunchFailure, Format("a shuffle of width %d", width));
  }
  ShuffleRecord mine = {bits, 0, operation, argument, width};
  execution.WarpMeeting(
      operation, mask, &mine,
      [](void* const* records, uint32_t meeting) {
        for (int lane = 0; lane < 32; ++lane) {
          if ((meeting >> lane & 1) == 0) continue;
          auto& record = *static_cast<ShuffleRecord*>(records[lane]);
          const int source = SourceLane(record, lane);
          if (source < 0 || source >= 32 || (meeting >> source & 1) == 0) {
            Execution::Current()->Stop(
                cudaErrorLaunchFailure,
                Format("lane %d shuffles from lane %d, which does not take part", lane, source));
          }
          record.result = static_cast<const ShuffleRecord*>(records[source])->bits;
        }
      },
      site);
  return mine.result;
}

uint32_t WarpBallot(uint32_t mask, bool predicate, const std::source_location& site) {
  BallotRecord mine = {predicate, 0};
  Execution::Current()->WarpMeeting(
      WarpOperation::kBallot, mask, &mine,
      [](void* const* records, uint32_t meeting) {
        uint32_t votes = 0;
        for (int lane = 0; lane < 32; ++lane) {
          if ((meeting >> lane & 1) == 0) continue;
          votes |= uint32_t{static_cast<const BallotRecord*>(records[lane])->predicate} << lane;
        }
        for (int lane = 0; lane < 32; ++lane) {
          if ((meeting >> lane & 1) != 0) static_cast<BallotRecord*>(records[lane])->result = votes;
        }
      },
      site);
  return mine.result;
}

void WarpMatrixMultiply(float* d, const uint32_t* a, const uint32_t* b,
                        const std::source_location& site) {
  Execution& execution = *Execution::Current();
  const dim3& block = execution.launch->block;
  if (block.x * block.y * block.z / kWarpSize <= execution.thread / kWarpSize) {
    execution.Stop(cudaErrorLaunchFailure, "MmaBf16 in a warp of fewer than 32 threads");
  }
  MultiplyRecord mine = {d, a, b};
  execution.WarpMeeting(WarpOperation::kMatrixMultiply, ~0u, &mine, &MultiplyFragments, site);
}

void Trap(const std::source_location& site) {
  Execution::Current()->Stop(cudaErrorLaunchFailure, Format("__trap at line %u", site.line()));
}

}  // namespace trireme::emulation
