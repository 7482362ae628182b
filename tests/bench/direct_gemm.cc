#include "tests/bench/direct_gemm.h"

#include <cblas.h>
#include <omp.h>

#include <cstdlib>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "core/tensor/dtype.h"

namespace trireme::bench {

struct DirectGemm::State {
  GemmShape shape;
  bool bf16;
  std::vector<float> a, b, c;
  std::vector<bfloat16> a16, b16;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul matmul;
  dnnl::memory am, bm, cm;
};

DirectGemm::DirectGemm(const GemmShape& shape, bool bf16) : state_(new State) {
  openblas_set_num_threads(1);
  omp_set_num_threads(1);
  State& s = *state_;
  s.shape = shape;
  s.bf16 = bf16;
  const auto fill = [](std::vector<float>& values, int64_t n) {
    values.resize(n);
    for (int64_t i = 0; i < n; ++i) values[i] = 0.01f * static_cast<float>(i % 101 - 50);
  };
  fill(s.a, shape.m * shape.k);
  fill(s.b, shape.k * shape.n);
  s.c.resize(shape.m * shape.n);
  using Dims = dnnl::memory::dims;
  using Type = dnnl::memory::data_type;
  const Type in = bf16 ? Type::bf16 : Type::f32;
  const Type out = bf16 && !shape.wide ? Type::bf16 : Type::f32;
  if (bf16) {
    for (const float value : s.a) s.a16.emplace_back(value);
    for (const float value : s.b) s.b16.emplace_back(value);
  }
  const dnnl::memory::desc ad({shape.m, shape.k}, in,
                              shape.transpose_a ? Dims{1, shape.m} : Dims{shape.k, 1});
  const dnnl::memory::desc bd({shape.k, shape.n}, in,
                              shape.transpose_b ? Dims{1, shape.k} : Dims{shape.n, 1});
  const dnnl::memory::desc cd({shape.m, shape.n}, out, Dims{shape.n, 1});
  s.matmul = dnnl::matmul(dnnl::matmul::primitive_desc(dnnl::matmul::desc(ad, bd, cd), s.engine));
  s.am = dnnl::memory(ad, s.engine, bf16 ? static_cast<void*>(s.a16.data()) : s.a.data());
  s.bm = dnnl::memory(bd, s.engine, bf16 ? static_cast<void*>(s.b16.data()) : s.b.data());
  s.cm = dnnl::memory(cd, s.engine, s.c.data());
}

DirectGemm::~DirectGemm() = default;

bool DirectGemm::Has(Library library) const { return library == Library::kOneDnn || !state_->bf16; }

void DirectGemm::Run(Library library) {
  omp_set_num_threads(1);  // Of the calling thread.
  State& s = *state_;
  const GemmShape& g = s.shape;
  if (library == Library::kOpenBlas) {
    cblas_sgemm(CblasRowMajor, g.transpose_a ? CblasTrans : CblasNoTrans,
                g.transpose_b ? CblasTrans : CblasNoTrans, g.m, g.n, g.k, 1.0f, s.a.data(),
                g.transpose_a ? g.m : g.k, s.b.data(), g.transpose_b ? g.k : g.n, 0.0f, s.c.data(),
                g.n);
  } else {
    s.matmul.execute(s.stream,
                     {{DNNL_ARG_SRC, s.am}, {DNNL_ARG_WEIGHTS, s.bm}, {DNNL_ARG_DST, s.cm}});
    s.stream.wait();
  }
}

}  // namespace trireme::bench
