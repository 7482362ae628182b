// Which states go where when the tokens of a recurrence are cut over the sequence axis. Pure data,
// from the layout of a micro-batch alone: every rank knows the same of all.
//
// A line is a chain of tokens with a state of its own: a sample, or the tokens of a sample that one
// of its memories takes. Along it lie the slots (sequence_cut.h), and in the piece of a slot, the
// runs: tokens of one document. Only the first run of a piece can be entered by a state from before
// it, and only the last run's state leaves the slot. A document that starts anywhere in a piece
// resets the slot: nothing that enters leaves it.
#pragma once

#include <cstdint>
#include <vector>

#include "core/batch.h"
#include "core/ops/recurrence.h"
#include "parallel/sequence/sequence_cut.h"

namespace trireme {

struct RecurrencePlan {
  struct Run {
    TokenRun rows;  // Of this rank's packed tokens; empty only in a memory.
    int slot;
    int64_t line;
    bool entered;  // A state from before it goes in.
    bool leaves;   // Its final state is the slot's.

    friend bool operator==(const Run& a, const Run& b) {
      return a.rows.begin == b.rows.begin && a.rows.end == b.rows.end && a.slot == b.slot &&
             a.line == b.line && a.entered == b.entered && a.leaves == b.leaves;
    }
  };

  int64_t num_lines = 0;
  std::vector<int> owners;                   // Of each slot, in sequence order.
  std::vector<Run> runs;                     // Of this rank, in order of rows.
  std::vector<std::vector<uint8_t>> resets;  // [slot][line]
  std::vector<std::vector<int64_t>> tokens;  // [slot][line]; empty: not known to all.

  int num_slots() const { return static_cast<int>(owners.size()); }
};

// The samples that have tokens, ascending: the lines.
std::vector<int64_t> SamplesOf(const TokenLayout& layout);

// With `continued` a state enters the first document of each line, as if it had begun before.
// CHECKs that ranks own pieces in the order of the cut; where the pieces begin and end is free.
RecurrencePlan PlanRecurrence(const TokenLayout& layout, SequenceCut cut, int rank, bool continued);

// How many rows of each run of this rank each memory takes.
struct MemoryRows {
  int64_t num_memories = 1;
  std::vector<std::vector<int64_t>> of_runs;  // [run][memory]
};
// Of rows that are sorted by run, then by memory, any number of them for a token: a line for each
// memory of a sample, samples outermost. What the memories of other ranks take is not known.
RecurrencePlan PlanMemories(const RecurrencePlan& plan, const MemoryRows& rows);

// The runs of these segments, packed one after another, in order of rows; a run ends with its
// document or its segment. `first` is the position of its first token, `document` its document.
struct DocumentRun {
  TokenRun rows;
  int64_t sample, first;
  Segment document;
};
std::vector<DocumentRun> DocumentRuns(absl::Span<const Segment> segments,
                                      absl::Span<const Segment> documents);

}  // namespace trireme
