// What a model is fed: tokens or features of a few samples, where each token stands, and its label.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/labels.h"
#include "core/tensor/tensor.h"

namespace trireme {

// `length` consecutive tokens of global sample `sample`, from position `begin` on. A rank may hold
// any cut.
struct Segment {
  int64_t sample = 0;
  int64_t begin = 0;
  int64_t length = 0;

  friend bool operator==(const Segment&, const Segment&) = default;
};

// Where the n tokens of a micro-batch stand. Tokens are packed one after another, segment by
// segment. Places are positions inside the sample, so that they hold for any cut of it.
struct TokenLayout {
  std::vector<Segment> segments;
  // Of each rank of the sequence axis, in its order; one of them is `segments`.
  std::vector<std::vector<Segment>> axis_segments;
  // Of the whole micro-batch, on every rank: tokens see others of their own document only. They
  // tile the samples.
  std::vector<Segment> documents;
  Tensor sample;    // i64 [n]: global sample index.
  Tensor position;  // i32 [n]: position inside the sample.

  int64_t num_tokens() const { return position.dim(0); }
};

struct Batch {
  Tensor inputs;            // i32 [n] tokens, or f32 [n, features...].
  Tensor labels;            // i32 [n], kIgnoredLabel where nothing is to be predicted.
  int64_t num_targets = 0;  // Labels that count.
  int64_t num_bytes = 0;    // Bytes of text that the counted labels stand for; 0 for images.
  TokenLayout layout;
};

// The same on the host, as data sets make it. For images: one segment of length 1 a sample.
struct HostBatch {
  std::vector<int32_t> tokens;
  std::vector<float> features;  // Exclusive with tokens; [n, feature_shape...].
  Shape feature_shape;
  std::vector<int32_t> labels;
  std::vector<int64_t> label_bytes;  // Of text, for each label, 0 when ignored; empty: no text.
  std::vector<Segment> segments;
  std::vector<Segment> documents;                   // As in TokenLayout; empty: not text.
  std::vector<std::vector<Segment>> axis_segments;  // Empty: this rank has all tokens.
};

// Throws Failure when memory runs out.
Batch ToDevice(const HostBatch& host, Device& device);

// What every layer and every recomputation is told; passed by value.
struct ForwardContext {
  TokenLayout layout;
  int64_t step = 0;
  bool training = false;
  uint64_t seed = 0;
};

}  // namespace trireme
