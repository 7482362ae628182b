// TensorAxis: what a layer knows of the tensor axis. Layers are cut the way of Megatron-LM (Shoeybi
// et al. 2019): a product by columns, then one by rows, with one reduction between layers each way.
//
// The residual stream between layers is whole on every rank (Replicated), or, with
// `sharded_stream`, each rank has a share of its rows (RowShard; Korthikanti et al. 2022): the same
// bytes travel, and norms, dropout and residual sums are divided among the ranks, so that the
// gradients of norm gains are partial sums.
#pragma once

#include "core/batch.h"
#include "core/module/scope.h"
#include "parallel/ops/collective_ops.h"

namespace trireme {

struct TensorAxis {
  int rank = 0;
  int size = 1;
  Communicator* group = nullptr;  // nullptr: alone, or no more than declared.
  bool sharded_stream = false;

  // A weight [rows, ...] of which each rank has the rows of ShareOf(rows / grain, rank, size), in
  // grains: a head is a grain of as many rows as it has channels.
  Parameter* DeclareRows(const Scope& scope, absl::string_view name, const Shape& shape, Init init,
                         int64_t grain = 1, bool decay = true) const;
  // Of which `copies` neighbours have the same rows: rank r has part r / copies of size / copies.
  Parameter* DeclareCopiedRows(const Scope& scope, absl::string_view name, const Shape& shape,
                               Init init, int copies, bool decay = true) const;
  // Whose rows belong to `heads`: each rank has those of its share of them; where there are fewer
  // heads than ranks, neighbours have the same head. CHECKs that one divides the other.
  Parameter* DeclareHeads(const Scope& scope, absl::string_view name, const Shape& shape, Init init,
                          int64_t heads, bool decay = true) const;
  // A weight [out, in] of which each rank has columns.
  Parameter* DeclareColumns(const Scope& scope, absl::string_view name, const Shape& shape,
                            Init init, int64_t grain = 1) const;
  // Whole on every rank and applied to the stream: a norm's gain, the bias of a layer cut by rows.
  Parameter* DeclareOnStream(const Scope& scope, absl::string_view name, const Shape& shape,
                             Init init) const;
  // Whole on every rank and applied to what is cut by columns: the gain of a norm over heads.
  Parameter* DeclareOnColumns(const Scope& scope, absl::string_view name, const Shape& shape,
                              Init init) const;

  // The stream of `n` rows, whole on every rank, whose gradients are parts of one sum.
  Tensor FromStream(const Tensor& stream, int64_t n, const char* purpose) const;
  // What is added up over the ranks, onto the stream.
  Tensor ToStream(const Tensor& partial, const char* purpose) const;
  // The rows of the stream that this rank has.
  TokenLayout StreamLayout(const TokenLayout& layout) const;
  int64_t StreamRows(int64_t n) const;
};

}  // namespace trireme
