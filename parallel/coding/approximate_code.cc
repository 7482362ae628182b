#include "parallel/coding/approximate_code.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "core/base/rng.h"
#include "parallel/coding/linear_algebra.h"

namespace trireme {
namespace {

class ApproximateCode : public GradientCode {
 public:
  ApproximateCode(absl::string_view name, CodeShape shape, std::vector<std::vector<PartTerm>> rows,
                  Estimate estimate)
      : GradientCode(std::move(shape)), name_(name), rows_(std::move(rows)), estimate_(estimate) {}

  Message MessageOf(int worker, int) const override { return {rows_[worker]}; }
  double LoadOf(int worker, int) const override {
    return double(rows_[worker].size()) / shape().num_parts();
  }

  bool Decodes(absl::Span<const uint64_t> arrived) const override {
    int num_late = 0;
    for (const uint64_t mask : arrived) num_late += !(mask & 1);
    return num_late <= shape().tolerates.per_round;
  }

  StatusOr<Decoding> Decode(absl::Span<const uint64_t> arrived) const override {
    if (!Decodes(arrived)) return CannotDecode(name_, shape(), arrived);
    std::vector<int> workers;
    for (int worker = 0; worker < shape().num_workers; ++worker) {
      if (arrived[worker] & 1) workers.push_back(worker);
    }
    const std::vector<double> weights = WeightsOf(workers);
    Decoding decoding;
    std::vector<double> sums(shape().num_parts());
    for (size_t i = 0; i < workers.size(); ++i) {
      if (weights[i] == 0 || rows_[workers[i]].empty()) continue;
      decoding.terms.push_back({workers[i], 0, 0, weights[i]});
      for (const PartTerm& term : rows_[workers[i]]) sums[term.part] += weights[i] * term.weight;
    }
    for (const double sum : sums) decoding.error += (sum - 1) * (sum - 1) / sums.size();
    return decoding;
  }

 private:
  std::vector<double> WeightsOf(const std::vector<int>& workers) const {
    if (estimate_ == Estimate::kSum) return std::vector<double>(workers.size(), 1.0);
    if (estimate_ == Estimate::kOneStep) {
      size_t num_arrived = 0;
      for (const int worker : workers) num_arrived += rows_[worker].size();
      const double weight = num_arrived == 0 ? 0 : double(shape().num_parts()) / num_arrived;
      return std::vector<double>(workers.size(), weight);
    }
    Matrix columns(shape().num_parts(), static_cast<int>(workers.size()));
    for (size_t i = 0; i < workers.size(); ++i) {
      for (const PartTerm& term : rows_[workers[i]]) {
        columns(term.part, static_cast<int>(i)) = term.weight;
      }
    }
    return PivotedQr(std::move(columns)).Solve(std::vector<double>(shape().num_parts(), 1.0));
  }

  const std::string name_;
  const std::vector<std::vector<PartTerm>> rows_;
  const Estimate estimate_;
};

}  // namespace

std::unique_ptr<GradientCode> MakeApproximateCode(absl::string_view name, int s,
                                                  std::vector<std::vector<PartTerm>> rows,
                                                  Estimate estimate) {
  CodeShape shape;
  shape.num_workers = static_cast<int>(rows.size());
  shape.tolerates.per_round = s;
  shape.exact = false;
  shape.part_units.assign(rows.size(), 1);
  size_t longest = 0;
  for (const std::vector<PartTerm>& row : rows) longest = std::max(longest, row.size());
  shape.load = double(longest) / rows.size();
  return std::make_unique<ApproximateCode>(name, std::move(shape), std::move(rows), estimate);
}

Status CheckReplicas(absl::string_view name, int num_workers, int64_t replicas) {
  if (replicas <= num_workers) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      name, ": replicas = ", replicas, " of n = ", num_workers, " workers, must be at most n"));
}

std::vector<int> DrawnOrder(int n, uint64_t seed, absl::string_view name) {
  const RngKey key = MakeRngKey(seed, name);
  std::vector<std::pair<double, int>> drawn;
  for (int i = 0; i < n; ++i) drawn.push_back({UniformAt(key, i), i});
  std::sort(drawn.begin(), drawn.end());
  std::vector<int> order;
  for (const auto& [value, i] : drawn) order.push_back(i);
  return order;
}

}  // namespace trireme
