#include <algorithm>
#include <cmath>

#include "core/ops/ops.h"
#include "tests/core/ops/op_case.h"

namespace trireme::testing {
namespace {

// fold(values along dim) for each position of the other dims.
Reference AlongDim(int dim, bool keep_dim, std::function<double(const std::vector<double>&)> fold) {
  return [=](const std::vector<HostTensor>& in) {
    const HostTensor& x = in[0];
    const int d = x.shape.CheckDim(dim);
    HostTensor y = HostZeros(keep_dim ? x.shape.WithDim(d, 1) : x.shape.WithoutDim(d));
    int64_t inner = 1;
    for (int i = d + 1; i < x.shape.rank(); ++i) inner *= x.shape[i];
    for (size_t i = 0; i < y.values.size(); ++i) {
      std::vector<double> line;
      for (int64_t k = 0; k < x.shape[d]; ++k) {
        line.push_back(x.values[(i / inner * x.shape[d] + k) * inner + i % inner]);
      }
      y.values[i] = fold(line);
    }
    return y;
  };
}

Reference Whole(std::function<double(const std::vector<double>&)> fold) {
  return [=](const std::vector<HostTensor>& in) { return HostTensor{{}, {fold(in[0].values)}}; };
}

double SumOf(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}
double MeanOf(const std::vector<double>& values) { return SumOf(values) / values.size(); }
double MaxOf(const std::vector<double>& values) {
  return *std::max_element(values.begin(), values.end());
}
double ArgMaxOf(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

OpCase SumCase(const std::string& name, const Shape& shape, int dim, bool keep_dim,
               const Shape& large) {
  return {"sum_" + name,
          [=](const Inputs& in) { return Sum(in[0], dim, keep_dim); },
          {{shape}},
          AlongDim(dim, keep_dim, SumOf),
          {{large}}};
}

}  // namespace

std::vector<OpCase> ReductionCases() {
  return {
      {"sum_all",
       [](const Inputs& in) { return Sum(in[0]); },
       {{{3, 4}}},
       Whole(SumOf),
       {{{3, 33333}}}},
      {"sum_all_empty", [](const Inputs& in) { return Sum(in[0]); }, {{{3, 0}}}, Whole(SumOf)},
      {"sum_all_scalar", [](const Inputs& in) { return Sum(in[0]); }, {{Shape()}}, Whole(SumOf)},
      SumCase("rows", {3, 4}, -1, false, {777, 65}),
      SumCase("rows_keep", {2, 3, 4}, 2, true, {7, 3, 40001}),
      SumCase("columns", {3, 4}, 0, false, {1025, 64}),
      SumCase("columns_wide", {3, 4}, 0, false, {300, 5000}),
      SumCase("middle", {2, 3, 2}, 1, false, {3, 700, 50}),
      SumCase("middle_keep", {2, 3, 2}, -2, true, {1000, 7, 3}),
      SumCase("of_nothing", {3, 0, 2}, 1, false, {3, 0, 2}),
      SumCase("into_nothing", {0, 3, 2}, 1, false, {0, 3, 2}),
      {"mean_all",
       [](const Inputs& in) { return Mean(in[0]); },
       {{{3, 4}}},
       Whole(MeanOf),
       {{{3, 33333}}}},
      {"mean_columns",
       [](const Inputs& in) { return Mean(in[0], 0); },
       {{{3, 4}}},
       AlongDim(0, false, MeanOf),
       {{{1025, 64}}}},
      {"mean_rows_keep",
       [](const Inputs& in) { return Mean(in[0], -1, true); },
       {{{3, 4}}},
       AlongDim(1, true, MeanOf),
       {{{777, 65}}}},
      {"max_rows",
       [](const Inputs& in) { return Max(in[0], -1); },
       {{{3, 4}}},
       AlongDim(1, false, MaxOf),
       {{{777, 65}}},
       /*has_kinks=*/true},
      {"max_middle_keep",
       [](const Inputs& in) { return Max(in[0], 1, true); },
       {{{2, 3, 2}}},
       AlongDim(1, true, MaxOf),
       {{{20, 300, 20}}},
       /*has_kinks=*/true},
      {"arg_max",
       [](const Inputs& in) { return ArgMax(in[0], 0); },
       {{{4, 3}}},
       AlongDim(0, false, ArgMaxOf),
       {{{400, 300}}}},
  };
}

}  // namespace trireme::testing
