#include "parallel/layers/tensor_axis.h"

#include "core/base/log.h"
#include "core/base/share.h"

namespace trireme {
namespace {

ParamSpec Whole(const Shape& shape, Init init, bool decay) {
  ParamSpec spec;
  spec.global = shape;
  spec.local = WholeBox(shape);
  spec.init = init;
  spec.decay = decay;
  return spec;
}

// Part `index` of `count` along `dim`, in grains.
void CutAlong(int dim, int64_t grain, int index, int count, ParamSpec& spec) {
  CHECK_EQ(spec.global[dim] % grain, 0) << spec.global << " in grains of " << grain;
  const Share share = ShareOf(spec.global[dim] / grain, index, count);
  spec.local.begin[dim] = share.first * grain;
  spec.local.size[dim] = share.size() * grain;
  if (count > 1) spec.split = Axis::kTensor;
  spec.split_dim = dim;
}

}  // namespace

Parameter* TensorAxis::DeclareRows(const Scope& scope, absl::string_view name, const Shape& shape,
                                   Init init, int64_t grain, bool decay) const {
  ParamSpec spec = Whole(shape, init, decay);
  CutAlong(0, grain, rank, size, spec);
  return scope.Declare(name, std::move(spec));
}

Parameter* TensorAxis::DeclareCopiedRows(const Scope& scope, absl::string_view name,
                                         const Shape& shape, Init init, int copies,
                                         bool decay) const {
  ParamSpec spec = Whole(shape, init, decay);
  CutAlong(0, 1, rank / copies, size / copies, spec);
  if (size > 1) spec.split = Axis::kTensor;
  spec.copies = copies;
  return scope.Declare(name, std::move(spec));
}

Parameter* TensorAxis::DeclareHeads(const Scope& scope, absl::string_view name, const Shape& shape,
                                    Init init, int64_t heads, bool decay) const {
  CHECK(heads % size == 0 || size % heads == 0) << heads << " heads over tensor=" << size;
  const int copies = heads >= size ? 1 : size / static_cast<int>(heads);
  return DeclareCopiedRows(scope, name, shape, std::move(init), copies, decay);
}

Parameter* TensorAxis::DeclareColumns(const Scope& scope, absl::string_view name,
                                      const Shape& shape, Init init, int64_t grain) const {
  ParamSpec spec = Whole(shape, init, /*decay=*/true);
  CutAlong(1, grain, rank, size, spec);
  return scope.Declare(name, std::move(spec));
}

Parameter* TensorAxis::DeclareOnStream(const Scope& scope, absl::string_view name,
                                       const Shape& shape, Init init) const {
  ParamSpec spec = Whole(shape, init, /*decay=*/false);
  if (size > 1 && sharded_stream) spec.partial_grad = Axis::kTensor;
  return scope.Declare(name, std::move(spec));
}

Parameter* TensorAxis::DeclareOnColumns(const Scope& scope, absl::string_view name,
                                        const Shape& shape, Init init) const {
  ParamSpec spec = Whole(shape, init, /*decay=*/false);
  if (size > 1) spec.partial_grad = Axis::kTensor;
  return scope.Declare(name, std::move(spec));
}

Tensor TensorAxis::FromStream(const Tensor& stream, int64_t n, const char* purpose) const {
  return sharded_stream ? RowShardToCopied(stream, n, group, purpose)
                        : ReplicatedToCopied(stream, group, purpose);
}

Tensor TensorAxis::ToStream(const Tensor& partial, const char* purpose) const {
  return sharded_stream ? PartialToRowShard(partial, group, purpose)
                        : PartialToReplicated(partial, group, purpose);
}

TokenLayout TensorAxis::StreamLayout(const TokenLayout& layout) const {
  if (!sharded_stream || group == nullptr) return layout;
  TokenLayout rows;
  rows.sample = RowsOf(layout.sample, group);
  rows.position = RowsOf(layout.position, group);
  return rows;
}

int64_t TensorAxis::StreamRows(int64_t n) const {
  return sharded_stream ? ShareOf(n, rank, size).size() : n;
}

}  // namespace trireme
