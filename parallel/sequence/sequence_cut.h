// Cuts of samples over the ranks of the sequence axis: who has which tokens. Pure functions;
// lengths need not divide by anything, and a rank may have none of a short sample.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "absl/types/span.h"

#include "core/base/status.h"
#include "core/batch.h"

namespace trireme {

enum class SequenceCut : uint8_t {
  kContiguous,  // Rank r has piece r of each sample.
  // Of 2 * size pieces, rank r has r and 2 * size - 1 - r: under a causal mask all ranks see about
  // as many keys (zhuzilin, ring-flash-attention; Grattafiori et al. 2024, Llama 3, section 3.3.2).
  kZigzag,
};
const char* SequenceCutName(SequenceCut cut);  // "zigzag"

// The segments of each rank, in the order of `whole`. Pieces of a sample differ by at most one
// token, and so do the shares of ranks; pieces that touch are one segment.
std::vector<std::vector<Segment>> CutSegments(absl::Span<const Segment> whole, SequenceCut cut,
                                              int size);

// The pieces of a sample in sequence order are slots; this is the rank of each: 0 to size - 1, and
// under zigzag back again.
std::vector<int> SlotOwners(SequenceCut cut, int size);

// What rank `rank` has of a micro-batch. Labels stay with their tokens, so targets and bytes of the
// ranks add up to those of the whole.
HostBatch CutBatch(const HostBatch& whole, SequenceCut cut, int size, int rank);

// INVALID_ARGUMENT when samples of this length would leave a rank without tokens in every step. It
// would give right results, at the price of a useless rank.
Status CheckSequenceLength(int64_t length, int size);

int64_t NumTokens(absl::Span<const Segment> segments);

// Tokens [begin, end) of a sample, from row `row` on of their rank.
struct SamplePiece {
  int64_t begin, end;
  int rank;
  int64_t row;
};
// The pieces of each sample that have tokens, in order of position.
std::map<int64_t, std::vector<SamplePiece>> PiecesBySample(
    absl::Span<const std::vector<Segment>> ranks);

// The tokens of several ranks together, sorted by sample and position.
struct TokenOrder {
  std::vector<Segment> segments;  // Neighbours joined.
  // Tokens [from, from + length) of rank `rank` are [to, to + length) of all.
  struct Run {
    int rank;
    int64_t from, to, length;
  };
  std::vector<Run> runs;
};
TokenOrder OrderTokens(absl::Span<const std::vector<Segment>> ranks);

}  // namespace trireme
