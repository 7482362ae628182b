#include "core/module/parameter.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/device/kernel.h"
#include "core/ops/init.h"

namespace trireme {

void Parameter::RefreshWorking() const {
  if (working.storage() != owned.storage()) working.Detach().CopyFrom(owned);
}

Parameter* ParameterSet::Declare(ParamSpec spec) {
  auto parameter = std::make_unique<Parameter>();
  parameter->spec = std::move(spec);
  Parameter* const raw = parameter.get();
  CHECK(by_path_.emplace(raw->spec.path, raw).second)
      << "parameter '" << raw->spec.path << "' was declared twice";
  parameters_.push_back(std::move(parameter));
  return raw;
}

Status ParameterSet::Materialize(Device& device, DType compute_dtype, uint64_t seed) {
  return CatchFailure([&] {
    for (const auto& parameter : parameters_) {
      const ParamSpec& spec = parameter->spec;
      parameter->owned = Tensor::Empty(device, spec.local.size, AccumulationType(compute_dtype),
                                       MemoryKind::kParameters, spec.path);
      if (spec.init.kind == Init::Kind::kConstant) {
        parameter->owned.Fill(spec.init.value);
      } else {
        DrawNormal(parameter->owned, MakeRngKey(seed, spec.path), spec.init.value, spec.global,
                   spec.local.begin);
      }
      parameter->working = parameter->owned.dtype() == compute_dtype
                               ? parameter->owned.Detach()
                               : parameter->owned.CopyTo(compute_dtype, MemoryKind::kParameters,
                                                         spec.path);
      parameter->working.set_requires_grad();
    }
  });
}

Parameter* ParameterSet::Find(absl::string_view path) const {
  const auto it = by_path_.find(std::string(path));
  return it == by_path_.end() ? nullptr : it->second;
}

int64_t ParameterSet::num_elements() const {
  int64_t n = 0;
  for (const auto& parameter : parameters_) n += parameter->spec.global.numel();
  return n;
}

}  // namespace trireme
