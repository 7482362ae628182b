// powersgd: a parameter as a matrix M of n rows (its first dimension) and m columns (the rest: a
// convolution is o x (i kh kw)), and of it one step of the power method from where the last round
// ended:
//
//   P = mean_k M_k Q; orthonormalize P; Q = mean_k M_k^T P; decoded: P Q^T = P P^T mean_k M_k.
//
// P and Q have min(rank, n, m) columns. The state is Q, orthonormal, and P between the passes.
// Orthonormalizing Q changes only the basis of what it spans, and keeps a zero or deficient matrix
// of one round from narrowing what later rounds can see: at full rank P always spans the columns of
// the mean, which is then decoded to rounding.
//
// Without all-reduces, Encode does the step on one replica's M from a random Q, and both factors
// travel.
//
// Vogels, Karimireddy, Jaggi, "PowerSGD" (NeurIPS 2019), algorithm 1.
//
// On the wire and in the state factors are transposed: r x n and r x m, row-major.
#include "parallel/sync/powersgd.h"

#include "core/base/rng.h"
#include "core/ops/cpu/gemm_library.h"
#include "core/ops/devices.h"
#include "parallel/sync/block_scale.h"
#include "parallel/sync/orthonormal.h"

namespace trireme {
namespace {

class PowerSgd : public Codec {
 public:
  explicit PowerSgd(int64_t rank) : rank_(rank), device_(MakeCpuDevice({.num_threads = 1})) {}

  int64_t block_size() const override { return 0; }
  double Contraction(const Shape&) const override { return 0; }

  Status Check(const Shape& parameter) const override {
    if (parameter.rank() >= 2) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("powersgd on vectors: ", parameter.ToString(),
                                                   " is not a matrix; give it another codec"));
  }

  int64_t EncodedBytes(const CodecPiece& piece, DType dtype) const override {
    return (LinearSize(piece, 0) + LinearSize(piece, 1)) * DTypeSize(dtype);
  }

  void Encode(const CodecPiece& piece, const RoundKey& round, const View& values,
              absl::Span<uint8_t> bytes) const override {
    CHECK_EQ(static_cast<int64_t>(bytes.size()), EncodedBytes(piece, values.dtype));
    DispatchValues(values, [&]<typename T>(T) {
      const Matrix m = MatrixOf(piece, values);
      std::vector<T> p(m.r * m.rows), q(m.r * m.columns);
      DrawBasis(m, piece.key, MakeRngKey(round.seed, "powersgd", round.round), q.data());
      TimesQ(m, values, q.data(), p.data());
      Orthonormalize(p.data(), m.r, m.rows);
      TransposedTimesP(m, values, p.data(), q.data());
      if (piece.size == 0) return;
      std::memcpy(bytes.data(), p.data(), p.size() * sizeof(T));
      std::memcpy(bytes.data() + p.size() * sizeof(T), q.data(), q.size() * sizeof(T));
    });
  }

  void Decode(const CodecPiece& piece, const RoundKey&, absl::Span<const uint8_t> bytes,
              const View& values) const override {
    CHECK_EQ(static_cast<int64_t>(bytes.size()), EncodedBytes(piece, values.dtype));
    DispatchValues(values, [&]<typename T>(T) {
      const Matrix m = MatrixOf(piece, values);
      std::vector<T> factors(m.r * (m.rows + m.columns));
      if (!factors.empty()) std::memcpy(factors.data(), bytes.data(), bytes.size());
      Expand(m, factors.data(), factors.data() + m.r * m.rows, values);
    });
  }

  int num_linear_passes() const override { return 2; }

  int64_t LinearSize(const CodecPiece& piece, int pass) const override {
    if (piece.size == 0) return 0;
    const Matrix m = MatrixOf(piece.parameter);
    return m.r * (pass == 0 ? m.rows : m.columns);
  }

  int64_t LinearStateSize(const CodecPiece& piece) const override {
    return LinearSize(piece, 0) + LinearSize(piece, 1);
  }

  void LinearStart(const CodecPiece& piece, uint64_t seed, const View& state) const override {
    CHECK_EQ(state.numel(), LinearStateSize(piece));
    DispatchValues(state, [&]<typename T>(T) {
      const Matrix m = MatrixOf(piece.parameter);
      std::fill_n(StateP<T>(m, state), m.r * m.rows, T(0));
      DrawBasis(m, piece.key, MakeRngKey(seed, "powersgd"), StateQ<T>(state));
    });
  }

  void LinearEncode(int pass, const CodecPiece& piece, const RoundKey&, const View& values,
                    const View& state, const View& wire) const override {
    CheckLinear(pass, piece, state, wire);
    DispatchValues(values, [&]<typename T>(T) {
      const Matrix m = MatrixOf(piece, values);
      if (pass == 0) {
        TimesQ(m, values, StateQ<T>(state), wire.as<T>());
      } else {
        TransposedTimesP(m, values, StateP<T>(m, state), wire.as<T>());
      }
    });
  }

  void LinearDecode(int pass, const CodecPiece& piece, const RoundKey& round, const View& wire,
                    const View& state, const View& values) const override {
    CheckLinear(pass, piece, state, wire);
    DispatchValues(wire, [&]<typename T>(T) {
      const Matrix m = MatrixOf(piece.parameter);
      T* p = StateP<T>(m, state);
      if (pass == 0) {
        std::copy_n(wire.as<T>(), wire.numel(), p);
        Orthonormalize(p, m.r, m.rows);
        return;
      }
      Expand(MatrixOf(piece, values), p, wire.as<T>(), values);
      T* q = StateQ<T>(state);
      std::copy_n(wire.as<T>(), wire.numel(), q);
      Orthonormalize(q, m.r, m.columns);
      // The round is lost; what it held is not what the next one starts from.
      if (!std::isfinite(LargestMagnitude(q, wire.numel()))) {
        LinearStart(piece, round.seed, state);
      }
    });
  }

 private:
  struct Matrix {
    int64_t rows, columns, r;
  };

  Matrix MatrixOf(const Shape& shape) const {
    CHECK_OK(Check(shape));
    const int64_t numel = shape.numel(), rows = shape[0];
    const int64_t columns = numel == 0 ? 0 : numel / rows;
    return {rows, columns, numel == 0 ? 0 : std::min({rank_, rows, columns})};
  }
  Matrix MatrixOf(const CodecPiece& piece, const View& values) const {
    CHECK(piece.size == 0 || (piece.first == 0 && piece.size == piece.parameter.numel()))
        << "a low rank is of a whole matrix";
    CHECK_EQ(values.numel(), piece.size);
    Matrix m = MatrixOf(piece.parameter);
    if (piece.size == 0) m.r = 0;
    return m;
  }

  void CheckLinear(int pass, const CodecPiece& piece, const View& state, const View& wire) const {
    CHECK_EQ(state.numel(), LinearStateSize(piece));
    CHECK_EQ(wire.numel(), LinearSize(piece, pass));
    CHECK(wire.dtype == state.dtype);
  }

  template <typename T>
  static T* StateQ(const View& state) {
    return state.as<T>();
  }
  template <typename T>
  static T* StateP(const Matrix& m, const View& state) {
    return state.as<T>() + m.r * m.columns;
  }

  template <typename T>
  void Orthonormalize(T* basis, int64_t r, int64_t n) const {
    MakeOrthonormal(basis, r, n, gemms_, *device_);
  }

  template <typename T>
  void DrawBasis(const Matrix& m, uint64_t parameter, RngKey key, T* q) const {
    const RngBlock mixed = Philox(key, parameter, ~uint64_t{0});
    for (int64_t i = 0; i < m.r * m.columns; ++i) {
      q[i] = static_cast<T>(NormalAt({mixed[0], mixed[1]}, i));
    }
    Orthonormalize(q, m.r, m.columns);
  }

  // p[r, rows] = q[r, columns] M^T
  template <typename T>
  void TimesQ(const Matrix& m, const View& values, const T* q, T* p) const {
    Multiply<T>(m.r, m.rows, m.columns, {q, m.columns}, {values.data, m.columns, true}, p);
  }
  // q[r, columns] = p[r, rows] M
  template <typename T>
  void TransposedTimesP(const Matrix& m, const View& values, const T* p, T* q) const {
    Multiply<T>(m.r, m.columns, m.rows, {p, m.rows}, {values.data, m.columns}, q);
  }
  // M = p^T q
  template <typename T>
  void Expand(const Matrix& m, const T* p, const T* q, const View& values) const {
    Multiply<T>(m.rows, m.columns, m.r, {p, m.rows, true}, {q, m.columns}, values.as<T>());
  }

  template <typename T>
  void Multiply(int64_t m, int64_t n, int64_t k, MatrixRef a, MatrixRef b, T* c) const {
    if (m == 0 || n == 0 || k == 0) return;
    constexpr DType kType = DTypeOf<T>::value;
    gemms_.Run({kType, kType, m, n, k, a, b, c, n}, *device_);
  }

  const int64_t rank_;
  const std::unique_ptr<CpuDevice> device_;  // Scratch memory of products.
  mutable GemmLibrary gemms_;
};

}  // namespace

StatusOr<std::unique_ptr<Codec>> MakePowerSgd(const Params& params) {
  return {std::make_unique<PowerSgd>(params.Int("rank"))};
}

}  // namespace trireme
