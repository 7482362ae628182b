#include "core/ops/cpu/gemm_library.h"

#include <cblas.h>

#include <algorithm>
#include <limits>
#include <list>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/device/workspace.h"
#include "oneapi/dnnl/dnnl.hpp"

// oneDNN brings its own OpenMP runtime. The references are weak, since it may be built without.
extern "C" {
[[gnu::weak]] void omp_set_num_threads(int num_threads);
[[gnu::weak]] int omp_get_max_threads(void);
}

namespace trireme {
namespace {

// OpenMP's thread count is a setting of the calling thread, which may be the user's: it is put
// back.
class OneOpenMpThread {
 public:
  OneOpenMpThread() : before_(omp_get_max_threads != nullptr ? omp_get_max_threads() : 1) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneOpenMpThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }

 private:
  const int before_;
};

dnnl::memory::data_type DnnlType(DType dtype) {
  return dtype == DType::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

dnnl::memory::desc Describe(int64_t rows, int64_t columns, DType dtype, int64_t ld,
                            bool transposed) {
  using Dims = dnnl::memory::dims;
  return {Dims{rows, columns}, DnnlType(dtype), transposed ? Dims{1, ld} : Dims{ld, 1}};
}

dnnl::matmul::primitive_desc DescribeProduct(const Product& p, const dnnl::engine& engine) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (p.alpha != 1) attributes.set_output_scales(0, {static_cast<float>(p.alpha)});
  if (p.beta != 0) {
    dnnl::post_ops add;
    add.append_sum(1);
    attributes.set_post_ops(add);
  }
  return {dnnl::matmul::desc(Describe(p.m, p.k, p.in, p.a.ld, p.a.transposed),
                             Describe(p.k, p.n, p.in, p.b.ld, p.b.transposed),
                             Describe(p.m, p.n, p.out, p.ldc, false)),
          attributes, engine};
}

void Dgemm(const Product& p) {
  // OpenBLAS's setting is the process's; tiles of ours are the only parallelism it is called for.
  [[maybe_unused]] static const bool single = (openblas_set_num_threads(1), true);
  constexpr int64_t kMaxInt = std::numeric_limits<blasint>::max();
  CHECK(std::max({p.m, p.n, p.k, p.a.ld, p.b.ld, p.ldc}) <= kMaxInt)
      << "a dimension over 2^31 elements [gemm]";
  cblas_dgemm(CblasRowMajor, p.a.transposed ? CblasTrans : CblasNoTrans,
              p.b.transposed ? CblasTrans : CblasNoTrans, p.m, p.n, p.k, p.alpha,
              static_cast<const double*>(p.a.data), p.a.ld, static_cast<const double*>(p.b.data),
              p.b.ld, p.beta, static_cast<double*>(p.c), p.ldc);
}

void Sgemm(const Product& p) {
  const OneOpenMpThread one_thread;
  const dnnl_status_t status =
      dnnl_sgemm(p.a.transposed ? 'T' : 'N', p.b.transposed ? 'T' : 'N', p.m, p.n, p.k,
                 static_cast<float>(p.alpha), static_cast<const float*>(p.a.data), p.a.ld,
                 static_cast<const float*>(p.b.data), p.b.ld, static_cast<float>(p.beta),
                 static_cast<float*>(p.c), p.ldc);
  if (status != dnnl_success) {
    throw Failure(absl::InternalError(absl::StrCat("dnnl_sgemm returned ", int{status})));
  }
}

// dst[i] = src[i] over a matrix, converting; both row-major.
template <typename D, typename S>
void ConvertRows(const S* src, int64_t src_ld, D* dst, int64_t dst_ld, int64_t rows,
                 int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    const S* from = src + i * src_ld;
    D* to = dst + i * dst_ld;
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) to[j] = D(static_cast<float>(from[j]));
  }
}

}  // namespace

// Compiled bf16 products, the least recently used dropped first. A slot is what one execution
// needs, so that threads never share one.
class GemmLibrary::PrimitiveCache {
 public:
  using Key = std::tuple<DType, int64_t, int64_t, int64_t, int64_t, bool, int64_t, bool, int64_t,
                         double, double>;
  struct Slot {
    dnnl::stream stream;
    dnnl::matmul primitive;
    dnnl::memory a, b, c, scratch;
    std::unordered_map<int, dnnl::memory> arguments;
  };
  struct Entry {
    dnnl::matmul::primitive_desc description;
    dnnl::matmul primitive;
    std::vector<std::unique_ptr<Slot>> idle;
    std::list<Key>::iterator age;
  };

  static Key KeyOf(const Product& p) {
    return {p.out,          p.m,   p.n,     p.k,   p.a.ld, p.a.transposed, p.b.ld,
            p.b.transposed, p.ldc, p.alpha, p.beta};
  }

  std::unique_ptr<Slot> Take(const Product& product) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Key key = KeyOf(product);
    auto it = entries_.find(key);
    if (it == entries_.end()) {
      if (entries_.size() == kCapacity) {
        entries_.erase(ages_.back());
        ages_.pop_back();
      }
      const dnnl::matmul::primitive_desc description = DescribeProduct(product, engine_);
      ages_.push_front(key);
      it = entries_.emplace(key, Entry{description, dnnl::matmul(description), {}, ages_.begin()})
               .first;
    }
    Entry& entry = it->second;
    ages_.splice(ages_.begin(), ages_, entry.age);
    if (!entry.idle.empty()) {
      std::unique_ptr<Slot> slot = std::move(entry.idle.back());
      entry.idle.pop_back();
      return slot;
    }
    const auto memory = [&](const dnnl::memory::desc& desc) {
      return dnnl::memory(desc, engine_, DNNL_MEMORY_NONE);
    };
    auto slot = std::make_unique<Slot>(Slot{dnnl::stream(engine_),
                                            entry.primitive,
                                            memory(entry.description.src_desc()),
                                            memory(entry.description.weights_desc()),
                                            memory(entry.description.dst_desc()),
                                            memory(entry.description.scratchpad_desc()),
                                            {}});
    slot->arguments = {{DNNL_ARG_SRC, slot->a},
                       {DNNL_ARG_WEIGHTS, slot->b},
                       {DNNL_ARG_DST, slot->c},
                       {DNNL_ARG_SCRATCHPAD, slot->scratch}};
    return slot;
  }

  void Return(const Product& product, std::unique_ptr<Slot> slot) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto it = entries_.find(KeyOf(product));
    if (it != entries_.end()) it->second.idle.push_back(std::move(slot));
  }

 private:
  static constexpr size_t kCapacity = 256;

  std::mutex mutex_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::map<Key, Entry> entries_;
  std::list<Key> ages_;  // The most recently used first.
};

GemmLibrary::GemmLibrary(bool bf16_primitives)
    : bf16_primitives_(bf16_primitives), cache_(std::make_unique<PrimitiveCache>()) {}

GemmLibrary::~GemmLibrary() = default;

void GemmLibrary::Run(const Product& product, Device& device) {
  if (product.in == DType::kBF16) {
    CHECK(product.out == DType::kBF16 || product.out == DType::kF32)
        << "bf16 to " << DTypeName(product.out) << " [gemm]";
    return bf16_primitives_ ? RunBf16(product, device) : RunConverted(product, device);
  }
  CHECK(product.in == product.out)
      << DTypeName(product.in) << " to " << DTypeName(product.out) << " [gemm]";
  CHECK(product.in == DType::kF64 || product.in == DType::kF32)
      << DTypeName(product.in) << " [gemm]";
  product.in == DType::kF64 ? Dgemm(product) : Sgemm(product);
}

void GemmLibrary::RunBf16(const Product& product, Device& device) {
  // Its thread count also decides how a primitive is compiled.
  const OneOpenMpThread one_thread;
  try {
    std::unique_ptr<PrimitiveCache::Slot> slot = cache_->Take(product);
    const Workspace scratch(device, slot->scratch.get_desc().get_size(), "gemm");
    slot->a.set_data_handle(const_cast<void*>(product.a.data));
    slot->b.set_data_handle(const_cast<void*>(product.b.data));
    slot->c.set_data_handle(product.c);
    slot->scratch.set_data_handle(scratch.as<void>());
    slot->primitive.execute(slot->stream, slot->arguments);
    cache_->Return(product, std::move(slot));
  } catch (const dnnl::error& error) {
    throw Failure(absl::InternalError(absl::StrCat("oneDNN: ", error.what(), " [gemm]")));
  }
}

void GemmLibrary::RunConverted(const Product& product, Device& device) {
  const auto converted = [](const MatrixRef& matrix, int64_t rows, int64_t columns, float* to) {
    if (matrix.transposed) std::swap(rows, columns);
    ConvertRows(static_cast<const bfloat16*>(matrix.data), matrix.ld, to, columns, rows, columns);
    return MatrixRef{to, columns, matrix.transposed};
  };
  const int64_t m = product.m, n = product.n, k = product.k;
  const Workspace a(device, m * k * sizeof(float), "gemm");
  const Workspace b(device, k * n * sizeof(float), "gemm");
  Product wide = product;
  wide.in = wide.out = DType::kF32;
  wide.a = converted(product.a, m, k, a.as<float>());
  wide.b = converted(product.b, k, n, b.as<float>());
  if (product.out == DType::kF32) return Sgemm(wide);
  const Workspace c(device, m * n * sizeof(float), "gemm");
  bfloat16* out = static_cast<bfloat16*>(product.c);
  wide.c = c.as<float>();
  wide.ldc = n;
  if (product.beta != 0) ConvertRows(out, product.ldc, c.as<float>(), n, m, n);
  Sgemm(wide);
  ConvertRows(c.as<float>(), n, out, product.ldc, m, n);
}

bool GemmLibrary::HasBf16Primitives() {
  static const bool has = [] {
    try {
      const Product probe{DType::kBF16,  DType::kBF16,  16,      16, 16,
                          {nullptr, 16}, {nullptr, 16}, nullptr, 16};
      DescribeProduct(probe, dnnl::engine(dnnl::engine::kind::cpu, 0));
      return true;
    } catch (const dnnl::error&) {
      return false;
    }
  }();
  return has;
}

bool GemmLibrary::HasMatrixUnits() {
  static const bool has = dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_amx;
  return has;
}

std::string GemmLibrary::Describe() {
  const auto isa = [] {
    switch (dnnl::get_effective_cpu_isa()) {
      case dnnl::cpu_isa::sse41:
        return "sse41";
      case dnnl::cpu_isa::avx:
        return "avx";
      case dnnl::cpu_isa::avx2:
      case dnnl::cpu_isa::avx2_vnni:
        return "avx2";
      case dnnl::cpu_isa::avx512_core:
      case dnnl::cpu_isa::avx512_core_vnni:
        return "avx512_core";
      case dnnl::cpu_isa::avx512_core_bf16:
        return "avx512_core_bf16";
      default:
        return "amx";
    }
  }();
  const dnnl_version_t* version = dnnl::version();
  return absl::StrCat("f32: oneDNN ", version->major, ".", version->minor, ".", version->patch,
                      " (", isa, "); bf16: ", HasBf16Primitives() ? "the same" : "converted to f32",
                      "; f64: OpenBLAS (", openblas_get_corename(), ")");
}

}  // namespace trireme
