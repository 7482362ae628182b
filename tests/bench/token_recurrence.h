// Linear attention token by token with a scalar decay, written for speed: what the chunked kernels
// must beat. One head of 64 by 64 in f32; the state stays in the first cache and is walked once a
// product, by whole vectors.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ops/recurrence.h"

namespace trireme::bench {

class TokenRecurrence {
 public:
  static constexpr int64_t kWidth = 64;

  // Rows of 64 floats; decay holds e^g.
  struct Rows {
    const float *q, *k, *v, *decay, *beta, *a, *b, *dout;
    float *out, *dq, *dk, *dv, *ddecay, *dbeta, *da, *db;
  };

  TokenRecurrence(StateRule rule, int64_t n);
  void Forward(const Rows& rows);
  // States of 64 tokens at a time are computed again from one that Forward kept.
  void ForwardAndBackward(const Rows& rows);

 private:
  template <StateRule kRule, bool kKeep>
  void ForwardOf(const Rows& rows);
  template <StateRule kRule>
  void BackwardOf(const Rows& rows);

  const StateRule rule_;
  const int64_t n_;
  std::vector<float> kept_;     // The state before every 64th token.
  std::vector<float> segment_;  // States before and between 64 tokens.
  std::vector<float> pseudo_;   // u or r of the tokens of a segment.
};

}  // namespace trireme::bench
