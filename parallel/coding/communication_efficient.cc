// Workers in groups, as in fractional repetition, that send a 1 / m of a gradient each: the sum of
// a group's part is cut in m blocks, and worker i of the group sends row i of a systematic MDS code
// of them: block i for i < m, then sums of all m. Any m workers of a group suffice.
//   k = floor(n / (s + m)) groups, load 1 / k, messages of 1 / m of the gradient
// The trade between load, stragglers and bytes is that of Ye & Abbe, "Communication-computation
// efficient gradient coding" (ICML 2018).
#include <algorithm>

#include "absl/strings/str_cat.h"

#include "parallel/coding/gradient_code.h"
#include "parallel/coding/linear_algebra.h"

namespace trireme {
namespace {

class CommunicationEfficientCode : public GradientCode {
 public:
  explicit CommunicationEfficientCode(CodeShape shape)
      : GradientCode(std::move(shape)), num_groups_(this->shape().num_parts()) {}

  Message MessageOf(int worker, int) const override {
    return {{{worker % num_groups_, 1.0}}, Row(worker / num_groups_)};
  }
  double LoadOf(int, int) const override { return shape().load; }

  bool Decodes(absl::Span<const uint64_t> arrived) const override {
    std::vector<int> num_arrived(num_groups_);
    for (int worker = 0; worker < shape().num_workers; ++worker) {
      num_arrived[worker % num_groups_] += arrived[worker] & 1;
    }
    return *std::min_element(num_arrived.begin(), num_arrived.end()) >= shape().num_blocks;
  }

  StatusOr<Decoding> Decode(absl::Span<const uint64_t> arrived) const override {
    if (!Decodes(arrived)) return CannotDecode("communication_efficient", shape(), arrived);
    const int num_blocks = shape().num_blocks;
    Decoding decoding;
    for (int group = 0; group < num_groups_; ++group) {
      std::vector<int> used;  // The first by number: whole blocks before sums.
      for (int worker = group; static_cast<int>(used.size()) < num_blocks; worker += num_groups_) {
        if (arrived[worker] & 1) used.push_back(worker);
      }
      Matrix columns(num_blocks, num_blocks);
      for (int i = 0; i < num_blocks; ++i) {
        const std::vector<double> row = Row(used[i] / num_groups_);
        for (int block = 0; block < num_blocks; ++block) columns(block, i) = row[block];
      }
      const PivotedQr qr(std::move(columns));
      for (int block = 0; block < num_blocks; ++block) {
        if (used[block] / num_groups_ == block) {  // It came as it is.
          decoding.terms.push_back({used[block], 0, block, 1.0});
          continue;
        }
        std::vector<double> unit(num_blocks);
        unit[block] = 1;
        const std::vector<double> weights = qr.Solve(unit);
        for (int i = 0; i < num_blocks; ++i) {
          if (weights[i] != 0) decoding.terms.push_back({used[i], 0, block, weights[i]});
        }
      }
    }
    return decoding;
  }

 private:
  // Row i of [identity; powers of 1, 1/2, 2, 1/3, 3, ...]: as the bases are positive and differ,
  // every square piece of the powers is regular, and so are any m rows.
  std::vector<double> Row(int i) const {
    const int num_blocks = shape().num_blocks;
    std::vector<double> row(num_blocks);
    if (i < num_blocks) {
      row[i] = 1;
      return row;
    }
    const int sum = i - num_blocks;
    const double base = sum % 2 ? 1.0 / (sum / 2 + 2) : sum / 2 + 1;
    double power = 1;
    for (double& weight : row) {
      weight = power;
      power *= base;
    }
    return row;
  }

  const int num_groups_;
};

}  // namespace

StatusOr<std::unique_ptr<GradientCode>> MakeCommunicationEfficient(int num_workers,
                                                                   const Params& params) {
  const int s = static_cast<int>(params.Int("s")), m = static_cast<int>(params.Int("blocks"));
  const int num_groups = num_workers / (s + m);
  if (num_groups == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("communication_efficient: n = ", num_workers, ", s = ", s, ", blocks = ", m,
                     ": a group needs s + blocks = ", s + m, " workers"));
  }
  CodeShape shape;
  shape.num_workers = num_workers;
  shape.num_blocks = m;
  shape.load = 1.0 / num_groups;
  shape.tolerates.per_round = num_workers / num_groups - m;
  shape.part_units.assign(num_groups, 1);
  return std::make_unique<CommunicationEfficientCode>(std::move(shape));
}

}  // namespace trireme
