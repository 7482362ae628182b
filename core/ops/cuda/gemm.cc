// GEMM by cuBLASLt. A row-major matrix is the transpose of the column-major one in the same memory,
// so c = a b is run as c^T = b^T a^T.
#include <algorithm>
#include <bit>
#include <optional>
#include <utility>

#include "core/base/log.h"
#include "core/device/cuda/services.h"
#include "core/device/kernel.h"
#include "core/ops/cuda/gemm_plan.h"
#include "core/ops/gemm_operand.h"
#include "core/ops/matmul.h"
#include "core/tensor/kernels.h"

namespace trireme {
namespace {

constexpr uint64_t kMaxAlignment = 16;  // More would let addresses choose algorithms, and bits.

// The last two dimensions of a view as columns in memory. Not transposed: the matrix that cuBLAS
// sees is the view's transpose.
std::optional<GemmMatrix> AsMatrix(const View& view) {
  const int64_t rows = view.sizes[view.rank - 2], columns = view.sizes[view.rank - 1];
  const std::optional<OperandLayout> layout = OperandLayoutOf(view);
  if (!layout.has_value()) return std::nullopt;
  if (layout->transposed) return GemmMatrix{rows, columns, layout->ld, 0, true, 0};
  return GemmMatrix{columns, rows, layout->ld, 0, false, 0};
}

// The leading dimensions of all three operands, merged where one walks on where another ends: the
// innermost is a batch for cuBLASLt, the others are loops.
struct Batches {
  int rank = 0;
  int64_t size[4];
  int64_t stride[4][3];  // Of a, b, c, in elements; innermost first.
};

Batches MergeBatches(const View& a, const View& b, const View& c) {
  Batches batches;
  for (int i = c.rank - 3; i >= 0; --i) {
    if (c.sizes[i] == 1) continue;
    const int64_t stride[3] = {a.strides[i], b.strides[i], c.strides[i]};
    const int last = batches.rank - 1;
    bool follows = last >= 0;
    for (int k = 0; k < 3 && follows; ++k) {
      follows = stride[k] == batches.stride[last][k] * batches.size[last];
    }
    if (follows) {
      batches.size[last] *= c.sizes[i];
    } else {
      batches.size[batches.rank] = c.sizes[i];
      std::copy(stride, stride + 3, batches.stride[batches.rank++]);
    }
  }
  return batches;
}

// The largest power of two that divides the address and `strides`.
int64_t AlignmentOf(const void* data, uint64_t strides = 0) {
  const uint64_t bits = reinterpret_cast<uintptr_t>(data) | strides | kMaxAlignment;
  return int64_t{1} << std::countr_zero(bits);
}
int64_t AlignmentOf(const View& view, const GemmMatrix& matrix) {
  uint64_t strides = static_cast<uint64_t>(matrix.ld);
  for (int i = 0; i < view.rank - 2; ++i) strides |= static_cast<uint64_t>(view.strides[i]);
  return AlignmentOf(view.data, strides * static_cast<uint64_t>(DTypeSize(view.dtype)));
}

// c = bias + beta c.
void SetToBias(Device& device, const GemmArgs& args) {
  if (!args.bias.defined()) {
    if (args.beta == 0) Launch(device, &KernelTable::Fill, FillArgs{args.c, 0});
    return;
  }
  View bias = args.c;
  bias.data = args.bias.data;
  bias.dtype = args.bias.dtype;
  std::fill(bias.strides, bias.strides + bias.rank, 0);
  bias.strides[bias.rank - 1] = args.bias.strides[0];
  if (args.beta == 0) {
    Launch(device, &KernelTable::Copy, CopyArgs{bias, args.c});
  } else {
    Launch(device, &KernelTable::Accumulate, AccumulateArgs{bias, args.c, 1});
  }
}

const void* Advance(const View& view, int64_t elements) {
  return static_cast<const char*>(view.data) + elements * DTypeSize(view.dtype);
}

}  // namespace

void GemmCuda(Device& device, const GemmArgs& args) {
  const View& c = args.c;
  const int r = c.rank;
  CHECK(r >= 2 && args.a.rank == r && args.b.rank == r) << "[gemm]";
  CHECK(args.beta == 0 || args.beta == 1) << "beta = " << args.beta << " [gemm]";
  if (c.numel() == 0) return;
  if (args.a.sizes[r - 1] == 0) return SetToBias(device, args);

  std::optional<Packed> packed_a, packed_b;
  View a_view = args.a, b_view = args.b;
  std::optional<GemmMatrix> a = AsMatrix(a_view), b = AsMatrix(b_view);
  if (!a.has_value()) a = AsMatrix(a_view = packed_a.emplace(device, a_view).view());
  if (!b.has_value()) b = AsMatrix(b_view = packed_b.emplace(device, b_view).view());
  std::optional<GemmMatrix> d = AsMatrix(c);
  CHECK(d.has_value()) << "c has no dimension of unit stride [gemm]";
  const Batches batches = MergeBatches(a_view, b_view, c);

  GemmProblem problem;
  problem.in = args.a.dtype;
  problem.out = c.dtype;
  problem.allow_tf32 = AllowTf32(device);
  double beta = args.beta;
  if (args.bias.defined()) {
    // cuBLASLt has no epilogues in f64, and wants the bias along the rows that it sees.
    problem.has_bias = problem.out != DType::kF64 && args.bias.dtype == problem.out &&
                       args.bias.strides[0] == 1 && !d->transposed;
    if (!problem.has_bias) {
      SetToBias(device, args);
      beta = 1;
    }
  }
  a->alignment = AlignmentOf(a_view, *a);
  b->alignment = AlignmentOf(b_view, *b);
  d->alignment = AlignmentOf(c, *d);
  if (problem.has_bias) d->alignment = std::min(d->alignment, AlignmentOf(args.bias.data));
  if (batches.rank > 0) {
    problem.num_batches = batches.size[0];
    a->batch_stride = batches.stride[0][0];
    b->batch_stride = batches.stride[0][1];
    d->batch_stride = batches.stride[0][2];
  }
  // Where c lies in rows, its transpose is b^T a^T, and those transposes are what lies there. Where
  // it lies in columns, it is a b, and a and b are the transposes of what lies there.
  const bool swapped = !d->transposed;
  problem.a = swapped ? *b : *a;
  problem.b = swapped ? *a : *b;
  problem.d = *d;
  problem.d.transposed = false;
  if (!swapped) {
    problem.a.transposed = !problem.a.transposed;
    problem.b.transposed = !problem.b.transposed;
  }

  int64_t num_runs = 1;
  for (int i = 1; i < batches.rank; ++i) num_runs *= batches.size[i];
  GemmPlans& plans = DeviceState<GemmPlans>(device);
  for (int64_t run = 0; run < num_runs; ++run) {
    int64_t rest = run, offset[3] = {};
    for (int i = 1; i < batches.rank; ++i) {
      for (int k = 0; k < 3; ++k) offset[k] += rest % batches.size[i] * batches.stride[i][k];
      rest /= batches.size[i];
    }
    const void* a_data = Advance(a_view, offset[0]);
    const void* b_data = Advance(b_view, offset[1]);
    plans.Run(device, problem, swapped ? b_data : a_data, swapped ? a_data : b_data,
              const_cast<void*>(Advance(c, offset[2])), args.alpha, beta, args.bias.data);
  }
}

}  // namespace trireme
