// Functions of one tensor, element by element. An op saves its input, or its output where the
// derivative is simpler in that, or nothing where the derivative is constant.
#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/elementwise.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

Tensor Unary(UnaryOp op, const char* name, const Tensor& x, double a = 0, double b = 0) {
  const Tensor y = Tensor::Empty(x.device(), x.shape(), x.dtype(), MemoryKind::kActivations, name);
  Launch(x.device(), &KernelTable::Unary, UnaryArgs{x.view(), y.view(), op, a, b});
  return Record(name, {x}, y,
                [=, saved = (UnarySavesOutput(op) ? y : x).Detach()](
                    absl::Span<const Tensor> grads) -> Grads {
                  const Tensor& dy = grads[0];
                  const Tensor dx = Tensor::Empty(dy.device(), dy.shape(), dy.dtype(),
                                                  MemoryKind::kActivations, name);
                  Launch(dy.device(), &KernelTable::UnaryBackward,
                         UnaryBackwardArgs{saved.view(), dy.view(), dx.view(), op, a, b});
                  return {dx};
                });
}

// y = op(x) with dy/dx = slope everywhere.
Tensor Affine(UnaryOp op, const char* name, const Tensor& x, double a, double slope) {
  const Tensor y = Tensor::Empty(x.device(), x.shape(), x.dtype(), MemoryKind::kActivations, name);
  Launch(x.device(), &KernelTable::Unary, UnaryArgs{x.view(), y.view(), op, a});
  return Record(name, {x}, y, [slope](absl::Span<const Tensor> grads) -> Grads {
    return {slope == 1 ? grads[0] : Mul(grads[0], slope)};
  });
}

}  // namespace

Tensor Add(const Tensor& a, double b) { return Affine(UnaryOp::kAdd, "add", a, b, 1); }
Tensor Mul(const Tensor& a, double b) { return Affine(UnaryOp::kMul, "mul", a, b, b); }
Tensor Neg(const Tensor& x) { return Affine(UnaryOp::kNeg, "neg", x, 0, -1); }

Tensor Abs(const Tensor& x) { return Unary(UnaryOp::kAbs, "abs", x); }
Tensor Exp(const Tensor& x) { return Unary(UnaryOp::kExp, "exp", x); }
Tensor Log(const Tensor& x) { return Unary(UnaryOp::kLog, "log", x); }
Tensor Sqrt(const Tensor& x) { return Unary(UnaryOp::kSqrt, "sqrt", x); }
Tensor Tanh(const Tensor& x) { return Unary(UnaryOp::kTanh, "tanh", x); }
Tensor Sigmoid(const Tensor& x) { return Unary(UnaryOp::kSigmoid, "sigmoid", x); }
Tensor Relu(const Tensor& x) { return Unary(UnaryOp::kRelu, "relu", x); }
Tensor Gelu(const Tensor& x) { return Unary(UnaryOp::kGelu, "gelu", x); }
Tensor Silu(const Tensor& x) { return Unary(UnaryOp::kSilu, "silu", x); }
Tensor Softplus(const Tensor& x) { return Unary(UnaryOp::kSoftplus, "softplus", x); }
Tensor LogSigmoid(const Tensor& x) { return Unary(UnaryOp::kLogSigmoid, "log_sigmoid", x); }

Tensor Pow(const Tensor& x, double exponent) { return Unary(UnaryOp::kPow, "pow", x, exponent); }

Tensor Clamp(const Tensor& x, double low, double high) {
  CHECK_LE(low, high) << "[clamp]";
  return Unary(UnaryOp::kClamp, "clamp", x, low, high);
}

}  // namespace trireme
