#include "parallel/sequence/sequence_cut.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"

namespace trireme {
namespace {

// Piece `piece` of `pieces` begins here: the first length % pieces are one token longer. With them
// in front, zigzag shares differ by at most one token too.
int64_t PieceBegin(int64_t length, int64_t pieces, int64_t piece) {
  return length / pieces * piece + std::min(piece, length % pieces);
}

// Appends tokens [begin, end) of `sample`.
void AppendRun(int64_t sample, int64_t begin, int64_t end, std::vector<Segment>* segments) {
  if (begin == end) return;
  if (!segments->empty()) {
    Segment& last = segments->back();
    if (last.sample == sample && last.begin + last.length == begin) {
      last.length += end - begin;
      return;
    }
  }
  segments->push_back({sample, begin, end - begin});
}

// Appends what `rank` has of one segment.
void AppendPieces(const Segment& whole, SequenceCut cut, int size, int rank,
                  std::vector<Segment>* segments) {
  const int64_t pieces = cut == SequenceCut::kZigzag ? 2 * size : size;
  std::vector<int64_t> own = {rank};
  if (cut == SequenceCut::kZigzag) own.push_back(pieces - 1 - rank);
  for (const int64_t piece : own) {
    AppendRun(whole.sample, whole.begin + PieceBegin(whole.length, pieces, piece),
              whole.begin + PieceBegin(whole.length, pieces, piece + 1), segments);
  }
}

}  // namespace

const char* SequenceCutName(SequenceCut cut) {
  return cut == SequenceCut::kZigzag ? "zigzag" : "contiguous";
}

std::vector<std::vector<Segment>> CutSegments(absl::Span<const Segment> whole, SequenceCut cut,
                                              int size) {
  CHECK_GT(size, 0);
  std::vector<std::vector<Segment>> ranks(size);
  for (const Segment& segment : whole) {
    for (int rank = 0; rank < size; ++rank) AppendPieces(segment, cut, size, rank, &ranks[rank]);
  }
  return ranks;
}

std::vector<int> SlotOwners(SequenceCut cut, int size) {
  std::vector<int> owners(size);
  std::iota(owners.begin(), owners.end(), 0);
  if (cut == SequenceCut::kZigzag) {
    owners.resize(2 * size);
    std::reverse_copy(owners.begin(), owners.begin() + size, owners.begin() + size);
  }
  return owners;
}

HostBatch CutBatch(const HostBatch& whole, SequenceCut cut, int size, int rank) {
  CHECK(whole.axis_segments.empty()) << "a batch is cut once";
  CHECK(rank >= 0 && rank < size) << "rank " << rank << " of " << size;
  HostBatch batch;
  batch.feature_shape = whole.feature_shape;
  batch.documents = whole.documents;
  batch.axis_segments = CutSegments(whole.segments, cut, size);
  batch.segments = batch.axis_segments[rank];
  const int64_t num_features = whole.feature_shape.rank() == 0 ? 0 : whole.feature_shape.numel();
  int64_t packed = 0;
  for (const Segment& segment : whole.segments) {
    std::vector<Segment> pieces;
    AppendPieces(segment, cut, size, rank, &pieces);
    for (const Segment& piece : pieces) {
      const int64_t first = packed + piece.begin - segment.begin;
      const auto append = [&](const auto& from, auto& to, int64_t per_token) {
        if (from.empty()) return;
        const auto begin = from.begin() + first * per_token;
        to.insert(to.end(), begin, begin + piece.length * per_token);
      };
      append(whole.tokens, batch.tokens, 1);
      append(whole.features, batch.features, num_features);
      append(whole.labels, batch.labels, 1);
      append(whole.label_bytes, batch.label_bytes, 1);
    }
    packed += segment.length;
  }
  return batch;
}

Status CheckSequenceLength(int64_t length, int size) {
  if (length >= size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("sequence length ", length,
                                                 " is shorter than the sequence axis of ", size,
                                                 " ranks: some would have no token"));
}

int64_t NumTokens(absl::Span<const Segment> segments) {
  int64_t n = 0;
  for (const Segment& segment : segments) n += segment.length;
  return n;
}

std::map<int64_t, std::vector<SamplePiece>> PiecesBySample(
    absl::Span<const std::vector<Segment>> ranks) {
  std::map<int64_t, std::vector<SamplePiece>> pieces;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    int64_t row = 0;
    for (const Segment& segment : ranks[rank]) {
      if (segment.length > 0) {
        pieces[segment.sample].push_back(
            {segment.begin, segment.begin + segment.length, static_cast<int>(rank), row});
      }
      row += segment.length;
    }
  }
  for (auto& [sample, of_sample] : pieces) {
    std::sort(of_sample.begin(), of_sample.end(),
              [](const SamplePiece& a, const SamplePiece& b) { return a.begin < b.begin; });
  }
  return pieces;
}

TokenOrder OrderTokens(absl::Span<const std::vector<Segment>> ranks) {
  struct Piece {
    Segment segment;
    int rank;
    int64_t from;
  };
  std::vector<Piece> pieces;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    int64_t from = 0;
    for (const Segment& segment : ranks[rank]) {
      pieces.push_back({segment, static_cast<int>(rank), from});
      from += segment.length;
    }
  }
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    return std::pair(a.segment.sample, a.segment.begin) <
           std::pair(b.segment.sample, b.segment.begin);
  });
  TokenOrder order;
  int64_t to = 0;
  for (const Piece& piece : pieces) {
    const Segment& segment = piece.segment;
    AppendRun(segment.sample, segment.begin, segment.begin + segment.length, &order.segments);
    order.runs.push_back({piece.rank, piece.from, to, segment.length});
    to += segment.length;
  }
  return order;
}

}  // namespace trireme
