#include "parallel/sequence/token_halo.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/ops/ops.h"
#include "parallel/sequence/recurrence_plan.h"
#include "parallel/sequence/sequence_cut.h"

namespace trireme {
namespace {

using Copy = HaloPlan::Copy;

// One rank's side of a plan. Rows are those of x, halos those of the runs.
class HaloExchange {
 public:
  HaloExchange(HaloPlan plan, int64_t width, Communicator& axis)
      : plan_(std::move(plan)), width_(width), axis_(axis) {}

  Tensor Forward(const Tensor& x) const {
    const Tensor halo = Tensor::Zeros(x.device(), {plan_.num_runs, width_, x.dim(1)}, x.dtype(),
                                      MemoryKind::kActivations, "halo");
    Exchange(
        "halo rows", x, &Copy::from_rank, &Copy::to_rank,
        [&](const Copy& copy) { return RowsOf(x, copy.from, copy.length); },
        [&](const Copy& copy, const Tensor& part) { InHalo(halo, copy).CopyFrom(part); });
    Blank(halo);
    return halo;
  }

  Tensor Backward(const Tensor& dhalo, int64_t n) const {
    const Tensor gradients = dhalo.CopyTo(dhalo.dtype());
    Blank(gradients);
    // A row may be in the halos of several runs.
    const Tensor dx =
        Tensor::Zeros(dhalo.device(), {n, dhalo.dim(2)}, AccumulationType(dhalo.dtype()));
    Exchange(
        "halo row gradients", gradients, &Copy::to_rank, &Copy::from_rank,
        [&](const Copy& copy) { return InHalo(gradients, copy); },
        [&](const Copy& copy, const Tensor& part) {
          RowsOf(dx, copy.from, copy.length).Accumulate(part);
        });
    return dx.dtype() == dhalo.dtype() ? dx : dx.CopyTo(dhalo.dtype());
  }

 private:
  static Tensor RowsOf(const Tensor& x, int64_t begin, int64_t count) {
    return x.AsStrided({count, x.dim(1)}, x.strides(), begin * x.strides()[0]);
  }
  Tensor InHalo(const Tensor& halo, const Copy& copy) const {
    return RowsOf(halo.WithShape({halo.dim(0) * width_, halo.dim(2)}),
                  copy.run * width_ + copy.offset, copy.length);
  }
  void Blank(const Tensor& halo) const {
    for (const HaloPlan::Blank& blank : plan_.blanks) {
      InHalo(halo, {0, 0, 0, blank.rows, blank.run, 0}).Fill(0);
    }
  }

  struct Message {
    int peer;
    std::vector<Copy> copies;
    Tensor rows;
    std::unique_ptr<Work> work;
  };
  // The copies that `mine` says are this rank's, one message for each rank of `other`.
  std::vector<Message> MessagesOf(int Copy::*mine, int Copy::*other, const Tensor& like) const {
    std::vector<Message> messages;
    for (int peer = 0; peer < axis_.size(); ++peer) {
      Message message = {peer, {}, {}, nullptr};
      int64_t rows = 0;
      for (const Copy& copy : plan_.copies) {
        if (copy.*mine != axis_.rank() || copy.*other != peer) continue;
        message.copies.push_back(copy);
        rows += copy.length;
      }
      if (rows == 0) continue;
      message.rows = Tensor::Empty(like.device(), {rows, like.dim(-1)}, like.dtype(),
                                   MemoryKind::kCommunication, "halo");
      messages.push_back(std::move(message));
    }
    return messages;
  }
  template <typename Fn>
  static void ForEachPart(const Message& message, const Fn& fn) {
    int64_t row = 0;
    for (const Copy& copy : message.copies) {
      fn(copy, RowsOf(message.rows, row, copy.length));
      row += copy.length;
    }
  }

  // read(copy) on the sender, write(copy, rows) on the receiver, in the order of the senders.
  template <typename Read, typename Write>
  void Exchange(const char* purpose, const Tensor& like, int Copy::*from, int Copy::*to,
                const Read& read, const Write& write) const {
    Queue& queue = like.device().compute();
    std::vector<Message> in = MessagesOf(to, from, like), out = MessagesOf(from, to, like);
    for (Message& message : in) {
      if (message.peer == axis_.rank()) continue;
      message.work = axis_.Recv(message.rows, message.peer, {.purpose = purpose});
    }
    for (Message& message : out) {
      ForEachPart(message,
                  [&](const Copy& copy, const Tensor& rows) { rows.CopyFrom(read(copy)); });
      if (message.peer == axis_.rank()) continue;
      message.work = axis_.Send(message.rows, message.peer, {.purpose = purpose});
    }
    for (const Message& message : in) {
      if (message.work != nullptr) message.work->Join(queue);
      ForEachPart(message, [&](const Copy& copy, const Tensor& rows) {
        write(copy, message.work != nullptr ? rows : read(copy));
      });
    }
    for (const Message& message : out) {
      if (message.work != nullptr) message.work->Join(queue);
    }
  }

  const HaloPlan plan_;
  const int64_t width_;
  Communicator& axis_;
};

}  // namespace

HaloPlan PlanHalo(const TokenLayout& layout, int64_t width, int rank) {
  HaloPlan plan;
  const auto pieces = PiecesBySample(layout.axis_segments);
  for (int to = 0; to < static_cast<int>(layout.axis_segments.size()); ++to) {
    const std::vector<DocumentRun> runs = DocumentRuns(layout.axis_segments[to], layout.documents);
    if (to == rank) plan.num_runs = static_cast<int64_t>(runs.size());
    int64_t row = 0;
    size_t next_segment = 0;
    for (size_t run = 0; run < runs.size(); ++run) {
      const DocumentRun& first = runs[run];
      // The others of a piece begin with their documents.
      if (first.rows.begin != row) continue;
      while (layout.axis_segments[to][next_segment].length == 0) ++next_segment;
      row += layout.axis_segments[to][next_segment++].length;
      const int64_t before = first.first - first.document.begin;
      if (to == rank && before < width) {
        plan.blanks.push_back({static_cast<int64_t>(run), width - before});
      }
      for (const SamplePiece& piece : pieces.at(first.sample)) {
        const int64_t begin = std::max(piece.begin, first.first - width);
        const int64_t end = std::min(piece.end, first.first);
        if (begin >= end) continue;
        plan.copies.push_back({piece.rank, to, piece.row + begin - piece.begin, end - begin,
                               static_cast<int64_t>(run), width - (first.first - begin)});
      }
    }
  }
  return plan;
}

Tensor TokenHalo(const Tensor& x, int64_t width, const TokenLayout& layout, Communicator& axis) {
  CHECK(x.rank() == 2 && width >= 0) << x.shape() << " before " << width << " rows [halo]";
  HaloPlan plan = PlanHalo(layout, width, axis.rank());
  if (plan.copies.empty()) return Tensor();
  const auto exchange = std::make_shared<const HaloExchange>(std::move(plan), width, axis);
  return Record("token_halo", {x}, exchange->Forward(x.Detach()),
                [=, n = x.dim(0)](absl::Span<const Tensor> grads) -> Grads {
                  return {exchange->Backward(grads[0], n)};
                });
}

}  // namespace trireme
