// A block of 16 tokens of one head, as the kernels of linear attention compute with it.
//
// Every rule is one of writers and readers. A writer adds x_j y_j^T to the state: (k, v), or (b, y)
// with pseudo-values y that correct what the state holds. A reader asks the state: q for the
// output, r for the pseudo-values:
//   kDiagonal  writes (k, v)
//   kDelta     writes (b, y), b = beta k;      y_i = v_i + r_i^T Diag(e^{g_i}) S_{i-1}, r = -k
//   kLowRank   writes (b, y) and then (k, v);  y_i = r_i^T S_{i-1},                     r = a
// With G the cumulative log decays of the block, S what enters it and S' what leaves, and for every
// writer (z, y):
//   P_ij = sum_d x_id z_jd e^{G_id - G_jd}, j <= i: the scores of a reader x
//   out  = (q e^G) S + the sum of P y
//   y    = [v] + (r e^G) S + the sum of P y below the diagonal, solved for the pseudo-values
//   S'   = e^{G_16} S + the sum of (z e^{G_16 - G})^T y
// A reader r of kLowRank sees the state before its token's decay: it reads as if it stood at the
// token before. Only decays of a stretch of tokens are ever formed, as products of factors of at
// most one, so no exponent can overflow; what underflows is zero.
//
// Blocks of 16 keep what grows with the block (scores, the triangular solve) small, so that the
// products with the state are nearly all there is to compute; rows behind the last token are zeros
// that do not decay.
#pragma once

#include "core/ops/cpu/attention_block.h"
#include "core/ops/cpu/block_products.h"
#include "core/ops/cpu/channel_scores.h"
#include "core/ops/recurrence.h"

namespace trireme {

// Widths of the keys and values, and as the scratch has them, in whole vectors.
struct BlockShape {
  int64_t key, value;
  int64_t kp, vp;

  BlockShape(int64_t key, int64_t value)
      : key(key), value(value), kp(PaddedWidth(key)), vp(PaddedWidth(value)) {}
};

// to [16, width] = factor times what head `head` of `heads` has of x [n, g, x.sizes[2]], tokens
// [first, first + present); zeros behind.
template <typename A>
void LoadRows(const View& x, int64_t first, int64_t present, int64_t head, int64_t heads, A factor,
              int64_t width, A* to);
// Rows (token, head) of a dense x [n, heads, x.sizes[2]] = factor times from [16, width].
template <typename A>
void StoreRows(const A* from, int64_t width, A factor, const View& x, int64_t first,
               int64_t present, int64_t head);

// Every matrix has rows of kp or vp elements, zeros behind the K or V that count.
template <typename A>
class RecurrenceBlock {
 public:
  // x y^T is added to the state.
  struct Writer {
    A* x;          // [16, kp]
    A* x_columns;  // Its transpose [kp, 16]; not by channel.
    A* x_to_end;   // x e^{G_16 - G}
    A* y;          // [16, vp]
  };

  // With `reads_v` off, v is taken for zeros, of width shape.value.
  RecurrenceBlock(const RecurrenceTokens& tokens, const BlockShape& shape, bool reads_v);
  void TakeScratch(ScratchLayout* layout);

  // Tokens [first, first + present) of a head: what they write, and of the readers those asked for.
  struct Readers {
    bool q, r;
  };
  void Load(int64_t first, int64_t present, int64_t head, Readers readers);

  // p [16, 16] = the scores of a reader against a writer.
  void Scores(const A* reader, const Writer& writer, A* p) const;
  // The same of r, where only what lies below the diagonal counts. p has 17 rows, of which the last
  // is scratch.
  void CorrectionScores(const Writer& writer, A* p) const;
  // What the gradient dp of scores, zero above the diagonal or, of r, on it too, gives to the
  // reader and to the writer's x. By channel both are added here; else dp becomes the left factor
  // of what the caller adds: dreader += dp x, dx += dp^T reader. dp and dr have 17 rows.
  void ScoresBackward(A* dp, const Writer& writer, A* dq, A* dx) const;
  void CorrectionScoresBackward(A* dp, const Writer& writer, A* dr, A* dx) const;

  // The pseudo-values: as they were stored, or from the state that enters.
  void LoadPseudoValues(const View& x, int64_t first, int64_t present, int64_t head);
  void Solve(const A* state);
  // out [16, vp], from the state that enters.
  void Output(const A* state, A* out) const;
  // state [kp, vp]: what enters becomes what leaves.
  void Advance(A* state) const;

  bool solves() const { return rule_ != StateRule::kDiagonal; }
  int num_writers() const { return num_writers_; }
  const Writer& writer(int i) const { return writers_[i]; }
  // The writer of pseudo-values.
  const Writer& corrections() const { return writers_[num_writers_ - 1]; }
  // Where r stands before its token.
  bool reads_before() const { return rule_ == StateRule::kLowRank; }

  // Sets q_from_start and r_from_start of the readers that were loaded; by channel Load does.
  void DecayReaders(Readers readers) const;

  // [16, kp]: the keys, q times the scale, and r [17, kp], whose last row is zero; q and r with the
  // decays that they see.
  A *k, *q, *r, *q_from_start, *r_from_start;
  A* v;     // [16, vp]
  A* beta;  // [16]
  // e^G and e^{G_16 - G}, by channel [16, kp], else [16]; e^{G_16} [kp] and G_16 [kp].
  A *from_start, *to_end, *whole, *log_whole;
  // What stands between the start and r: from_start, of the token before where reads_before().
  const A* r_decays() const {
    return from_start - (!reads_before() ? 0 : by_channel_ ? shape_.kp : 1);
  }
  // to [16, kp] = x times decays, which are from_start, to_end or r_decays().
  void Decay(const A* x, const A* decays, A* to) const;
  bool by_channel() const { return by_channel_; }
  // The products of a [16, k] and b, times decays as Decay has them.
  Term<A> Decayed(const A* a, int64_t lda, const A* b, int64_t ldb, int64_t k,
                  const A* decays) const {
    Term<A> term = {{a, lda}, b, ldb, k};
    (by_channel_ ? term.factors : term.row_factors) = decays;
    term.ld_factors = shape_.kp;
    return term;
  }

 private:
  void LoadDecays(int64_t first, int64_t present, int64_t head);
  void SpreadDecays();
  void MultiplyDecays();
  // What a reader [16, kp] has of the state: by channel its decays are in from_start.
  Term<A> OfState(const A* reader, const A* from_start, const A* decays, const A* state) const {
    Term<A> term = {{by_channel_ ? from_start : reader, shape_.kp}, state, shape_.vp, shape_.key};
    if (!by_channel_) term.row_factors = decays;
    return term;
  }
  Term<A> OfScores(const A* p, const A* y) const {
    return {{p, kBlockTokens}, y, shape_.vp, kBlockTokens, /*lower=*/true};
  }

  const RecurrenceTokens& tokens_;
  const BlockShape shape_;
  const StateRule rule_;
  const int64_t heads_;
  const bool reads_v_, by_channel_;
  int num_writers_ = 0;
  Writer writers_[2];
  A* log_decay_;  // [16, kp] by channel, else [16].
  A* alpha_;      // e^g, of the same size.
  A* weights_;    // e^{G_i - G_j} [16, 16], zero above the diagonal; not by channel.
  A* scores_[2];  // Of each writer, [17, 16].
  int64_t loaded_decays_of_ = -1;  // The head, where decays are those of every block.
};

// y = y + N y, solved in place from the first row on, and x = x + N^T x from the last row on; N
// [16, 16] counts below its diagonal, y and x are [16, width].
template <typename A>
void SolveLower(const A* scores, A* y, int64_t width);
template <typename A>
void SolveLowerTransposed(const A* scores, A* x, int64_t width);

}  // namespace trireme
