#include "parallel/shard/declaration_checks.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "core/io/crc32c.h"
#include "core/tensor/box.h"

namespace trireme {
namespace {

Status Broken(const ParamSpec& spec, absl::string_view what) {
  return absl::InternalError(absl::StrCat(spec.path, ": declared ", what));
}

std::string Describe(const ParamSpec& spec) {
  return absl::StrCat(spec.path, " ", spec.global.ToString(), " split=", spec.split.ToString(),
                      " partial_grad=", spec.partial_grad.ToString(), " copies=", spec.copies);
}

bool IsSplit(const ParamSpec& spec) { return spec.split.Contains(Axis::kTensor); }

// How many neighbours along the tensor axis have the same part.
int RanksAlike(const ParamSpec& spec, int num_ranks) {
  return IsSplit(spec) ? spec.copies : num_ranks;
}

// One parameter, as each rank declares it.
Status CheckCutOf(absl::Span<const ParamSpec* const> ranks) {
  const ParamSpec& first = *ranks[0];
  const int num_ranks = static_cast<int>(ranks.size());
  for (int rank = 0; rank < num_ranks; ++rank) {
    const ParamSpec& spec = *ranks[rank];
    if (const Status sound = CheckSpec(spec); !sound.ok())
      return absl::InternalError(sound.message());
    if (Describe(spec) != Describe(first) || spec.units != first.units) {
      return absl::InternalError(absl::StrCat("tensor ranks 0 and ", rank, " declare '",
                                              Describe(first), "' and '", Describe(spec), "'"));
    }
  }
  const int alike = RanksAlike(first, num_ranks);
  if (alike < 1 || num_ranks % alike != 0) {
    return Broken(first, absl::StrCat("to have copies=", alike, " on tensor=", num_ranks));
  }
  std::vector<Box> parts;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const Box& box = ranks[rank]->local;
    const int same = rank - rank % alike;
    if (!(box == ranks[same]->local)) {
      return Broken(first, absl::StrCat("to be the same on tensor ranks ", same, " and ", rank,
                                        ", which have ", ranks[same]->local.ToString(), " and ",
                                        box.ToString()));
    }
    if (rank == same && box.numel() > 0) parts.push_back(box);
  }
  if (first.global.numel() == 0) return absl::OkStatus();
  if (const Status tiled = CheckTiles(first.global, parts); !tiled.ok()) {
    return Broken(first, absl::StrCat("in parts that do not tile ", first.global.ToString(), ": ",
                                      tiled.message()));
  }
  return absl::OkStatus();
}

// A number for the bits of a gradient: 0 when it is zero, NaN when some of it is not finite.
double Fingerprint(const Tensor& gradient) {
  const std::vector<double> values = gradient.ToVector();
  bool zero = true;
  for (const double value : values) {
    if (!std::isfinite(value)) return NAN;
    zero = zero && value == 0;
  }
  return zero ? 0 : 1.0 + Crc32c(values.data(), values.size() * sizeof(double));
}

// The fingerprints of tensor ranks first, first + 1, ..., which have the same part.
Status CheckContributionsOf(const ParamSpec& spec, int first, absl::Span<const double> prints) {
  const auto is_nan = [](double print) { return std::isnan(print); };
  if (std::any_of(prints.begin(), prints.end(), is_nan))
    return absl::OkStatus();  // The loss says it better.
  const auto other =
      std::find_if(prints.begin(), prints.end(), [&](double p) { return p != prints[0]; });
  const bool equal = other == prints.end();
  const bool adds_up = IsSplit(spec) || spec.partial_grad.Contains(Axis::kTensor);
  if (!adds_up && !equal) {
    return Broken(
        spec,
        absl::StrCat("whole on every tensor rank, but ranks ", first, " and ",
                     first + (other - prints.begin()),
                     " have different gradients: a reduction is missing, of them (partial_grad) or "
                     "of what they come from"));
  }
  if (adds_up && equal && prints[0] != 0) {
    return Broken(
        spec,
        absl::StrCat(
            IsSplit(spec) ? absl::StrCat("with copies=", spec.copies) : std::string("partial_grad"),
            " over the tensor axis, but ranks ", first, " to ", first + prints.size() - 1,
            " have the same gradient: it would be added up ", prints.size(), " times"));
  }
  return absl::OkStatus();
}

}  // namespace

Status CheckCut(absl::Span<const ParameterSet* const> ranks) {
  const size_t num_parameters = ranks[0]->parameters().size();
  for (const ParameterSet* rank : ranks) {
    if (rank->parameters().size() == num_parameters) continue;
    return absl::InternalError(absl::StrCat("tensor ranks declare ", num_parameters, " and ",
                                            rank->parameters().size(), " parameters"));
  }
  for (size_t i = 0; i < num_parameters; ++i) {
    std::vector<const ParamSpec*> specs;
    for (const ParameterSet* rank : ranks) specs.push_back(&rank->parameters()[i]->spec);
    RETURN_IF_ERROR(CheckCutOf(specs));
  }
  return absl::OkStatus();
}

Status CheckContributions(const ParameterSet& parameters, absl::Span<const int> which,
                          const UnitTensors& gradients, Device& device, Communicator& tensor) {
  const int size = tensor.size();
  std::vector<const ParamSpec*> specs;
  std::vector<double> mine;
  for (const int i : which) {
    const ParamSpec& spec = parameters.parameters()[i]->spec;
    if (RanksAlike(spec, size) == 1) continue;
    specs.push_back(&spec);
    mine.push_back(Fingerprint(gradients.of(i)));
  }
  if (specs.empty()) return absl::OkStatus();
  std::vector<double> all;
  RETURN_IF_ERROR(CatchFailure([&] {
    const int64_t n = static_cast<int64_t>(mine.size());
    const Tensor prints = Tensor::Empty(device, {size * n}, DType::kF64, MemoryKind::kCommunication,
                                        "declared gradients");
    ThrowIfError(tensor
                     .AllGather(Tensor::FromHost<double>(device, {n}, mine), prints,
                                {.purpose = "declared gradients"})
                     ->Wait());
    all = prints.ToVector();
  }));
  for (size_t k = 0; k < specs.size(); ++k) {
    const int alike = RanksAlike(*specs[k], size);
    for (int first = 0; first < size; first += alike) {
      std::vector<double> prints;
      for (int rank = first; rank < first + alike; ++rank)
        prints.push_back(all[rank * specs.size() + k]);
      RETURN_IF_ERROR(CheckContributionsOf(*specs[k], first, prints));
    }
  }
  return absl::OkStatus();
}

}  // namespace trireme
