#include "tests/cuda_emulation/gemm.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/tensor/dtype.h"

namespace trireme::emulation {
namespace {

// Columns as they lie in memory, whatever the order is called.
struct Extent {
  uint64_t length;  // Of each, in elements,
  uint64_t count;   // how many.
};
Extent ExtentOf(const GemmLayout& layout) {
  return layout.order == CUBLASLT_ORDER_COL ? Extent{layout.rows, layout.columns}
                                            : Extent{layout.columns, layout.rows};
}

const unsigned char* BatchBegin(const void* data, const GemmLayout& layout, int64_t batch) {
  return static_cast<const unsigned char*>(data) +
         batch * layout.batch_stride * static_cast<int64_t>(TypeBytes(layout.type));
}

// Calls check(begin, bytes) for each column of each batch until one finds something.
template <typename Check>
std::string ForColumns(const void* data, const GemmLayout& layout, const Check& check) {
  const Extent extent = ExtentOf(layout);
  const size_t bytes = TypeBytes(layout.type);
  for (int64_t batch = 0; batch < layout.num_batches; ++batch) {
    const unsigned char* begin = BatchBegin(data, layout, batch);
    const bool dense = static_cast<uint64_t>(layout.ld) == extent.length;
    const uint64_t num_runs = dense ? 1 : extent.count;
    const size_t run_bytes = extent.length * bytes * (dense ? extent.count : 1);
    for (uint64_t i = 0; i < num_runs; ++i) {
      std::string wrong = check(begin + i * static_cast<uint64_t>(layout.ld) * bytes, run_bytes);
      if (!wrong.empty()) return wrong;
    }
  }
  return "";
}

bool Overlap(const void* p, const GemmLayout& p_layout, const void* q, const GemmLayout& q_layout) {
  auto range = [](const void* data, const GemmLayout& layout) {
    const Extent extent = ExtentOf(layout);
    const auto begin = reinterpret_cast<uintptr_t>(data);
    const uint64_t elements = (extent.count - 1) * static_cast<uint64_t>(layout.ld) +
                              extent.length +
                              static_cast<uint64_t>((layout.num_batches - 1) * layout.batch_stride);
    return std::pair(begin, begin + elements * TypeBytes(layout.type));
  };
  const auto [p_begin, p_end] = range(p, p_layout);
  const auto [q_begin, q_end] = range(q, q_layout);
  return p_begin < q_end && q_begin < p_end;
}

double Load(const unsigned char* data, cudaDataType_t type) {
  if (type == CUDA_R_64F) {
    double value;
    memcpy(&value, data, sizeof(value));
    return value;
  }
  if (type == CUDA_R_32F) {
    float value;
    memcpy(&value, data, sizeof(value));
    return value;
  }
  bfloat16 value;
  memcpy(&value, data, sizeof(value));
  return double{float(value)};
}

void Store(double value, unsigned char* data, cudaDataType_t type) {
  if (type == CUDA_R_64F) {
    memcpy(data, &value, sizeof(value));
  } else if (type == CUDA_R_32F) {
    const float narrow = static_cast<float>(value);
    memcpy(data, &narrow, sizeof(narrow));
  } else {
    const bfloat16 narrow(static_cast<float>(value));
    memcpy(data, &narrow, sizeof(narrow));
  }
}

// TensorFloat-32 keeps 10 bits of the fraction.
float RoundToTf32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7F800000) == 0x7F800000) return value;
  return std::bit_cast<float>((bits + 0xFFF + ((bits >> 13) & 1)) & ~uint32_t{0x1FFF});
}

// op(matrix) as dense columns of `rows` values.
template <typename T>
std::vector<T> Unpack(const void* data, const GemmLayout& layout, int64_t batch, bool transpose,
                      bool tf32) {
  const uint64_t rows = transpose ? layout.columns : layout.rows;
  const uint64_t columns = transpose ? layout.rows : layout.columns;
  const bool by_rows = (layout.order == CUBLASLT_ORDER_ROW) != transpose;
  const unsigned char* begin = BatchBegin(data, layout, batch);
  const size_t bytes = TypeBytes(layout.type);
  const auto ld = static_cast<uint64_t>(layout.ld);
  std::vector<T> values(rows * columns);
  for (uint64_t j = 0; j < columns; ++j) {
    for (uint64_t i = 0; i < rows; ++i) {
      T value =
          static_cast<T>(Load(begin + (by_rows ? i * ld + j : j * ld + i) * bytes, layout.type));
      if (tf32) value = static_cast<T>(RoundToTf32(static_cast<float>(value)));
      values[j * rows + i] = value;
    }
  }
  return values;
}

// sums[m, n] = a[m, k] b[k, n], all in dense columns; each sum in order of k.
template <typename T>
void Multiply(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ sums, uint64_t m,
              uint64_t n, uint64_t k) {
  constexpr uint64_t kTile = 512;
  for (uint64_t i0 = 0; i0 < m; i0 += kTile) {
    const uint64_t rows = std::min(kTile, m - i0);
    for (uint64_t j0 = 0; j0 < n; j0 += 4) {
      T tile[4][kTile] = {};
      const uint64_t columns = std::min<uint64_t>(4, n - j0);
      for (uint64_t l = 0; l < k; ++l) {
        const T* column = a + l * m + i0;
        T factor[4] = {};
        for (uint64_t j = 0; j < columns; ++j) factor[j] = b[(j0 + j) * k + l];
        for (uint64_t i = 0; i < rows; ++i) {
          for (int j = 0; j < 4; ++j) tile[j][i] += column[i] * factor[j];
        }
      }
      for (uint64_t j = 0; j < columns; ++j) {
        std::copy(tile[j], tile[j] + rows, sums + (j0 + j) * m + i0);
      }
    }
  }
}

double Gelu(double x) {
  return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

template <typename T>
void RunBatch(const GemmCall& call, int64_t batch) {
  const bool tf32 = call.compute_type == CUBLAS_COMPUTE_32F_FAST_TF32;
  const bool transpose_a = call.transpose_a != CUBLAS_OP_N;
  const std::vector<T> a = Unpack<T>(call.a, call.a_layout, batch, transpose_a, tf32);
  const std::vector<T> b =
      Unpack<T>(call.b, call.b_layout, batch, call.transpose_b != CUBLAS_OP_N, tf32);
  const GemmLayout& d = call.d_layout;
  const uint64_t m = d.rows, n = d.columns;
  const uint64_t k = transpose_a ? call.a_layout.rows : call.a_layout.columns;
  std::vector<T> sums(m * n);
  Multiply(a.data(), b.data(), sums.data(), m, n, k);

  const size_t bytes = TypeBytes(d.type);
  auto* to = const_cast<unsigned char*>(BatchBegin(call.d, d, batch));
  const unsigned char* from = BatchBegin(call.c, call.c_layout, batch);
  const auto* bias = static_cast<const unsigned char*>(call.bias);
  auto* aux = static_cast<unsigned char*>(call.aux);
  auto element = [](const GemmLayout& layout, uint64_t i, uint64_t j) {
    const auto ld = static_cast<uint64_t>(layout.ld);
    return layout.order == CUBLASLT_ORDER_ROW ? i * ld + j : j * ld + i;
  };
  for (uint64_t j = 0; j < n; ++j) {
    for (uint64_t i = 0; i < m; ++i) {
      T value = static_cast<T>(call.alpha) * sums[j * m + i];
      if (call.beta != 0) {
        value += static_cast<T>(call.beta) *
                 static_cast<T>(Load(from + element(call.c_layout, i, j) * bytes, d.type));
      }
      if ((call.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0) {
        const uint64_t at = static_cast<uint64_t>(batch * call.bias_batch_stride) + i;
        value += static_cast<T>(Load(bias + at * bytes, d.type));
      }
      if ((call.epilogue & CUBLASLT_EPILOGUE_GELU) != 0) {
        if (aux != nullptr) {
          const uint64_t at = static_cast<uint64_t>(batch * call.aux_batch_stride) +
                              j * static_cast<uint64_t>(call.aux_ld) + i;
          Store(double{value}, aux + at * bytes, d.type);
        }
        value = static_cast<T>(Gelu(double{value}));
      }
      Store(double{value}, to + element(d, i, j) * bytes, d.type);
    }
  }
}

}  // namespace

size_t TypeBytes(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_64F:
      return 8;
    case CUDA_R_32F:
      return 4;
    case CUDA_R_16BF:
      return 2;
    default:
      return 0;
  }
}

std::string RunGemm(DeviceMemory& memory, const GemmCall& call) {
  const GemmLayout& d = call.d_layout;
  auto read = [&memory](const unsigned char* begin, size_t bytes) {
    return memory.Read(begin, bytes);
  };
  auto write = [&memory](const unsigned char* begin, size_t bytes) {
    return memory.Write(const_cast<unsigned char*>(begin), bytes);
  };
  std::string wrong = ForColumns(call.a, call.a_layout, read);
  if (wrong.empty()) wrong = ForColumns(call.b, call.b_layout, read);
  if (wrong.empty() && call.beta != 0) wrong = ForColumns(call.c, call.c_layout, read);
  if (wrong.empty() && call.bias != nullptr) {
    GemmLayout bias = {d.type,
                       d.rows,
                       1,
                       static_cast<int64_t>(d.rows),
                       CUBLASLT_ORDER_COL,
                       call.bias_batch_stride == 0 ? 1 : d.num_batches,
                       call.bias_batch_stride};
    wrong = ForColumns(call.bias, bias, read);
  }
  if (wrong.empty() && call.workspace_bytes > 0) {
    // What the library leaves there is nothing to anybody.
    wrong = memory.Write(call.workspace, call.workspace_bytes);
    if (wrong.empty()) memset(call.workspace, 0xAB, std::min<size_t>(call.workspace_bytes, 4096));
  }
  if (wrong.empty() &&
      (Overlap(call.d, d, call.a, call.a_layout) || Overlap(call.d, d, call.b, call.b_layout))) {
    wrong = "writes over a or b: " + memory.Describe(call.d);
  }
  if (wrong.empty() && call.aux != nullptr) {
    const GemmLayout aux = {d.type,
                            d.rows,
                            d.columns,
                            call.aux_ld,
                            CUBLASLT_ORDER_COL,
                            d.num_batches,
                            call.aux_batch_stride};
    wrong = ForColumns(call.aux, aux, write);
  }
  if (wrong.empty()) wrong = ForColumns(call.d, d, write);
  if (!wrong.empty()) return wrong;
  for (int64_t batch = 0; batch < d.num_batches; ++batch) {
    if (call.compute_type == CUBLAS_COMPUTE_64F) {
      RunBatch<double>(call, batch);
    } else {
      RunBatch<float>(call, batch);
    }
  }
  return "";
}

}  // namespace trireme::emulation
