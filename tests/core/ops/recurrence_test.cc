// The kernels of linear attention against its definition.
#include "core/ops/recurrence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/device/kernel.h"
#include "core/ops/chunked_runs.h"
#include "core/ops/ops.h"
#include "tests/core/ops/recurrence_cases.h"
#include "tests/testing/device.h"
#include "tests/testing/gradient_check.h"

namespace trireme::testing {
namespace {

// The outputs, then the gradient of each input that the case has, from random gradients of both.
struct Results {
  std::vector<std::string> names;
  std::vector<Tensor> tensors;
};

Results RunBothWays(RecurrenceFn fn, const RecurrenceCase& c, std::vector<Tensor> x) {
  constexpr const char* kNames[] = {"dq",    "dk", "dv", "dlog_decay",
                                    "dbeta", "da", "db", "dinitial"};
  for (Tensor& tensor : x) {
    if (tensor.defined()) tensor = tensor.Detach().set_requires_grad();
  }
  const RecurrenceOutputs y = RunRecurrence(fn, c, x);
  Results results = {{"out", "final_state"}, {y.out, y.final_state}};
  const auto weigh = [](const Tensor& t, uint64_t seed) {
    return Sum(
        Mul(t, RandomTensor(t.device(), t.shape(), seed, 1, DType::kBF16).CopyTo(t.dtype())));
  };
  Add(To(weigh(y.out, 11), y.final_state.dtype()), weigh(y.final_state, 12)).Backward();
  for (size_t i = 0; i < x.size(); ++i) {
    if (!x[i].defined()) continue;
    results.names.push_back(kNames[i]);
    results.tensors.push_back(x[i].grad());
  }
  return results;
}

void ExpectNear(const Results& got, const Results& want, double tolerance) {
  ASSERT_EQ(got.names, want.names);
  for (size_t k = 0; k < got.names.size(); ++k) {
    ASSERT_EQ(got.tensors[k].shape(), want.tensors[k].shape()) << got.names[k];
    const std::vector<double> a = got.tensors[k].ToVector(), b = want.tensors[k].ToVector();
    double scale = 1;
    for (const double x : b) scale = std::max(scale, std::abs(x));
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_NEAR(a[i], b[i], tolerance * scale) << got.names[k] << " element " << i;
    }
  }
}

void ExpectEqualsItsDefinition(const RecurrenceCase& like) {
  const auto device = MakeTestDevice({.num_threads = 2});
  for (const RecurrenceCase& c : EveryKind(like)) {
    SCOPED_TRACE(c.name);
    const std::vector<Tensor> x = RecurrenceTensors(*device, c);
    ExpectNear(RunBothWays(LinearRecurrence, c, x), RunBothWays(LinearRecurrenceReference, c, x),
               1e-10);
  }
}

RecurrenceCase Shaped(int64_t h, int64_t g, int64_t key, int64_t value, bool initial) {
  RecurrenceCase c;
  c.h = h;
  c.g = g;
  c.key = key;
  c.value = value;
  c.initial = initial;
  return c;
}

const std::vector<int64_t> kLengths = {1, 2, 0, 15, 16, 17, 63, 64, 65};

TEST(RecurrenceTest, EqualsItsDefinition) {
  ExpectEqualsItsDefinition(WithLengths(Shaped(2, 2, 5, 7, true), kLengths));
}

TEST(RecurrenceTest, EqualsItsDefinitionOverSeveralChunks) {
  ExpectEqualsItsDefinition(WithLengths(Shaped(1, 1, 4, 3, false), {130, 3}));
}

TEST(RecurrenceTest, EqualsItsDefinitionWithGroupedHeads) {
  ExpectEqualsItsDefinition(WithLengths(Shaped(4, 2, 3, 2, true), {9, 0, 18}));
  ExpectEqualsItsDefinition(WithLengths(Shaped(3, 1, 17, 33, true), {20}));
}

TEST(RecurrenceTest, NoTokensAndNoRuns) {
  const auto device = MakeTestDevice();
  for (RecurrenceCase& c : EveryKind(Shaped(2, 1, 3, 2, true))) {
    SCOPED_TRACE(c.name);
    for (const std::vector<TokenRun>& runs : {std::vector<TokenRun>{}, {{0, 0}, {2, 2}}}) {
      c.n = 3;
      c.runs = runs;
      const std::vector<Tensor> x = RecurrenceTensors(*device, c);
      const RecurrenceOutputs y = RunRecurrence(LinearRecurrence, c, x);
      EXPECT_EQ(y.out.ToVector(), std::vector<double>(3 * 2 * 2));
      EXPECT_EQ(y.final_state.ToVector(), x[7].ToVector());
    }
  }
}

TEST(RecurrenceTest, ShorterTypesStayClose) {
  const auto device = MakeTestDevice({.num_threads = 2});
  for (const RecurrenceCase& c : EveryKind(WithLengths(Shaped(2, 1, 20, 9, true), {70, 3, 40}))) {
    SCOPED_TRACE(c.name);
    const auto run = [&](RecurrenceFn fn, DType dtype, DType rounded) {
      return RunBothWays(fn, c, RecurrenceTensors(*device, c, dtype, rounded));
    };
    ExpectNear(run(LinearRecurrence, DType::kF32, DType::kF32),
               run(LinearRecurrenceReference, DType::kF64, DType::kF32), 1e-5);
    ExpectNear(run(LinearRecurrence, DType::kBF16, DType::kBF16),
               run(LinearRecurrenceReference, DType::kF64, DType::kBF16), 2e-2);
  }
}

// Every input against central differences: small, as the whole Jacobian is taken.
TEST(RecurrenceTest, NumericGradients) {
  const auto device = MakeTestDevice();
  for (const RecurrenceCase& c : EveryKind(WithLengths(Shaped(2, 1, 2, 3, true), {3, 17, 0, 2}))) {
    SCOPED_TRACE(c.name);
    std::vector<Tensor> given = RecurrenceTensors(*device, c);
    Inputs inputs;
    for (const Tensor& x : given) {
      if (x.defined()) inputs.push_back(x);
    }
    ExpectGradientsMatch(
        [&](const Inputs& in) {
          std::vector<Tensor> x = given;
          for (size_t i = 0, k = 0; i < x.size(); ++i) {
            if (x[i].defined()) x[i] = in[k++];
          }
          const RecurrenceOutputs y = RunRecurrence(LinearRecurrence, c, x);
          return Concat(
              {Reshape(y.out, {y.out.numel()}), Reshape(y.final_state, {y.final_state.numel()})},
              0);
        },
        inputs, 1e-6, /*full_limit=*/400);
  }
}

// Decays of e^-50 a token, beside tokens that do not decay at all.
TEST(RecurrenceTest, StrongDecaysStayFinite) {
  const auto device = MakeTestDevice();
  for (const RecurrenceCase& c : EveryKind(WithLengths(Shaped(1, 1, 4, 4, true), {40, 70}))) {
    if (c.decay == Decay::kNone) continue;
    SCOPED_TRACE(c.name);
    for (const double log_decay : {-50.0, -1e4}) {
      std::vector<Tensor> x = RecurrenceTensors(*device, c), narrow;
      const Tensor strong = Tensor::Full(*device, x[3].shape(), x[3].dtype(), log_decay);
      const Tensor some = Less(RandomTensor(*device, x[3].shape(), 20),
                               Tensor::Zeros(*device, x[3].shape(), x[3].dtype()));
      x[3] = Where(some, strong, Tensor::Zeros(*device, x[3].shape(), x[3].dtype()));
      for (const Tensor& tensor : x) {
        narrow.push_back(tensor.defined() ? tensor.CopyTo(DType::kF32) : tensor);
      }
      const Results want = RunBothWays(LinearRecurrenceReference, c, x);
      ExpectNear(RunBothWays(LinearRecurrence, c, x), want, 1e-10);
      ExpectNear(RunBothWays(LinearRecurrence, c, narrow), want, 2e-5);
    }
  }
}

TEST(RecurrenceTest, BitsDoNotDependOnThreads) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const RecurrenceCase& c : EveryKind(WithLengths(Shaped(4, 2, 9, 6, true), kLengths))) {
      SCOPED_TRACE(c.name);
      std::vector<std::vector<double>> want;
      for (const int threads : {1, 2, 5}) {
        const auto device = MakeTestDevice({.num_threads = threads});
        std::vector<std::vector<double>> got;
        for (const Tensor& x :
             RunBothWays(LinearRecurrence, c, RecurrenceTensors(*device, c, dtype, dtype))
                 .tensors) {
          got.push_back(x.ToVector());
        }
        if (threads == 1) want = got;
        ASSERT_EQ(got, want);
      }
    }
  }
}

// What one projection holds side by side, heads outermost, and a stride along the width.
TEST(RecurrenceTest, StridedInputs) {
  const auto device = MakeTestDevice();
  RecurrenceCase c = WithLengths(Shaped(2, 2, 6, 6, true), {40, 9});
  for (const StateRule rule : {StateRule::kDiagonal, StateRule::kDelta, StateRule::kLowRank}) {
    c.rule = rule;
    c.decay = Decay::kChannel;
    std::vector<Tensor> strided = RecurrenceTensors(*device, c), dense;
    const Tensor wide = RandomTensor(*device, {c.n, 7, 6}, 30, 0.3);
    strided[0] = Slice(wide, 1, 0, 2);
    strided[1] = Slice(wide, 1, 3, 2);
    strided[2] = Transpose(RandomTensor(*device, {2, c.n, 6}, 31), 0, 1);
    strided[3] = Transpose(Neg(Abs(RandomTensor(*device, {6, 2, c.n}, 32))), 0, 2);
    if (rule == StateRule::kDelta) {
      strided[4] = Transpose(Sigmoid(RandomTensor(*device, {2, c.n}, 33)), 0, 1);
    }
    strided[7] = Transpose(strided[7].Contiguous(), 2, 3);
    for (const Tensor& x : strided) dense.push_back(x.defined() ? x.Contiguous() : x);
    ExpectNear(RunBothWays(LinearRecurrence, c, strided), RunBothWays(LinearRecurrence, c, dense),
               0);
  }
}

TEST(RecurrenceTest, CarriesStatesOverCalls) {
  const auto device = MakeTestDevice();
  RecurrenceCase whole = WithLengths(Shaped(2, 1, 5, 4, true), {150});
  whole.n = 150;
  for (const RecurrenceCase& c : EveryKind(whole)) {
    SCOPED_TRACE(c.name);
    const std::vector<Tensor> x = RecurrenceTensors(*device, c);
    const RecurrenceOutputs want = RunRecurrence(LinearRecurrence, c, x);
    Tensor state = x[7];
    int64_t begin = 0;
    for (const int64_t length : {37, 0, 1, 64, 48}) {
      std::vector<Tensor> part = x;
      for (size_t i = 0; i < 7; ++i) {
        if (x[i].defined() && x[i].dim(0) == c.n) part[i] = Slice(x[i], 0, begin, length);
      }
      part[7] = state;
      RecurrenceCase piece = c;
      piece.n = length;
      piece.runs = {{0, length}};
      const RecurrenceOutputs got = RunRecurrence(LinearRecurrence, piece, part);
      ExpectNear({{"out"}, {got.out}}, {{"out"}, {Slice(want.out, 0, begin, length)}}, 1e-12);
      state = got.final_state;
      begin += length;
    }
    ExpectNear({{"final"}, {state}}, {{"final"}, {want.final_state}}, 1e-12);
  }
}

View ViewOf(const Tensor& x) { return x.defined() ? x.view() : View(); }

// The slots one by one: states and outputs apart have the bits of one walk; what a run does to an
// entering state is what it does to it in the recurrence.
TEST(RecurrenceTest, StatesOutputsAndTransitionsApart) {
  const auto device = MakeTestDevice({.num_threads = 2});
  for (const RecurrenceCase& c :
       EveryKind(WithLengths(Shaped(4, 2, 5, 7, true), {65, 0, 130, 3}))) {
    SCOPED_TRACE(c.name);
    const std::vector<Tensor> x = RecurrenceTensors(*device, c);
    const RecurrenceOutputs want = RunRecurrence(LinearRecurrence, c, x);
    const std::vector<ChunkedRun> runs = ChunkRuns(c.runs);
    const int64_t p = static_cast<int64_t>(runs.size());
    const RecurrenceTokens tokens = {c.rule,
                                     ViewOf(x[0]),
                                     ViewOf(x[1]),
                                     ViewOf(x[2]),
                                     ViewOf(x[3]),
                                     ViewOf(x[4]),
                                     ViewOf(x[5]),
                                     ViewOf(x[6]),
                                     0.6,
                                     runs.data(),
                                     p};
    const auto zeros = [&](const Shape& shape) {
      return Tensor::Zeros(*device, shape, DType::kF64);
    };
    const auto states = [&](const Tensor& initial, const Tensor& final_state) {
      const Tensor of_chunks = zeros({NumChunks(runs), c.h, c.key, c.value});
      const Tensor pseudo_values = zeros({c.n, c.h, c.value}), out = zeros({c.n, c.h, c.value});
      Launch(*device, &KernelTable::RecurrenceStates,
             RecurrenceStatesArgs{tokens,
                                  ViewOf(initial),
                                  final_state.view(),
                                  of_chunks.view(),
                                  pseudo_values.view(),
                                  {}});
      Launch(*device, &KernelTable::RecurrenceOutput,
             RecurrenceOutputArgs{tokens, of_chunks.view(), pseudo_values.view(), out.view()});
      return out;
    };
    const Shape state_shape = want.final_state.shape();
    const Tensor final_state = zeros(state_shape);
    EXPECT_EQ(states(x[7], final_state).ToVector(), want.out.ToVector());
    EXPECT_EQ(final_state.ToVector(), want.final_state.ToVector());

    const Tensor local_final = zeros(state_shape), local_out = states(Tensor(), local_final);
    const bool diagonal = c.rule == StateRule::kDiagonal;
    const int64_t rows = c.decay == Decay::kChannel ? c.key : 1;
    const Tensor decay_sum = zeros({p, c.h, rows}), matrix = zeros({p, c.h, c.key, c.key});
    const Tensor queries = zeros({c.n, c.h, c.key});
    Launch(*device, &KernelTable::RecurrenceTransition,
           RecurrenceTransitionArgs{tokens, diagonal && x[3].defined() ? decay_sum.view() : View(),
                                    diagonal ? View() : matrix.view(), queries.view()});
    const Tensor passed =
        diagonal ? Mul(Exp(Reshape(decay_sum, {p, c.h, rows, 1})), x[7]) : MatMul(matrix, x[7]);
    ExpectNear({{"final"}, {Add(local_final, passed)}}, {{"final"}, {want.final_state}}, 1e-12);
    for (int64_t r = 0; r < p; ++r) {
      const int64_t begin = runs[r].begin, length = runs[r].end - begin;
      if (length == 0) continue;
      const auto heads_first = [&](const Tensor& t) {
        return Transpose(Slice(t, 0, begin, length), 0, 1);
      };
      const Tensor entering = Reshape(Slice(x[7], 0, r, 1), {c.h, c.key, c.value});
      const Tensor got = Add(heads_first(local_out), MatMul(heads_first(queries), entering));
      ExpectNear({{"out"}, {got}}, {{"out"}, {heads_first(want.out)}}, 1e-12);
    }
  }
}

TEST(RecurrenceTest, MemoryIsLinearInLength) {
  const auto peak = [](int64_t n) {
    const auto device = MakeTestDevice();
    RecurrenceCase c = WithLengths(Shaped(2, 2, 8, 8, false), {n});
    c.rule = StateRule::kDelta;
    c.decay = Decay::kScalar;
    const std::vector<Tensor> x = RecurrenceTensors(*device, c, DType::kF32);
    device->ResetPeaks();
    const int64_t before = device->stats().current_total_bytes;
    RunBothWays(LinearRecurrence, c, x);
    return device->stats().peak_total_bytes - before;
  };
  const int64_t one = peak(2048), two = peak(4096), four = peak(8192);
  EXPECT_LE(four - two, 2 * (two - one) + 4096);
  EXPECT_LT(four, int64_t{8192} * 8192);
}

TEST(RecurrenceDeathTest, WhatWouldBeWrong) {
  const auto device = MakeTestDevice();
  const RecurrenceCase c = WithLengths(Shaped(4, 2, 3, 2, true), {5, 4});
  RecurrenceCase delta = c, low_rank = c;
  delta.rule = StateRule::kDelta;
  low_rank.rule = StateRule::kLowRank;
  const auto expect = [&](const RecurrenceCase& of, int input, const Tensor& instead,
                          const char* message) {
    std::vector<Tensor> x = RecurrenceTensors(*device, of);
    x[input] = instead;
    EXPECT_DEATH(RunRecurrence(LinearRecurrence, of, x), message);
    EXPECT_DEATH(RunRecurrence(LinearRecurrenceReference, of, x), message);
  };
  const auto zeros = [&](const Shape& shape, DType dtype = DType::kF64) {
    return Tensor::Zeros(*device, shape, dtype);
  };
  const int64_t n = c.n;
  expect(c, 0, zeros({n, 2, 4}), "q \\[.*\\[linear_recurrence\\]");
  expect(c, 1, zeros({n, 3, 3}), "\\[linear_recurrence\\]");
  expect(c, 2, zeros({n, 3, 2}), "3 heads over 2 key heads");
  expect(c, 2, zeros({n, 4, 2}, DType::kF32), "f64 f64 f32");
  expect(c, 3, zeros({n, 3}), "log_decay f64\\[.*, 3\\]");
  expect(c, 3, zeros({n, 4}, DType::kF32), "log_decay f32");
  expect(c, 4, zeros({n, 4}), "beta and the rule");
  expect(delta, 4, Tensor(), "beta and the rule");
  expect(delta, 4, zeros({n, 2}), "beta f64");
  expect(low_rank, 5, Tensor(), "a, b and the rule");
  expect(low_rank, 6, zeros({n, 4, 3}), "beside q");
  expect(c, 7, zeros({2, 4, 2, 3}), "initial state");
  RecurrenceCase overlapping = c, outside = c;
  overlapping.runs = {{3, 6}, {0, 4}};
  outside.runs = {{3, n + 1}};
  for (const RecurrenceCase& wrong : {overlapping, outside}) {
    EXPECT_DEATH(RunRecurrence(LinearRecurrence, wrong, RecurrenceTensors(*device, wrong)),
                 "overlap|of 10 tokens");
  }
}

}  // namespace
}  // namespace trireme::testing
