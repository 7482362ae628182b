#include "core/module/parameter.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/base/share.h"
#include "core/device/kernel.h"
#include "core/ops/init.h"

namespace trireme {
namespace {

// Fills `owned`, the box of the whole that starts at `begin`.
void Start(const Tensor& owned, const ParamSpec& spec, RngKey key, const Shape& begin) {
  switch (spec.init.kind) {
    case Init::Kind::kConstant:
      return owned.Fill(spec.init.value);
    case Init::Kind::kNormal:
      return DrawNormal(owned, key, spec.init.value, spec.global, begin);
    case Init::Kind::kFunction:
      break;
  }
  std::vector<double> values(owned.numel());
  for (int64_t i = 0; i < owned.numel(); ++i) {
    int64_t rest = i, index = 0, stride = 1;
    for (int dim = owned.rank() - 1; dim >= 0; --dim) {
      index += (begin[dim] + rest % owned.dim(dim)) * stride;
      rest /= owned.dim(dim);
      stride *= spec.global[dim];
    }
    values[i] = spec.init.function(key, index);
  }
  owned.CopyFrom(Tensor::FromVector(owned.device(), owned.shape(), values, DType::kF64));
}

}  // namespace

Status CheckSpec(const ParamSpec& spec) {
  const auto error = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("parameter '", spec.path, "': ", what));
  };
  const AxisSet model_axes = {Axis::kPipeline, Axis::kTensor};
  if (spec.global.rank() == 0) return error("has no dimension");
  RETURN_IF_ERROR(CheckInside(spec.local, spec.global));
  if (!model_axes.Contains(spec.split | spec.partial_grad)) {
    return error("split and partial_grad name model axes only");
  }
  if (spec.split.empty() && !(spec.local == WholeBox(spec.global))) {
    return error(
        absl::StrCat("is split by no axis, yet this rank has ", spec.local.ToString(), " of it"));
  }
  if (spec.split.Contains(Axis::kTensor) && spec.partial_grad.Contains(Axis::kTensor)) {
    return error("the tensor axis cannot both split it and add up its gradients");
  }
  if (spec.copies != 1 && !spec.split.Contains(Axis::kTensor)) {
    return error("has copies along the tensor axis, which does not split it");
  }
  if (spec.units.empty()) return error("is used by no unit");
  return absl::OkStatus();
}

Tensor Parameter::OwnedRows() const {
  const int64_t first = owned_box.begin[0] - spec.local.begin[0];
  return working.Detach().AsStrided(owned_box.size, working.strides(),
                                    first * working.strides()[0]);
}

void Parameter::RefreshWorking() const {
  if (working.storage() != owned.storage()) OwnedRows().CopyFrom(owned);
}

bool IsCounted(const Parameter& parameter, int tensor_rank) {
  const ParamSpec& spec = parameter.spec;
  const int same_before =
      spec.split.Contains(Axis::kTensor) ? tensor_rank % spec.copies : tensor_rank;
  return same_before == 0 && parameter.unit() == spec.units.front();
}

Parameter* ParameterSet::Declare(ParamSpec spec) {
  const Status sound = CheckSpec(spec);
  CHECK(sound.ok()) << sound.message();
  auto parameter = std::make_unique<Parameter>();
  parameter->units = spec.units;
  parameter->spec = std::move(spec);
  Parameter* const raw = parameter.get();
  CHECK(by_path_.emplace(raw->spec.path, raw).second)
      << "parameter '" << raw->spec.path << "' was declared twice";
  parameters_.push_back(std::move(parameter));
  return raw;
}

void ParameterSet::KeepUnits(const std::function<bool(int unit)>& runs_here) {
  std::vector<std::unique_ptr<Parameter>> kept;
  for (auto& parameter : parameters_) {
    std::vector<int> units;
    for (const int unit : parameter->units) {
      if (runs_here(unit)) units.push_back(unit);
    }
    parameter->units = std::move(units);
    (parameter->units.empty() ? elsewhere_ : kept).push_back(std::move(parameter));
  }
  parameters_ = std::move(kept);
}

Status ParameterSet::Materialize(Device& device, DType compute_dtype, uint64_t seed,
                                 const Ownership& ownership) {
  return CatchFailure([&] {
    compute_dtype_ = compute_dtype;
    const DType master = AccumulationType(compute_dtype);
    for (const auto& parameter : parameters_) {
      const ParamSpec& spec = parameter->spec;
      const Share rows = ShareOf(spec.local.size[0], ownership.index, ownership.count);
      Box& box = parameter->owned_box;
      box = spec.local;
      box.begin[0] += rows.first;
      box.size[0] = rows.size();
      const auto empty = [&](const Shape& shape, DType dtype) {
        return Tensor::Empty(device, shape, dtype, MemoryKind::kParameters, spec.path);
      };
      parameter->working = empty(spec.local.size, compute_dtype);
      parameter->owned = master == compute_dtype && !ownership.separate ? parameter->OwnedRows()
                                                                        : empty(box.size, master);
      Start(parameter->owned, spec, MakeRngKey(seed, spec.path), box.begin);
      if (ownership.separate) {
        parameter->working.storage()->Release();
      } else {
        parameter->RefreshWorking();
      }
      if (!spec.frozen) parameter->working.set_requires_grad();
    }
  });
}

Parameter* ParameterSet::Find(absl::string_view path) const {
  const auto it = by_path_.find(std::string(path));
  return it == by_path_.end() ? nullptr : it->second;
}

std::vector<std::string> ParameterSet::Paths() const {
  std::vector<std::string> paths;
  for (const auto* list : {&parameters_, &elsewhere_}) {
    for (const auto& parameter : *list) paths.push_back(parameter->spec.path);
  }
  return paths;
}

int64_t ParameterSet::num_elements() const {
  int64_t n = 0;
  for (const auto& [path, parameter] : by_path_) n += parameter->spec.global.numel();
  return n;
}

}  // namespace trireme
