// The product as Goto and van de Geijn (2008, "Anatomy of high-performance matrix multiplication")
// cut it: blocks of c; for each, the summed dimension in parts, of which both sides are packed into
// panels; then tiles of c, each the product of two panels. A panel of a stays close while panels of
// b pass, which a task keeps in the second cache.
#include "core/ops/cpu/panel_gemm.h"

#include <algorithm>

#include "core/base/log.h"
#include "core/device/workspace.h"
#include "core/ops/cpu/panel_packing.h"
#include "core/ops/cpu/register_tile.h"

TRIREME_AVX512_BEGIN

namespace trireme {
namespace {

constexpr int64_t kMaxPartWords = 512;  // A panel of a then takes 28 KiB.
constexpr int64_t kMaxBlock = 2048;     // Rows and columns of a block of c: bounds the scratch.
constexpr int64_t kTaskPanels = 8, kPackPanels = 4;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A block [m, n] of c, with the rows of a and columns of b that it needs.
class BlockProduct {
 public:
  BlockProduct(CpuDevice& device, const Product& p)
      : device_(device),
        p_(p),
        a_{static_cast<const char*>(p.a.data), p.a.ld, !p.a.transposed, p.m},
        b_{static_cast<const char*>(p.b.data), p.b.ld, p.b.transposed, p.n},
        panels_m_(CeilDiv(p.m, kTileRows)),
        panels_n_(CeilDiv(p.n, kTileColumns)),
        num_parts_(CeilDiv(CeilDiv(p.k, 2), kMaxPartWords)),
        part_words_(CeilDiv(CeilDiv(p.k, 2), num_parts_)) {}

  void Run() {
    const Workspace a(device_, panels_m_ * kTileRows * part_words_ * sizeof(float), "gemm");
    const Workspace b(device_, panels_n_ * kTileColumns * part_words_ * sizeof(float), "gemm");
    packed_a_ = a.as<float>();
    packed_b_ = b.as<float>();
    bool fresh = p_.beta == 0;
    for (int64_t k = 0; k < p_.k; k += 2 * part_words_) {
      const int64_t end = std::min(k + 2 * part_words_, p_.k);
      Pack(k, end);
      Multiply(CeilDiv(end - k, 2), fresh);
      fresh = false;
    }
  }

 private:
  void Pack(int64_t k_begin, int64_t k_end) {
    device_.ParallelFor(panels_m_ + panels_n_, kPackPanels, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t j = i - panels_m_;
        if (j < 0) {
          PackPanel<true, kTileRows>(a_, i * kTileRows, k_begin, k_end, PanelA(i));
        } else {
          PackPanel<true, kTileColumns>(b_, j * kTileColumns, k_begin, k_end, PanelB(j));
        }
      }
    });
  }

  void Multiply(int64_t words, bool fresh) {
    const int64_t tasks_m = CeilDiv(panels_m_, kTaskPanels);
    const int64_t tasks_n = CeilDiv(panels_n_, kTaskPanels);
    device_.ParallelFor(tasks_m * tasks_n, 1, [&](int64_t first, int64_t last) {
      // Neighbouring tasks share their panels of b.
      for (int64_t task = first; task < last; ++task) {
        const int64_t i0 = task % tasks_m * kTaskPanels, j0 = task / tasks_m * kTaskPanels;
        for (int64_t i = i0; i < std::min(i0 + kTaskPanels, panels_m_); ++i) {
          for (int64_t j = j0; j < std::min(j0 + kTaskPanels, panels_n_); ++j) {
            MultiplyTile(i, j, words, fresh);
          }
        }
      }
    });
  }

  void MultiplyTile(int64_t i, int64_t j, int64_t words, bool fresh) {
    const int64_t row = i * kTileRows, column = j * kTileColumns;
    const int64_t rows = std::min<int64_t>(kTileRows, p_.m - row);
    float* c = static_cast<float*>(p_.c) + row * p_.ldc + column;
    for (int64_t r = 0; r < rows; ++r) {
      __builtin_prefetch(c + r * p_.ldc, /*rw=*/1);
      __builtin_prefetch(c + r * p_.ldc + kVector, 1);
    }
    AddTile<true>(rows, {words, PanelA(i), kTileRows, PanelB(j), kTileColumns}, c, p_.ldc,
                  std::min<int64_t>(kTileColumns, p_.n - column), fresh);
  }

  float* PanelA(int64_t i) const { return packed_a_ + i * kTileRows * part_words_; }
  float* PanelB(int64_t j) const { return packed_b_ + j * kTileColumns * part_words_; }

  CpuDevice& device_;
  const Product& p_;
  const PanelSource a_, b_;
  const int64_t panels_m_, panels_n_, num_parts_, part_words_;
  float *packed_a_ = nullptr, *packed_b_ = nullptr;
};

// `matrix` from (row, column) on.
MatrixRef From(MatrixRef matrix, int64_t row, int64_t column) {
  const int64_t offset = matrix.transposed ? column * matrix.ld + row : row * matrix.ld + column;
  matrix.data = static_cast<const bfloat16*>(matrix.data) + offset;
  return matrix;
}

}  // namespace

void PanelGemm(CpuDevice& device, const Product& p) {
  CHECK(p.in == DType::kBF16 && p.out == DType::kF32 && p.alpha == 1) << "[gemm]";
  const auto part = [](int64_t size, int64_t grain) {
    return CeilDiv(CeilDiv(size, CeilDiv(size, kMaxBlock)), grain) * grain;
  };
  const int64_t rows = part(p.m, kTileRows), columns = part(p.n, kTileColumns);
  for (int64_t i = 0; i < p.m; i += rows) {
    for (int64_t j = 0; j < p.n; j += columns) {
      Product block = p;
      block.m = std::min(rows, p.m - i);
      block.n = std::min(columns, p.n - j);
      block.a = From(p.a, i, 0);
      block.b = From(p.b, 0, j);
      block.c = static_cast<float*>(p.c) + i * p.ldc + j;
      BlockProduct(device, block).Run();
    }
  }
}

}  // namespace trireme

TRIREME_AVX512_END

namespace trireme {

bool PanelGemmPays(CpuDevice& device, const Product& p) {
  constexpr int64_t kLong = 1024, kWide = 128;
  return p.in == DType::kBF16 && p.out == DType::kF32 && p.alpha == 1 && p.a.transposed &&
         !p.b.transposed && p.k >= kLong && std::min(p.m, p.n) >= kWide &&
         HasRegisterTiles(device, p.in) && !GemmLibrary::HasMatrixUnits();
}

}  // namespace trireme
