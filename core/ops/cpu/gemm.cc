// GEMM on the CPU: the output is cut into tiles by its shape alone, and each is one library call of
// one thread. The summed dimension is never cut, so bits do not depend on the number of threads.
//
// Tiles are as small as costs little, so that a few threads balance: rows of 256 to 1024, up to
// 1024 columns, 2048 in bf16. (Measured on one core of a Zen 4, tiles against the whole, m = 4096,
// n and k of 512 to 8192: f32 0.93 to 1.0, bf16 0.95 to 1.0; 256 columns cost bf16 another 10 to
// 17 %, and 1408 columns in one tile are 1.05 times as fast as in two.)
#include <algorithm>
#include <cstring>
#include <optional>

#include "core/base/log.h"
#include "core/device/cpu/cpu_device.h"
#include "core/ops/cpu/gemm_library.h"
#include "core/ops/cpu/panel_gemm.h"
#include "core/ops/gemm_operand.h"
#include "core/ops/matmul.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int64_t kTileRows = 1024;
int64_t TileColumns(DType in) { return in == DType::kBF16 ? 2048 : 1024; }
constexpr int64_t kEnoughTiles = 8;
constexpr int64_t kTaskFlops = int64_t{1} << 23;  // About 0.1 ms: less is not worth another thread.

// [0, size) in equal parts of at most `largest`, cut at multiples of 64.
int64_t TileSize(int64_t size, int64_t largest) {
  const int64_t parts = (size + largest - 1) / largest;
  return std::min(size, ((size + parts - 1) / parts + 63) / 64 * 64);
}

// The largest tiles of which there are enough, else the smallest.
int64_t LargestRows(int64_t m, int64_t tiles_n) {
  if (m < kTileRows / 2) return kTileRows / 2;
  int64_t rows = kTileRows;
  while (rows > kTileRows / 4 && (m + rows - 1) / rows * tiles_n < kEnoughTiles) rows /= 2;
  return rows;
}

std::optional<MatrixRef> AsMatrixRef(const View& view) {
  const std::optional<OperandLayout> layout = OperandLayoutOf(view);
  if (!layout.has_value()) return std::nullopt;
  return MatrixRef{view.data, layout->ld, layout->transposed};
}

// `matrix` from (row, column) on.
MatrixRef At(MatrixRef matrix, DType dtype, int64_t row, int64_t column) {
  const int64_t offset = matrix.transposed ? column * matrix.ld + row : row * matrix.ld + column;
  matrix.data = static_cast<const char*>(matrix.data) + offset * DTypeSize(dtype);
  return matrix;
}

// The offset of batch `batch` in elements.
int64_t BatchOffset(const View& view, const View& c, int64_t batch) {
  int64_t offset = 0;
  for (int i = c.rank - 3; i >= 0; --i) {
    offset += batch % c.sizes[i] * view.strides[i];
    batch /= c.sizes[i];
  }
  return offset;
}

// c = bias + beta * c, elementwise; bias may be undefined.
template <typename T, typename C>
void SetToBias(C* c, int64_t row_stride, int64_t column_stride, int64_t rows, int64_t columns,
               const T* bias, int64_t bias_stride, double beta) {
  using A = AccOf<C>;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      C& element = c[i * row_stride + j * column_stride];
      A sum = beta == 0 ? A(0) : A(element);
      if (bias != nullptr) sum += A(AccOf<T>(bias[j * bias_stride]));
      element = C(sum);
    }
  }
}

}  // namespace

void GemmCpu(Device& device, const GemmArgs& args) {
  CpuDevice& cpu = AsCpu(device);
  const View& c = args.c;
  const int r = c.rank;
  CHECK(r >= 2 && args.a.rank == r && args.b.rank == r) << "[gemm]";
  CHECK(args.beta == 0 || args.beta == 1) << "beta = " << args.beta << " [gemm]";
  const int64_t m = c.sizes[r - 2], n = c.sizes[r - 1], k = args.a.sizes[r - 1];
  if (c.numel() == 0) return;
  const DType in = args.a.dtype;

  std::optional<Packed> packed_a, packed_b;
  View a_view = args.a, b_view = args.b;
  std::optional<MatrixRef> a = AsMatrixRef(a_view), b = AsMatrixRef(b_view);
  if (!a.has_value()) a = AsMatrixRef(a_view = packed_a.emplace(device, a_view).view());
  if (!b.has_value()) b = AsMatrixRef(b_view = packed_b.emplace(device, b_view).view());
  const std::optional<MatrixRef> c_matrix = AsMatrixRef(c);
  CHECK(c_matrix.has_value()) << "c has no dimension of unit stride [gemm]";

  const int64_t num_batches = c.numel() / (m * n);
  const Product whole{in, c.dtype, m, n, k, *a, *b, c.data, c_matrix->ld, args.alpha, args.beta};
  if (num_batches == 1 && !args.bias.defined() && !c_matrix->transposed &&
      PanelGemmPays(cpu, whole)) {
    return PanelGemm(cpu, whole);
  }
  GemmLibrary& library = cpu.State<GemmLibrary>();
  const int64_t tile_n = TileSize(n, TileColumns(in)), tiles_n = (n + tile_n - 1) / tile_n;
  const int64_t tile_m = TileSize(m, LargestRows(m, tiles_n)), tiles_m = (m + tile_m - 1) / tile_m;
  const int64_t tile_flops = 2 * tile_m * tile_n * std::max<int64_t>(k, 1);
  const int64_t grain = std::max<int64_t>(1, kTaskFlops / tile_flops);

  const auto run_tile = [&](int64_t batch, int64_t row, int64_t column) {
    const int64_t rows = std::min(tile_m, m - row), columns = std::min(tile_n, n - column);
    const auto shifted = [&](MatrixRef matrix, const View& view) {
      matrix.data = static_cast<const char*>(matrix.data) +
                    BatchOffset(view, c, batch) * DTypeSize(view.dtype);
      return matrix;
    };
    const MatrixRef out = At(shifted(*c_matrix, c), c.dtype, row, column);
    void* c_data = const_cast<void*>(out.data);
    double beta = args.beta;
    if (args.bias.defined() || k == 0) {
      DispatchFloating(in, "gemm", [&](auto in_tag) {
        using T = typename decltype(in_tag)::type;
        DispatchFloating(c.dtype, "gemm", [&](auto out_tag) {
          const T* bias =
              args.bias.defined() ? args.bias.as<T>() + column * args.bias.strides[0] : nullptr;
          SetToBias(static_cast<typename decltype(out_tag)::type*>(c_data), c.strides[r - 2],
                    c.strides[r - 1], rows, columns, bias, args.bias.strides[0], beta);
        });
      });
      beta = 1;
    }
    if (k == 0) return;
    Product product{in, c.dtype, rows, columns, k, {}, {}, c_data, out.ld, args.alpha, beta};
    product.a = At(shifted(*a, a_view), in, row, 0);
    product.b = At(shifted(*b, b_view), in, 0, column);
    if (out.transposed) {  // c^T = b^T a^T
      std::swap(product.m, product.n);
      std::swap(product.a, product.b);
      product.a.transposed = !product.a.transposed;
      product.b.transposed = !product.b.transposed;
    }
    library.Run(product, device);
  };
  cpu.ParallelFor(num_batches * tiles_m * tiles_n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t in_batch = tile % (tiles_m * tiles_n);
      run_tile(tile / (tiles_m * tiles_n), in_batch / tiles_n * tile_m,
               in_batch % tiles_n * tile_n);
    }
  });
}

}  // namespace trireme
