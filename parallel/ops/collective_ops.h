// Differentiable collectives, named by the layouts that they turn into each other. How a tensor [n,
// c...] lies over the ranks of a group:
//
//   Replicated   every rank has it; and every rank comes to have its whole gradient
//   Copied       every rank has it; the gradients of the ranks are parts of one sum
//   Partial      what the ranks have are parts of one sum; every rank has its gradient
//   RowShard     rank r has the rows of ShareOf(n, r, size), and their gradient
//
// Copied is to gradients what Partial is to values, so each of these is another one's backward. A
// nullptr group is a rank alone, for which all four are the same.
//
// Sums are taken in rank order, in f32 (f64 for f64). `n` is the rows of the whole where the input
// has only some. All throw Failure when another rank does not come.
#pragma once

#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"

namespace trireme {

Tensor ReplicatedToCopied(const Tensor& x, Communicator* group, const char* purpose);
// Reduces in x's own memory, which nothing else may read: the output of an op that does not keep
// it.
Tensor PartialToReplicated(const Tensor& x, Communicator* group, const char* purpose);
Tensor PartialToRowShard(const Tensor& x, Communicator* group, const char* purpose);
Tensor RowShardToCopied(const Tensor& x, int64_t n, Communicator* group, const char* purpose);
Tensor RowShardToReplicated(const Tensor& x, int64_t n, Communicator* group, const char* purpose);
Tensor ReplicatedToRowShard(const Tensor& x, Communicator* group, const char* purpose);

// The transfers below them, outside the graph. A transfer is done when its work was waited for; the
// tensor is then whole.
struct PendingTensor {
  Tensor tensor;
  std::shared_ptr<Work> work;  // nullptr: nothing to wait for.

  const Tensor& Wait() const;  // Throws Failure.
};
PendingTensor StartAllReduce(const Tensor& x, Communicator* group,
                             const char* purpose);  // In place.
PendingTensor StartReduceScatterRows(const Tensor& x, Communicator* group, const char* purpose);
PendingTensor StartAllGatherRows(const Tensor& x, int64_t n, Communicator* group,
                                 const char* purpose);
// This rank's rows: a view.
Tensor RowsOf(const Tensor& x, Communicator* group);

}  // namespace trireme
