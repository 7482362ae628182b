#include "core/ops/ops.h"
#include "tests/core/ops/op_case.h"

namespace trireme::testing {
namespace {

// y of `shape` with y[i] = x[source(i)].
Reference Moved(const Shape& shape, std::function<int64_t(int64_t)> source) {
  return [=](const std::vector<HostTensor>& in) {
    HostTensor y = HostZeros(shape);
    for (size_t i = 0; i < y.values.size(); ++i) y.values[i] = in[0].values[source(i)];
    return y;
  };
}

int64_t Same(int64_t i) { return i; }

}  // namespace

std::vector<OpCase> ShapeCases() {
  return {
      {"reshape",
       [](const Inputs& in) {
         return Reshape(in[0], {2, 1, 6});
       },
       {{{3, 4}}},
       Moved({2, 1, 6}, Same)},
      {"reshape_to_scalar",
       [](const Inputs& in) { return Reshape(in[0], {}); },
       {{{1, 1}}},
       Moved({}, Same)},
      {"reshape_empty",
       [](const Inputs& in) {
         return Reshape(in[0], {0, 7});
       },
       {{{3, 0}}},
       Moved({0, 7}, Same)},
      {"reshape_of_transposed",
       [](const Inputs& in) { return Reshape(Transpose(in[0], 0, 1), {12}); },
       {{{3, 4}}},
       Moved({12}, [](int64_t i) { return i % 3 * 4 + i / 3; })},
      {"transpose",
       [](const Inputs& in) { return Transpose(in[0], -1, 0); },
       {{{3, 2, 2}}},
       Moved({2, 2, 3}, [](int64_t i) { return i % 3 * 4 + i / 3 % 2 * 2 + i / 6; })},
      {"slice_rows",
       [](const Inputs& in) { return Slice(in[0], 0, 1, 2); },
       {{{4, 3}}},
       Moved({2, 3}, [](int64_t i) { return i + 3; })},
      {"slice_columns",
       [](const Inputs& in) { return Slice(in[0], -1, 1, 1); },
       {{{4, 3}}},
       Moved({4, 1}, [](int64_t i) { return i * 3 + 1; })},
      {"slice_nothing",
       [](const Inputs& in) { return Slice(in[0], 0, 4, 0); },
       {{{4, 3}}},
       Moved({0, 3}, Same)},
      {"broadcast",
       [](const Inputs& in) {
         return Broadcast(in[0], {2, 3, 4});
       },
       {{{3, 1}}},
       Moved({2, 3, 4}, [](int64_t i) { return i / 4 % 3; })},
      {"broadcast_scalar",
       [](const Inputs& in) {
         return Broadcast(in[0], {2, 3});
       },
       {{Shape()}},
       Moved({2, 3}, [](int64_t) { return 0; })},
      {"concat_columns",
       [](const Inputs& in) {
         return Concat({in[0], in[1], in[2]}, -1);
       },
       {{{2, 3}}, {{2, 0}}, {{2, 1}}},
       [](const std::vector<HostTensor>& in) {
         const int64_t left = in[0].shape[1], columns = left + in[2].shape[1];
         HostTensor y = HostZeros({in[0].shape[0], columns});
         for (int64_t i = 0; i < y.shape[0]; ++i) {
           for (int64_t j = 0; j < columns; ++j) {
             y.at(i, j) = j < left ? in[0].at(i, j) : in[2].at(i, j - left);
           }
         }
         return y;
       },
       {{{500, 30}}, {{500, 0}}, {{500, 11}}}},
      {"concat_with_itself",
       [](const Inputs& in) {
         return Concat({in[0], in[0]}, 0);
       },
       {{{2, 3}}},
       Moved({4, 3}, [](int64_t i) { return i % 6; })},
      {"to_f64",
       [](const Inputs& in) { return To(in[0], DType::kF64); },
       {{{2, 3}}},
       Moved({2, 3}, Same)},
  };
}

}  // namespace trireme::testing
