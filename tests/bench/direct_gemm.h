// The libraries' matrix products called directly, on one thread: what a step's own products would
// cost with nothing around them.
#pragma once

#include <cstdint>
#include <memory>

namespace trireme::bench {

// c[m, n] = op(a) op(b): a is [m, k] or, transposed, [k, m]; b is [k, n] or [n, k]. For bf16, c is
// f32 when `wide` is set.
struct GemmShape {
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  bool wide = false;

  double flops() const { return 2.0 * m * n * k; }
};

enum class Library { kOpenBlas, kOneDnn };

class DirectGemm {
 public:
  DirectGemm(const GemmShape& shape, bool bf16);
  ~DirectGemm();
  // Whether the library has this product (OpenBLAS has no bf16 here).
  bool Has(Library library) const;
  void Run(Library library);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace trireme::bench
