#include "parallel/sequence/token_halo.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/ops/ops.h"
#include "parallel/sequence/recurrence_plan.h"
#include "parallel/sequence/sequence_cut.h"

namespace trireme {
namespace {

// One rank's side of it. Rows are those of x, halos those of the runs.
class HaloExchange {
 public:
  HaloExchange(std::vector<HaloCopy> copies, const TokenLayout& layout, int64_t width,
               Communicator& axis)
      : copies_(std::move(copies)), width_(width), axis_(axis) {
    std::set<int64_t> rows;  // Before which others have some.
    for (const HaloCopy& copy : copies_) {
      if (copy.to_rank == axis_.rank()) rows.insert(copy.to);
    }
    for (const DocumentRun& run : DocumentRuns(layout.segments, layout.documents)) {
      const int64_t blank = width_ - (run.first - run.document.begin);
      if (rows.count(run.rows.begin) > 0 && blank > 0) blanks_.push_back({num_runs_, blank});
      run_at_row_[run.rows.begin] = num_runs_++;
    }
  }

  Tensor Forward(const Tensor& x) const {
    const Tensor halo = Tensor::Zeros(x.device(), {num_runs_, width_, x.dim(1)}, x.dtype(),
                                      MemoryKind::kActivations, "halo");
    Exchange(
        "halo rows", x, &HaloCopy::from_rank, &HaloCopy::to_rank,
        [&](const HaloCopy& copy) { return RowsOf(x, copy.from, copy.length); },
        [&](const HaloCopy& copy, const Tensor& part) { InHalo(halo, copy).CopyFrom(part); });
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
        "halo row gradients", gradients, &HaloCopy::to_rank, &HaloCopy::from_rank,
        [&](const HaloCopy& copy) { return InHalo(gradients, copy); },
        [&](const HaloCopy& copy, const Tensor& part) {
          RowsOf(dx, copy.from, copy.length).Accumulate(part);
        });
    return dx.dtype() == dhalo.dtype() ? dx : dx.CopyTo(dhalo.dtype());
  }

 private:
  static Tensor RowsOf(const Tensor& x, int64_t begin, int64_t count) {
    return x.AsStrided({count, x.dim(1)}, x.strides(), begin * x.strides()[0]);
  }
  Tensor InHalo(const Tensor& halo, const HaloCopy& copy) const {
    return RowsOf(halo.WithShape({halo.dim(0) * width_, halo.dim(2)}),
                  run_at_row_.at(copy.to) * width_ + copy.offset, copy.length);
  }
  void Blank(const Tensor& halo) const {
    for (const BlankRows& blank : blanks_) {
      halo.AsStrided({blank.rows, halo.dim(2)}, {halo.dim(2), 1}, blank.run * width_ * halo.dim(2))
          .Fill(0);
    }
  }

  struct Message {
    int peer;
    std::vector<HaloCopy> copies;
    Tensor rows;
    std::unique_ptr<Work> work;
  };
  // The copies that `mine` says are this rank's, one message for each rank of `other`.
  std::vector<Message> MessagesOf(int HaloCopy::*mine, int HaloCopy::*other,
                                  const Tensor& like) const {
    std::vector<Message> messages;
    for (int peer = 0; peer < axis_.size(); ++peer) {
      Message message = {peer, {}, {}, nullptr};
      int64_t rows = 0;
      for (const HaloCopy& copy : copies_) {
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
    for (const HaloCopy& copy : message.copies) {
      fn(copy, RowsOf(message.rows, row, copy.length));
      row += copy.length;
    }
  }

  // read(copy) on the sender, write(copy, rows) on the receiver, in the order of the senders.
  template <typename Read, typename Write>
  void Exchange(const char* purpose, const Tensor& like, int HaloCopy::*from, int HaloCopy::*to,
                const Read& read, const Write& write) const {
    Queue& queue = like.device().compute();
    std::vector<Message> in = MessagesOf(to, from, like), out = MessagesOf(from, to, like);
    for (Message& message : in) {
      if (message.peer == axis_.rank()) continue;
      message.work = axis_.Recv(message.rows, message.peer, {.purpose = purpose});
    }
    for (Message& message : out) {
      ForEachPart(message,
                  [&](const HaloCopy& copy, const Tensor& rows) { rows.CopyFrom(read(copy)); });
      if (message.peer == axis_.rank()) continue;
      message.work = axis_.Send(message.rows, message.peer, {.purpose = purpose});
    }
    for (const Message& message : in) {
      if (message.work != nullptr) message.work->Join(queue);
      ForEachPart(message, [&](const HaloCopy& copy, const Tensor& rows) {
        write(copy, message.work != nullptr ? rows : read(copy));
      });
    }
    for (const Message& message : out) {
      if (message.work != nullptr) message.work->Join(queue);
    }
  }

  // Of the halo of a run, rows [0, rows) are before its document.
  struct BlankRows {
    int64_t run, rows;
  };

  const std::vector<HaloCopy> copies_;
  const int64_t width_;
  Communicator& axis_;
  int64_t num_runs_ = 0;
  std::map<int64_t, int64_t> run_at_row_;
  std::vector<BlankRows> blanks_;
};

}  // namespace

std::vector<HaloCopy> HaloCopies(absl::Span<const std::vector<Segment>> segments, int64_t width) {
  std::vector<HaloCopy> copies;
  for (const auto& [sample, pieces] : PiecesBySample(segments)) {
    for (const SamplePiece& to : pieces) {
      for (const SamplePiece& from : pieces) {
        const int64_t begin = std::max(from.begin, to.begin - width);
        const int64_t end = std::min(from.end, to.begin);
        if (begin >= end) continue;
        copies.push_back({from.rank, to.rank, from.row + begin - from.begin, end - begin, to.row,
                          width - (to.begin - begin)});
      }
    }
  }
  return copies;
}

Tensor TokenHalo(const Tensor& x, int64_t width, const TokenLayout& layout, Communicator& axis) {
  CHECK(x.rank() == 2 && width >= 0) << x.shape() << " before " << width << " rows [halo]";
  std::vector<HaloCopy> copies = HaloCopies(layout.axis_segments, width);
  if (copies.empty()) return Tensor();
  const auto exchange =
      std::make_shared<const HaloExchange>(std::move(copies), layout, width, axis);
  return Record("token_halo", {x}, exchange->Forward(x.Detach()),
                [=, n = x.dim(0)](absl::Span<const Tensor> grads) -> Grads {
                  return {exchange->Backward(grads[0], n)};
                });
}

}  // namespace trireme
