// The catalogue of differentiable operations.
//
// One .cc per op (or close family), forward above backward. Shapes are checked here, with CHECK: a
// wrong shape is the programmer's error. All throw Failure when memory runs out. Sums inside an op
// are kept in the accumulation type (f64 for f64, else f32). bf16 tensors are read and written as
// such. Legend: n tokens, h heads, g key-value heads, d head width, v vocabulary.
#pragma once

#include <functional>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/rng.h"
#include "core/batch.h"
#include "core/ops/recurrence.h"
#include "core/tensor/tensor.h"

namespace trireme {

// Arithmetic, with NumPy's broadcasting. Both sides have the same dtype.
Tensor Add(const Tensor& a, const Tensor& b);
Tensor Sub(const Tensor& a, const Tensor& b);
Tensor Mul(const Tensor& a, const Tensor& b);
Tensor Div(const Tensor& a, const Tensor& b);
Tensor Maximum(const Tensor& a, const Tensor& b);  // A tie gives half the gradient to each side.
Tensor Minimum(const Tensor& a, const Tensor& b);
Tensor Add(const Tensor& a, double b);
Tensor Mul(const Tensor& a, double b);

// Comparisons: u8, not differentiable.
Tensor Equal(const Tensor& a, const Tensor& b);
Tensor Less(const Tensor& a, const Tensor& b);
Tensor LessEqual(const Tensor& a, const Tensor& b);

// condition is u8; all three broadcast.
Tensor Where(const Tensor& condition, const Tensor& a, const Tensor& b);
Tensor Clamp(const Tensor& x, double low, double high);  // The gradient is zero outside.

Tensor Neg(const Tensor& x);
Tensor Abs(const Tensor& x);
Tensor Exp(const Tensor& x);
Tensor Log(const Tensor& x);
Tensor Sqrt(const Tensor& x);
Tensor Pow(const Tensor& x, double exponent);
Tensor Tanh(const Tensor& x);
Tensor Sigmoid(const Tensor& x);
Tensor Relu(const Tensor& x);
Tensor Gelu(const Tensor& x);                         // x Phi(x), by erf.
Tensor Silu(const Tensor& x);                         // x sigmoid(x)
Tensor Softplus(const Tensor& x);                     // log(1 + e^x)
Tensor LogSigmoid(const Tensor& x);                   // log(sigmoid(x))
Tensor SwiGlu(const Tensor& gate, const Tensor& up);  // silu(gate) * up, fused.

// Reductions. Over everything: a tensor of shape []. A negative dim counts from the end.
Tensor Sum(const Tensor& x);
Tensor Sum(const Tensor& x, int dim, bool keep_dim = false);
Tensor Mean(const Tensor& x);
Tensor Mean(const Tensor& x, int dim, bool keep_dim = false);
Tensor Max(const Tensor& x, int dim,
           bool keep_dim = false);        // The gradient goes to the first maximum.
Tensor ArgMax(const Tensor& x, int dim);  // i64, the first; not differentiable.

// Shapes. Reshape, Slice, Transpose and Broadcast are views where strides allow (Reshape copies
// else).
Tensor Reshape(const Tensor& x, const Shape& shape);
Tensor Transpose(const Tensor& x, int dim0, int dim1);
Tensor Slice(const Tensor& x, int dim, int64_t begin, int64_t size);
Tensor Broadcast(const Tensor& x, const Shape& shape);
Tensor Concat(absl::Span<const Tensor> xs, int dim);
Tensor To(const Tensor& x, DType dtype);

// Products. Leading dimensions are batches and broadcast. f32 accumulation for bf16.
Tensor MatMul(const Tensor& a, const Tensor& b, bool transpose_a = false, bool transpose_b = false);
// x [..., in], weight [out, in], bias [out] or undefined -> [..., out]. When weight is a leaf its
// gradient is a weight closure (split backward).
Tensor Linear(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor());

// Rows [first, first + rows) of a table of `count`.
struct ClassRange {
  int64_t first, count;
};

// Indexing. ids i32 or i64; an id outside the table throws Failure(OUT_OF_RANGE) naming it.
Tensor Embedding(const Tensor& ids, const Tensor& table);  // [n], [v, c] -> [n, c]
// Of a table of which only a range of rows is here: ids in the others give zeros.
Tensor Embedding(const Tensor& ids, const Tensor& table, const ClassRange& rows);
Tensor Gather(const Tensor& x, int dim, const Tensor& index);  // As torch.gather.
Tensor ScatterAdd(const Tensor& x, int dim, const Tensor& index, const Tensor& src);

Tensor Softmax(const Tensor& x, int dim = -1);
Tensor LogSoftmax(const Tensor& x, int dim = -1);

// The sum over labels (i32 [n], kIgnoredLabel skipped) of -log softmax(logits)[label]; [] in the
// accumulation type.
Tensor CrossEntropy(const Tensor& logits, const Tensor& labels);
// CrossEntropy(Linear(x, weight), labels) in chunks of tokens: [n, v] in f32 never exists whole.
// When a gradient is needed, dx and dweight are computed in the forward pass, chunk by chunk, and
// only scaled in backward, so logits are computed once. chunk_tokens 0: chosen by size.
Tensor LinearCrossEntropy(const Tensor& x, const Tensor& weight, const Tensor& labels,
                          int64_t chunk_tokens = 0);
// The chunk for so many classes: 16 MiB of f32 logits.
int64_t LogitChunkTokens(int64_t vocabulary);

// The same where the rows of `weight` are only a range of the classes. merge(labels, losses,
// norms), called for each chunk, turns what CrossEntropyArgs says of a part (softmax.h) into what
// it says of all classes. dx is then the part of a sum.
using MergeClassesFn =
    std::function<void(const Tensor& labels, const Tensor& losses, const Tensor& norms)>;
Tensor LinearCrossEntropy(const Tensor& x, const Tensor& weight, const Tensor& labels,
                          const ClassRange& classes, const MergeClassesFn& merge,
                          int64_t chunk_tokens = 0);

// Over the last dimension. gain and bias have its size; bias may be undefined.
Tensor RmsNorm(const Tensor& x, const Tensor& gain, double epsilon);
Tensor LayerNorm(const Tensor& x, const Tensor& gain, const Tensor& bias, double epsilon);

// Rotary position embedding (Su et al. 2021), pairs (i, i + d/2): x [n, h, d], positions i32 [n].
Tensor Rotary(const Tensor& x, const Tensor& positions, double theta);

// Zeroes each element with probability `rate` and scales the others by 1 / (1 - rate). x is [n,
// c...]; the draw of an element is a function of the key, its token's global sample and position,
// and its channel.
Tensor Dropout(const Tensor& x, double rate, RngKey key, const TokenLayout& layout);

// The keys that each query may see: packed key indices [begin, end), i32 [n]. Any causal,
// sliding-window or document mask over packed tokens is such a range.
struct KeyRanges {
  Tensor begin;
  Tensor end;
  bool none = false;  // No query sees any key.
};
// Causal inside documents; window 0 means no limit, else the last `window` keys, the token's own
// included.
KeyRanges CausalKeyRanges(Device& device, const TokenLayout& layout, int64_t window = 0);
// The same among the tokens of `keys`, packed one after another, which need not be the layout's
// own. CHECKs that the segments of a sample are neighbours there, in order of position: the keys of
// a query are one range then.
KeyRanges CausalKeyRanges(Device& device, const TokenLayout& layout, absl::Span<const Segment> keys,
                          int64_t window);

// softmax(scale q k^T) v over each query's keys: q [n, h, d], k [m, g, d], v [m, g, dv], g divides
// h; query head i reads key-value head i / (h / g). Online softmax in blocks (Dao 2023,
// FlashAttention-2): memory is linear in n + m. A query with no keys gives zeros.
Tensor Attention(const Tensor& q, const Tensor& k, const Tensor& v, const KeyRanges& ranges,
                 double scale);
// Its definition, in plain ops; [h, n, m] exists.
Tensor AttentionReference(const Tensor& q, const Tensor& k, const Tensor& v,
                          const KeyRanges& ranges, double scale);

// Linear attention: a state S [K, V] for each head, which tokens decay, correct and add to, and o_t
// = scale S_t^T q_t. What a token does follows the rule (recurrence.h). q, k [n, g, K], v [n, h,
// V], g divides h: head i reads the keys of i / (h / g). log_decay, in the accumulation type and at
// most 0, is undefined (none), [h] (constant, no gradient), [n, h] or [n, h, K]. beta [n, h]
// belongs to kDelta; a and b [n, g, K] to kLowRank.
struct RecurrenceInputs {
  StateRule rule = StateRule::kDiagonal;
  Tensor q, k, v;
  Tensor log_decay;
  Tensor beta;
  Tensor a, b;
  double scale = 1;
};
struct RecurrenceOutputs {
  Tensor out;          // [n, h, V], in the type of v; zeros in rows outside of the runs.
  Tensor final_state;  // [p, h, K, V], in the accumulation type: the state behind each run.
};
// Each of the p runs starts from its part of initial_state [p, h, K, V], in the accumulation type
// (undefined: zeros). Runs do not overlap, may leave rows out and may be empty. Computed in chunks
// of tokens; memory is linear in n. Saves its inputs and, in the accumulation type, a state for
// every 64 tokens and, but for kDiagonal, as much as v.
RecurrenceOutputs LinearRecurrence(const RecurrenceInputs& inputs, absl::Span<const TokenRun> runs,
                                   const Tensor& initial_state = Tensor());
// Its definition, token by token in plain ops.
RecurrenceOutputs LinearRecurrenceReference(const RecurrenceInputs& inputs,
                                            absl::Span<const TokenRun> runs,
                                            const Tensor& initial_state = Tensor());

// y as it is. In backward `loss`, a sum over tokens of shape [], is one more term of what is
// differentiated: its gradient is one where that of the model's loss is. For losses inside of
// layers.
Tensor AddLoss(const Tensor& y, const Tensor& loss);

// A causal convolution along each run, for every channel apart: y_t = bias + sum over j < w of
// weight[:, w - 1 - j] x_{t - j}; x [n, c], weight [c, w], bias [c] or undefined. history [p, w -
// 1, c] are the rows before each run (undefined: zeros). Rows outside of the runs give zeros.
Tensor ShortConv(const Tensor& x, const Tensor& weight, const Tensor& bias,
                 absl::Span<const TokenRun> runs, const Tensor& history = Tensor());
// Its definition in plain ops.
Tensor ShortConvReference(const Tensor& x, const Tensor& weight, const Tensor& bias,
                          absl::Span<const TokenRun> runs, const Tensor& history = Tensor());

}  // namespace trireme
