// Linear attention: its rules, and the arguments of its kernels. Legend: n tokens, p runs, h heads,
// g key heads, K key width, V value width; S [K, V] is the state of a head.
#pragma once

#include <cstdint>

#include "core/tensor/view.h"

namespace trireme {

// How a token t with decay e^g (per head, or per row of S) changes the state:
//   kDiagonal  S_t = Diag(e^g) S_{t-1} + k v^T
//   kDelta     S_t = (I - beta k k^T) Diag(e^g) S_{t-1} + beta k v^T      (Yang et al. 2024)
//   kLowRank   S_t = Diag(e^g) S_{t-1} + b (a^T S_{t-1}) + k v^T          (Peng et al. 2025)
enum class StateRule : uint8_t { kDiagonal, kDelta, kLowRank };

// Rows [begin, end): tokens of one document, a chain of states.
struct TokenRun {
  int64_t begin, end;
};

// States are kept at the first token of every chunk of so many tokens, counted from the start of a
// run.
inline constexpr int64_t kChunkTokens = 64;

struct ChunkedRun {
  int64_t begin, end;
  int64_t first_chunk;  // Runs have their chunks one after another; an empty run has none.

  constexpr int64_t num_chunks() const { return (end - begin + kChunkTokens - 1) / kChunkTokens; }
};

// What the tokens bring; views that a rule does not have are undefined. q, k, a, b [n, g, K], v [n,
// h, V], log_decay none, [h], [n, h] or [n, h, K] in the accumulation type, beta [n, h]: rows of K
// and V have unit stride, other strides are free. `runs` is on the host.
struct RecurrenceTokens {
  StateRule rule;
  View q, k, v, log_decay, beta, a, b;
  double scale;
  const ChunkedRun* runs;
  int64_t num_runs;
};

// The chain of states: from initial [p, h, K, V] (undefined: zeros) to final_state [p, h, K, V]. On
// the way, where defined: the states that enter the chunks [chunks, h, K, V]; the pseudo-values
// [n, h, V] (kDelta, kLowRank), which RecurrenceOutput and RecurrenceBackward want; and, as
// RecurrenceOutput gives it, out. All dense, and in the accumulation type but for out. Rows outside
// of the runs are not written.
struct RecurrenceStatesArgs {
  RecurrenceTokens tokens;
  View initial;
  View final_state, states, pseudo_values, out;
};

// out [n, h, V], dense, in the type of v, from the chunks' states. Chunks are independent. Rows
// outside of the runs are not written.
struct RecurrenceOutputArgs {
  RecurrenceTokens tokens;
  View states, pseudo_values;
  View out;
};

// What a run does to a state S that enters it, and what a token reads of it:
//   final state += e^decay_sum S   (kDiagonal: decay_sum is [p, h], or [p, h, K] where log_decay is
//                                  by channel; undefined where there is none)
//   final state += matrix S        (kDelta, kLowRank:
//                                  matrix [p, h, K, K])
//   out_t += queries_t^T S         (queries [n, h, K], the scale included).
// v is not read. Dense, in the accumulation type; rows outside of the runs are not written.
struct RecurrenceTransitionArgs {
  RecurrenceTokens tokens;
  View decay_sum, matrix, queries;
};

// Gradients from dout [n, h, V], in the type of v, with rows of unit stride, and dfinal [p, h, K,
// V] (undefined: zeros). states and pseudo_values are those of RecurrenceStates. dq, dk, da, db [n,
// h, K], dv [n, h, V] and dbeta [n, h] are of the inputs' type or the accumulation type; dlog_decay
// [n, h] or [n, h, K] and dinitial [p, h, K, V] of the accumulation type. Dense; dlog_decay and
// dinitial may be undefined. Rows outside of the runs are not written.
struct RecurrenceBackwardArgs {
  RecurrenceTokens tokens;
  View states, pseudo_values;
  View dout, dfinal;
  View dq, dk, dv, dlog_decay, dbeta, da, db, dinitial;
};

}  // namespace trireme
