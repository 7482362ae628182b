// The loop of every elementwise kernel: operands of equal sizes and any strides, as rows.
#pragma once

#include <initializer_list>

#include "absl/functional/function_ref.h"

#include "core/device/cpu/cpu_device.h"
#include "core/tensor/view.h"

namespace trireme {

inline constexpr int kMaxOperands = 6;
inline constexpr int64_t kElementGrain = 16384;  // Elements a tile.

// `count` elements of each operand from offset[k] on, stride[k] apart, in elements.
struct Row {
  int64_t count;
  int64_t offset[kMaxOperands];
  int64_t stride[kMaxOperands];

  // All strides are 1.
  bool dense;
};

// Calls fn(row) for rows that cover every element once, from several threads. Dimensions that lie
// behind one another in all operands are merged, long rows are cut, short ones are grouped; tiles
// depend on the operands only. All operands have the sizes of the first.
void ForEachRow(CpuDevice& cpu, std::initializer_list<const View*> operands,
                absl::FunctionRef<void(const Row&)> fn);

}  // namespace trireme
