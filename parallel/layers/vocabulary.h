// The two ends of a language model, with the vocabulary cut over the tensor axis: ShareOf the
// tokens, so that no size of it needs padding.
#pragma once

#include "parallel/layers/tensor_axis.h"

namespace trireme {

// Tokens i32 [n] to the residual stream. Every rank looks up the tokens that it has; the sum is
// exact.
Tensor VocabularyEmbedding(const TensorAxis& axis, const Tensor& tokens, const Parameter& table);

// The sum of the cross-entropies of labels i32 [n] under the head's product with the stream, in
// chunks of tokens: [n, vocabulary] never exists whole. Two all-reduces of n and 2 n numbers a
// chunk: the maxima, then the sums.
Tensor VocabularyCrossEntropy(const TensorAxis& axis, const Tensor& stream, const Parameter& head,
                              const Tensor& labels);
// The tokens of a chunk: the same on every rank, whose parts of the vocabulary may differ by one.
int64_t VocabularyChunk(const TensorAxis& axis, const Parameter& head);

// The logits, [n, vocabulary], on every rank. Not differentiable.
Tensor VocabularyLogits(const TensorAxis& axis, const Tensor& stream, int64_t n,
                        const Parameter& head);

}  // namespace trireme
