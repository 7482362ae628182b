// Arguments of the elementwise kernels. All views of one struct have equal sizes, any strides.
#pragma once

#include "core/tensor/view.h"

namespace trireme {

enum class UnaryOp : uint8_t {
  kNeg,
  kAbs,
  kExp,
  kLog,
  kSqrt,
  kPow,  // x^a
  kTanh,
  kSigmoid,
  kRelu,
  kGelu,
  kSilu,
  kSoftplus,    // log(1 + e^x)
  kLogSigmoid,  // -log(1 + e^-x)
  kClamp,       // To [a, b].
  kAdd,         // x + a
  kMul,         // x * a
};

// y = op(x)
struct UnaryArgs {
  View x, y;
  UnaryOp op;
  double a = 0, b = 0;
};

// dx = dy * op'; `saved` is the op's output where UnarySavesOutput, else its input.
struct UnaryBackwardArgs {
  View saved, dy, dx;
  UnaryOp op;
  double a = 0, b = 0;
};

inline constexpr bool UnarySavesOutput(UnaryOp op) {
  return op == UnaryOp::kExp || op == UnaryOp::kSqrt || op == UnaryOp::kTanh ||
         op == UnaryOp::kSigmoid || op == UnaryOp::kRelu;
}

enum class BinaryOp : uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMaximum,
  kMinimum,
  kMaximumShare,  // d maximum(a, b) / da: 1, 0, or 1/2 at a tie.
  kMinimumShare,
};

// y = op(a, b)
struct BinaryArgs {
  View a, b, y;
  BinaryOp op;
};

enum class CompareOp : uint8_t { kEqual, kLess, kLessEqual };

// y = op(a, b), u8, of any element type.
struct CompareArgs {
  View a, b, y;
  CompareOp op;
};

// y = condition ? a : b, of any element type; condition is u8.
struct WhereArgs {
  View condition, a, b, y;
};

// y = scale * x, or y += scale * x. scale is one element in the accumulation type of x, read on the
// device; y has the dtype of x or its accumulation type.
struct ScaleArgs {
  View x, scale, y;
  bool accumulate = false;
};

// y = silu(gate) * up
struct SwiGluArgs {
  View gate, up, y;
};

// dup = dy silu(gate), dgate = dy up silu'(gate)
struct SwiGluBackwardArgs {
  View gate, up, dy, dgate, dup;
};

}  // namespace trireme
