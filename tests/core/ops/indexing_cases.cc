#include "core/ops/ops.h"
#include "tests/core/ops/op_case.h"

namespace trireme::testing {

std::vector<OpCase> IndexingCases() {
  constexpr auto kIndex = InputSpec::kIndex;
  const Reference rows_of_table = [](const std::vector<HostTensor>& in) {
    HostTensor y = HostZeros({in[0].shape[0], in[1].shape[1]});
    for (int64_t i = 0; i < y.shape[0]; ++i) {
      for (int64_t j = 0; j < y.shape[1]; ++j) {
        y.at(i, j) = in[1].at(static_cast<int64_t>(in[0].at(i)), j);
      }
    }
    return y;
  };
  const auto embed = [](const Inputs& in) { return Embedding(in[0], in[1]); };
  return {
      {"embedding",
       embed,
       {{{6}, kIndex, 4}, {{4, 3}}},
       rows_of_table,
       {{{500}, kIndex, 40}, {{40, 301}}}},
      {"embedding_no_ids", embed, {{{0}, kIndex, 4}, {{4, 3}}}, rows_of_table},
      {"embedding_of_computed_table",
       [](const Inputs& in) { return Embedding(in[0], Mul(in[1], 1.0)); },
       {{{6}, kIndex, 4}, {{4, 3}}},
       rows_of_table},
      {"gather_columns",
       [](const Inputs& in) { return Gather(in[0], -1, in[1]); },
       {{{3, 4}}, {{2, 5}, kIndex, 4}},
       [](const std::vector<HostTensor>& in) {
         HostTensor y = HostZeros(in[1].shape);
         for (int64_t i = 0; i < in[1].shape[0]; ++i) {
           for (int64_t j = 0; j < in[1].shape[1]; ++j) {
             y.at(i, j) = in[0].at(i, static_cast<int64_t>(in[1].at(i, j)));
           }
         }
         return y;
       },
       {{{300, 40}}, {{299, 100}, kIndex, 40}}},
      {"gather_rows",
       [](const Inputs& in) { return Gather(in[0], 0, in[1]); },
       {{{3, 4}}, {{5, 2}, kIndex, 3}},
       [](const std::vector<HostTensor>& in) {
         HostTensor y = HostZeros(in[1].shape);
         for (int64_t i = 0; i < in[1].shape[0]; ++i) {
           for (int64_t j = 0; j < in[1].shape[1]; ++j) {
             y.at(i, j) = in[0].at(static_cast<int64_t>(in[1].at(i, j)), j);
           }
         }
         return y;
       },
       {{{30, 400}}, {{100, 400}, kIndex, 30}}},
      {"scatter_add_columns",
       [](const Inputs& in) { return ScatterAdd(in[0], 1, in[1], in[2]); },
       {{{3, 4}}, {{2, 5}, kIndex, 4}, {{2, 5}}},
       [](const std::vector<HostTensor>& in) {
         HostTensor y = in[0];
         for (int64_t i = 0; i < in[1].shape[0]; ++i) {
           for (int64_t j = 0; j < in[1].shape[1]; ++j) {
             y.at(i, static_cast<int64_t>(in[1].at(i, j))) += in[2].at(i, j);
           }
         }
         return y;
       },
       {{{300, 40}}, {{300, 100}, kIndex, 40}, {{300, 100}}}},
      {"scatter_add_rows",
       [](const Inputs& in) { return ScatterAdd(in[0], -2, in[1], in[2]); },
       {{{3, 2}}, {{5, 2}, kIndex, 3}, {{5, 2}}},
       [](const std::vector<HostTensor>& in) {
         HostTensor y = in[0];
         for (int64_t i = 0; i < in[1].shape[0]; ++i) {
           for (int64_t j = 0; j < in[1].shape[1]; ++j) {
             y.at(static_cast<int64_t>(in[1].at(i, j)), j) += in[2].at(i, j);
           }
         }
         return y;
       },
       {{{30, 400}}, {{100, 400}, kIndex, 30}, {{100, 400}}}},
  };
}

}  // namespace trireme::testing
