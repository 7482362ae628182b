// ResolveConfig: what can be wrong with a config that reads well, found before anything is
// allocated.
#include <algorithm>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "launch/config.h"
#include "launch/config_fields.h"
#include "launch/exchange_config.h"
#include "launch/local_step.h"
#include "parallel/sync/sync_rule.h"

namespace trireme {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// The numbers of a config. `required` ones have no default.
struct NumberRule {
  const char* path;
  double min;
  double max;
  bool required = false;
};
constexpr NumberRule kNumbers[] = {
    {"seed", 0, kNoLimit},
    {"mesh.replica", 0, kNoLimit},
    {"mesh.pipeline", 1, kNoLimit},
    {"mesh.shard", 1, kNoLimit},
    {"mesh.sequence", 1, kNoLimit},
    {"mesh.tensor", 1, kNoLimit},
    {"mesh.zero_stage", 1, 3},
    {"data.sequence_length", 1, 1e7},
    {"batch.global_batch_size", 1, 1e9, true},
    {"batch.micro_batch_size", 0, 1e9},
    {"num_steps", 1, kNoLimit, true},
    {"learning_rate", 0, kNoLimit, true},
    {"clip_norm", 0, kNoLimit},
    {"evaluation.every", 0, kNoLimit},
    {"evaluation.num_batches", 0, kNoLimit},
    {"checkpoint.every", 0, kNoLimit},
    {"checkpoint.keep", 1, kNoLimit},
    {"log_every", 0, kNoLimit},
    {"bucket_bytes", 1, kNoLimit},
    {"threads", 0, 4096},
    {"deadline_seconds", 1, kNoLimit},
};

// INVALID_ARGUMENT, opening with the field, when such a run would have no exchange of the row's.
Status CheckRounds(const ExchangeSpec& spec, int64_t num_steps) {
  if (spec.from_step >= num_steps) {
    return absl::InvalidArgumentError(absl::StrCat(
        "from_step: ", spec.from_step, " is not within a run of ", num_steps, " steps"));
  }
  const int64_t end = std::min(spec.until_step, num_steps);
  return Annotate(MakeSyncRule(spec.rule.name, spec.rule.params, end).status(), "rule");
}

class Resolver {
 public:
  Resolver(int64_t num_ranks, absl::Span<const Listing> catalogue, LoadedConfig* loaded)
      : num_ranks_(num_ranks),
        catalogue_(catalogue),
        config_(loaded->config),
        origins_(loaded->origins) {}

  Status Resolve() {
    RETURN_IF_ERROR(CheckNumbers());
    if (config_.run_dir().empty()) return Error("run_dir", "is empty");
    const std::vector<std::string> dtypes = {"f32", "bf16", "f64"};
    if (std::find(dtypes.begin(), dtypes.end(), config_.dtype()) == dtypes.end()) {
      return Error("dtype", UnknownNameMessage("dtype", config_.dtype(), dtypes));
    }
    const std::vector<std::string> devices = {"auto", "cpu", "cuda"};
    if (std::find(devices.begin(), devices.end(), config_.device()) == devices.end() &&
        !absl::StartsWith(config_.device(), "cuda_")) {
      return Error("device", UnknownNameMessage("device", config_.device(), devices));
    }
    RETURN_IF_ERROR(ResolveMesh());
    RETURN_IF_ERROR(ResolveBatch());
    return ResolveComponents();
  }

 private:
  // "run.textproto:3:7: " or, for a default, "".
  std::string Place(const std::string& path) const {
    const auto origin = origins_.find(path);
    return origin == origins_.end() ? "" : absl::StrCat(origin->second, ": ");
  }
  Status Error(const std::string& path, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(Place(path), path, ": ", what));
  }

  Status WithPlace(const std::string& path, const Status& status) const {
    return Status(status.code(), absl::StrCat(Place(path), status.message()));
  }

  Status CheckNumbers() const {
    const std::map<std::string, std::string> values = FlattenConfig(config_);
    for (const NumberRule& rule : kNumbers) {
      const auto text = values.find(rule.path);
      if (text == values.end()) {
        if (!rule.required) continue;
        return Error(rule.path, "is required");
      }
      double value = 0;
      const bool parsed = ParseFloat(text->second, &value);
      if (parsed && value >= rule.min && value <= rule.max) continue;
      const ParamInfo info = {rule.path, ParamType::kFloat, nullptr, "", rule.min, rule.max};
      return Error(rule.path, absl::StrCat(text->second, " is outside ", ParamRange(info)));
    }
    return absl::OkStatus();
  }

  Status ResolveMesh() {
    RunConfig::Mesh& mesh = *config_.mutable_mesh();
    const std::pair<const char*, int64_t> inner[] = {{"pipeline", mesh.pipeline()},
                                                     {"shard", mesh.shard()},
                                                     {"sequence", mesh.sequence()},
                                                     {"tensor", mesh.tensor()}};
    std::string axes;
    int64_t product = 1;
    const auto multiply = [&](const char* axis, int64_t size) {
      if (size > 1) absl::StrAppend(&axes, " ", axis, "=", size);
      if (__builtin_mul_overflow(product, size, &product)) {
        product = std::numeric_limits<int64_t>::max();
      }
    };
    if (mesh.replica() > 0) multiply("replica", mesh.replica());
    for (const auto& [axis, size] : inner) multiply(axis, size);
    if (mesh.replica() == 0) {
      if (product > num_ranks_ || num_ranks_ % product != 0) {
        return MeshError(absl::StrCat("mesh", axes, " needs a multiple of ", product,
                                      " ranks, world has ", num_ranks_));
      }
      mesh.set_replica(num_ranks_ / product);
    } else if (product != num_ranks_) {
      return MeshError(absl::StrCat("mesh", axes.empty() ? " replica=1" : axes, " needs ", product,
                                    product == 1 ? " rank" : " ranks", ", world has ", num_ranks_));
    }
    return absl::OkStatus();
  }

  // Several values make a mesh: the place is where the last of them was given.
  Status MeshError(absl::string_view what) const {
    std::string place;
    for (const char* axis : {"tensor", "sequence", "shard", "pipeline", "replica"}) {
      if (place.empty()) place = Place(absl::StrCat("mesh.", axis));
    }
    return absl::InvalidArgumentError(absl::StrCat(place, what));
  }

  Status ResolveBatch() {
    RunConfig::Batch& batch = *config_.mutable_batch();
    const int64_t replica = config_.mesh().replica(), shard = config_.mesh().shard();
    const int64_t shares = replica * shard;
    const int64_t global = batch.global_batch_size();
    if (global % shares != 0) {
      return Error("batch.global_batch_size",
                   shard == 1
                       ? absl::StrCat(global, " is not divisible by the ", replica, " replicas")
                       : absl::StrCat(global, " is not divisible by replica=", replica,
                                      " times shard=", shard));
    }
    const int64_t share = global / shares;
    if (batch.micro_batch_size() == 0) batch.set_micro_batch_size(share);
    if (share % batch.micro_batch_size() != 0) {
      return Error("batch.micro_batch_size",
                   absl::StrCat(batch.micro_batch_size(), " does not divide the ", share,
                                " samples of a rank's share (global_batch_size ", global, " / ",
                                shares, ")"));
    }
    return absl::OkStatus();
  }

  Status ResolveComponents() {
    RETURN_IF_ERROR(ResolveComponent("model", "model", config_.mutable_model(), "attention"));
    RETURN_IF_ERROR(ResolveComponent("data.dataset", "dataset",
                                     config_.mutable_data()->mutable_dataset(), nullptr));
    RETURN_IF_ERROR(
        ResolveComponent("optimizer", "optimizer", config_.mutable_optimizer(), nullptr));
    RETURN_IF_ERROR(
        ResolveComponent("lr_schedule", "lr_schedule", config_.mutable_lr_schedule(), nullptr));
    RETURN_IF_ERROR(ResolveComponent("pipeline_schedule", "pipeline_schedule",
                                     config_.mutable_pipeline_schedule(), nullptr));
    RETURN_IF_ERROR(
        ResolveComponent("kv_exchange", "kv_exchange", config_.mutable_kv_exchange(), nullptr));
    RETURN_IF_ERROR(ResolveComponent("scan", "scan", config_.mutable_scan(), nullptr));
    for (int i = 0; i < config_.groups_size(); ++i) {
      const std::string path = absl::StrCat("groups.", i);
      RunConfig::ParameterGroup& group = *config_.mutable_groups(i);
      if (group.pattern().empty()) return Error(path, "needs a pattern");
      if (group.has_lr_scale() && group.lr_scale() < 0) {
        return Error(absl::StrCat(path, ".lr_scale"), "is negative");
      }
      if (group.frozen() && (group.has_optimizer() || group.has_lr_scale() || group.has_decay())) {
        return Error(path, "is frozen, and has no use for an optimizer, lr_scale or decay");
      }
      if (group.has_optimizer()) {
        RETURN_IF_ERROR(ResolveComponent(absl::StrCat(path, ".optimizer"), "optimizer",
                                         group.mutable_optimizer(), nullptr));
      }
    }
    for (int i = 0; i < config_.lora_size(); ++i) {
      const std::string path = absl::StrCat("lora.", i);
      RunConfig::Lora& lora = *config_.mutable_lora(i);
      if (lora.pattern().empty()) return Error(path, "needs a pattern");
      if (lora.rank() < 1) return Error(absl::StrCat(path, ".rank"), "is not positive");
      if (!lora.has_alpha()) lora.set_alpha(2.0 * lora.rank());
    }
    for (int i = 0; i < config_.exchanges_size(); ++i) {
      RETURN_IF_ERROR(ResolveExchange(absl::StrCat("exchanges.", i), config_.mutable_exchanges(i)));
    }
    RETURN_IF_ERROR(
        ResolveComponent("local_step", "local_step", config_.mutable_local_step(), nullptr));
    RETURN_IF_ERROR(WithPlaceOf("local_step", CheckLocalStep(config_)));
    RETURN_IF_ERROR(WithPlaceOf("optimizer", CheckFirstMoments("optimizer", config_.optimizer())));
    for (int i = 0; i < config_.groups_size(); ++i) {
      const std::string path = absl::StrCat("groups.", i, ".optimizer");
      if (!config_.groups(i).has_optimizer()) continue;
      RETURN_IF_ERROR(WithPlaceOf(path, CheckFirstMoments(path, config_.groups(i).optimizer())));
    }
    return absl::OkStatus();
  }

  Status CheckFirstMoments(const std::string& path, const Component& optimizer) const {
    return Annotate(trireme::CheckFirstMoments(config_, optimizer), path);
  }
  Status WithPlaceOf(const std::string& path, const Status& status) const {
    std::string place = Place(absl::StrCat(path, ".name"));
    return Status(status.code(), absl::StrCat(place, status.message()));
  }

  Status ResolveExchange(const std::string& path, RunConfig::Exchange* row) {
    const auto resolve = [&](const char* field, absl::string_view family, Component* component) {
      return ResolveComponent(DottedPath(path, field), family, component, nullptr);
    };
    if (row->has_rule()) RETURN_IF_ERROR(resolve("rule", "sync_rule", row->mutable_rule()));
    if (row->has_codec()) RETURN_IF_ERROR(resolve("codec", "codec", row->mutable_codec()));
    if (row->has_mixer()) RETURN_IF_ERROR(resolve("mixer", "mixer", row->mutable_mixer()));
    if (row->has_outer()) RETURN_IF_ERROR(resolve("outer", "outer", row->mutable_outer()));
    const StatusOr<ExchangeSpec> spec = ToExchangeSpec(*row);
    Status checked = spec.status();
    if (checked.ok()) checked = CheckExchange(*spec, static_cast<int>(config_.mesh().replica()));
    if (checked.ok()) checked = CheckRounds(*spec, config_.num_steps());
    // Messages open with the field.
    return checked.ok() ? checked
                        : Status(checked.code(), absl::StrCat(Place(DottedPath(path, "point")),
                                                              path, ".", checked.message()));
  }

  // `parts_family` is the family of a component's parts; null when it has none.
  Status ResolveComponent(const std::string& path, absl::string_view family, Component* component,
                          const char* parts_family) {
    std::vector<std::string> names;
    const Listing* listing = nullptr;
    for (const Listing& entry : catalogue_) {
      if (entry.family != family) continue;
      names.push_back(entry.name);
      if (entry.name == component->name()) listing = &entry;
    }
    if (component->name().empty()) {
      return Error(path,
                   absl::StrCat("needs a name; ", family, " has ", absl::StrJoin(names, ", ")));
    }
    if (listing == nullptr) {
      return Error(absl::StrCat(path, ".name"),
                   UnknownNameMessage(family, component->name(), names));
    }
    RETURN_IF_ERROR(ResolveParams(path, *listing, component));
    std::map<std::string, Component*> parts;
    for (auto& [key, part] : *component->mutable_parts()) parts[key] = &part;
    for (const auto& [key, part] : parts) {
      const std::string part_path = DottedPath(path, key);
      if (parts_family == nullptr) {
        return Error(part_path, absl::StrCat(component->name(), " has no parts"));
      }
      RETURN_IF_ERROR(ResolveComponent(part_path, parts_family, part, nullptr));
    }
    return absl::OkStatus();
  }

  Status ResolveParams(const std::string& path, const Listing& listing, Component* component) {
    const ParamMap given(component->params().begin(), component->params().end());
    std::vector<std::string> known;
    for (const ParamInfo& info : listing.params) known.push_back(info.key);
    for (const auto& [key, text] : given) {
      const auto info = std::find_if(listing.params.begin(), listing.params.end(),
                                     [&key = key](const ParamInfo& i) { return key == i.key; });
      const std::string param_path = DottedPath(path, key);
      if (info == listing.params.end()) {
        return Error(param_path,
                     absl::StrCat(listing.name, ": ", UnknownNameMessage("parameter", key, known)));
      }
      // One at a time, so that the message can say where the value stands.
      const Status checked =
          Params::Create(listing.name, absl::MakeConstSpan(&*info, 1), {{key, text}}).status();
      if (!checked.ok()) return WithPlace(param_path, checked);
    }
    const StatusOr<Params> params = Params::Create(listing.name, listing.params, given);
    if (!params.ok()) return WithPlace(path, params.status());
    for (const auto& [key, text] : params->values()) (*component->mutable_params())[key] = text;
    return absl::OkStatus();
  }

  const int64_t num_ranks_;
  const absl::Span<const Listing> catalogue_;
  RunConfig& config_;
  const Origins& origins_;
};

}  // namespace

Status ResolveConfig(int64_t num_ranks, absl::Span<const Listing> catalogue, LoadedConfig* loaded) {
  return Resolver(num_ranks, catalogue, loaded).Resolve();
}

}  // namespace trireme
