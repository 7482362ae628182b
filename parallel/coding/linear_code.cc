#include "parallel/coding/linear_code.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "core/base/rng.h"

namespace trireme {
namespace {

constexpr double kLargestDeviation = 1e-6;
constexpr int kDrawnSets = 300;

// Calls fn with the masks of sets of `s` stragglers: all of them when they are at most kDrawnSets.
template <typename Fn>
void ForStragglerSets(int n, int s, const Fn& fn) {
  double num_sets = 1;
  for (int i = 0; i < s && num_sets <= kDrawnSets; ++i) num_sets *= double(n - i) / (i + 1);
  std::vector<uint64_t> arrived(n);
  if (num_sets <= kDrawnSets) {
    std::vector<int> late(n);
    std::fill_n(late.begin(), s, 1);
    do {
      for (int worker = 0; worker < n; ++worker) arrived[worker] = late[worker] ? 0 : 1;
      fn(arrived);
    } while (std::prev_permutation(late.begin(), late.end()));
    return;
  }
  for (int first = 0; first < n; ++first) {
    std::fill(arrived.begin(), arrived.end(), 1);
    for (int i = 0; i < s; ++i) arrived[(first + i) % n] = 0;
    fn(arrived);
  }
  const RngKey key = MakeRngKey(0, "straggler sets");
  for (int set = 0; set < kDrawnSets; ++set) {
    std::fill(arrived.begin(), arrived.end(), 1);
    int missing = s;
    for (int worker = 0; worker < n; ++worker) {  // Each set is as likely as every other.
      const double u = UniformAt(key, static_cast<uint64_t>(set) * n + worker);
      if (u * (n - worker) < missing) {
        arrived[worker] = 0;
        --missing;
      }
    }
    fn(arrived);
  }
}

}  // namespace

CodeMatrix::CodeMatrix(Matrix coefficients)
    : coefficients_(std::move(coefficients)),
      all_(
          PivotedQr(Transposed(coefficients_)).Solve(std::vector<double>(coefficients_.cols, 1.0))),
      null_space_(PivotedQr(coefficients_).LeftNullSpace()) {}

StatusOr<std::vector<double>> CodeMatrix::Weights(absl::Span<const uint64_t> arrived) const {
  std::vector<int> late;
  for (size_t worker = 0; worker < arrived.size(); ++worker) {
    if (!(arrived[worker] & 1)) late.push_back(static_cast<int>(worker));
  }
  std::vector<double> weights = all_;
  if (!late.empty()) {
    const int num_late = static_cast<int>(late.size());
    Matrix of_late(num_late, null_space_.rows);
    std::vector<double> excess(num_late);
    for (int i = 0; i < num_late; ++i) {
      for (int j = 0; j < null_space_.rows; ++j) of_late(i, j) = null_space_(j, late[i]);
      excess[i] = -all_[late[i]];
    }
    const std::vector<double> y = PivotedQr(std::move(of_late)).Solve(excess);
    for (int j = 0; j < null_space_.rows; ++j) {
      for (size_t worker = 0; worker < weights.size(); ++worker) {
        weights[worker] += y[j] * null_space_(j, static_cast<int>(worker));
      }
    }
    for (const int worker : late) weights[worker] = 0;
  }
  std::vector<double> sums(coefficients_.cols);
  for (int worker = 0; worker < coefficients_.rows; ++worker) {
    if (weights[worker] == 0) continue;
    for (int part = 0; part < coefficients_.cols; ++part) {
      sums[part] += weights[worker] * coefficients_(worker, part);
    }
  }
  double deviation = 0;
  for (const double sum : sums) deviation = std::max(deviation, std::abs(sum - 1));
  if (!(deviation <= kLargestDeviation)) {
    return absl::FailedPreconditionError(
        absl::StrCat("without ", late.size(), " of ", coefficients_.rows,
                     " workers the weights of parts come out ", deviation, " off"));
  }
  return weights;
}

double CodeMatrix::WorstNoise() const {
  std::vector<double> squares(coefficients_.rows);
  for (int worker = 0; worker < coefficients_.rows; ++worker) {
    for (int part = 0; part < coefficients_.cols; ++part) {
      squares[worker] += coefficients_(worker, part) * coefficients_(worker, part);
    }
  }
  double worst = 0;
  ForStragglerSets(coefficients_.rows, num_tolerated(), [&](absl::Span<const uint64_t> arrived) {
    const StatusOr<std::vector<double>> weights = Weights(arrived);
    if (!weights.ok()) {
      worst = INFINITY;
      return;
    }
    double sum = 0;
    for (size_t w = 0; w < squares.size(); ++w) sum += (*weights)[w] * (*weights)[w] * squares[w];
    worst = std::max(worst, std::sqrt(sum / coefficients_.cols));
  });
  return worst;
}

CodeShape CyclicShape(int num_workers, int s) {
  CodeShape shape;
  shape.num_workers = num_workers;
  shape.load = double(s + 1) / num_workers;
  shape.tolerates.per_round = s;
  shape.part_units.assign(num_workers, 1);
  return shape;
}

LinearCode::LinearCode(absl::string_view name, CodeShape shape, std::function<CodeMatrix()> make)
    : GradientCode(std::move(shape)), name_(name), make_(std::move(make)) {}

const CodeMatrix& LinearCode::matrix() const {
  std::call_once(made_, [this] { matrix_ = std::make_unique<CodeMatrix>(make_()); });
  return *matrix_;
}

Message LinearCode::MessageOf(int worker, int) const {
  Message message;
  const Matrix& coefficients = matrix().coefficients();
  for (int part = 0; part < coefficients.cols; ++part) {
    const double weight = coefficients(worker, part);
    if (weight != 0) message.parts.push_back({part, weight});
  }
  return message;
}

double LinearCode::LoadOf(int, int) const { return shape().load; }

bool LinearCode::Decodes(absl::Span<const uint64_t> arrived) const {
  int num_late = 0;
  for (const uint64_t mask : arrived) num_late += !(mask & 1);
  return num_late <= shape().tolerates.per_round;
}

StatusOr<Decoding> LinearCode::Decode(absl::Span<const uint64_t> arrived) const {
  if (!Decodes(arrived)) return CannotDecode(name_, shape(), arrived);
  const StatusOr<std::vector<double>> weights = matrix().Weights(arrived);
  if (!weights.ok()) return Annotate(weights.status(), name_);
  Decoding decoding;
  for (int worker = 0; worker < shape().num_workers; ++worker) {
    if ((*weights)[worker] != 0) decoding.terms.push_back({worker, 0, 0, (*weights)[worker]});
  }
  return decoding;
}

}  // namespace trireme
