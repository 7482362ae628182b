#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/ops/ops.h"
#include "tests/core/ops/op_case.h"

namespace trireme::testing {
namespace {

using std::numbers::sqrt2;

constexpr auto kNormal = InputSpec::kNormal;
constexpr auto kPositive = InputSpec::kPositive;
constexpr auto kMask = InputSpec::kMask;

double SigmoidOf(double x) { return 1 / (1 + std::exp(-x)); }

OpCase UnaryCase(const std::string& name, Tensor (*fn)(const Tensor&),
                 std::function<double(double)> reference, InputSpec::Kind kind = kNormal,
                 bool has_kinks = false) {
  return {name,
          [fn](const Inputs& in) { return fn(in[0]); },
          {{{3, 7}, kind}},
          Pointwise(std::move(reference)),
          {{{37, 1201}, kind}},
          has_kinks};
}

OpCase BinaryCase(const std::string& name, Tensor (*fn)(const Tensor&, const Tensor&),
                  std::function<double(double, double)> reference,
                  InputSpec::Kind divisor = kNormal) {
  return {name,
          [fn](const Inputs& in) { return fn(in[0], in[1]); },
          {{{3, 5}}, {{3, 5}, divisor}},
          Pointwise(std::move(reference)),
          {{{43, 1009}}, {{43, 1009}, divisor}}};
}

// The shapes that broadcasting must serve, with an op whose two gradients differ.
OpCase DivBroadcast(const std::string& name, const Shape& a, const Shape& b) {
  return {"div_" + name,
          [](const Inputs& in) { return Div(in[0], in[1]); },
          {{a}, {b, kPositive}},
          Pointwise([](double x, double y) { return x / y; })};
}

}  // namespace

std::vector<OpCase> ElementwiseCases() {
  return {
      BinaryCase("add", Add, [](double a, double b) { return a + b; }),
      BinaryCase("sub", Sub, [](double a, double b) { return a - b; }),
      BinaryCase("mul", Mul, [](double a, double b) { return a * b; }),
      BinaryCase(
          "div", Div, [](double a, double b) { return a / b; }, kPositive),
      BinaryCase("maximum", Maximum, [](double a, double b) { return std::max(a, b); }),
      BinaryCase("minimum", Minimum, [](double a, double b) { return std::min(a, b); }),
      {"add_number",
       [](const Inputs& in) { return Add(in[0], 1.5); },
       {{{2, 3}}},
       Pointwise([](double a) { return a + 1.5; })},
      {"mul_number",
       [](const Inputs& in) { return Mul(in[0], -1.5); },
       {{{2, 3}}},
       Pointwise([](double a) { return a * -1.5; })},
      {"mul_with_itself",
       [](const Inputs& in) { return Mul(in[0], in[0]); },
       {{{2, 3}}},
       Pointwise([](double a) { return a * a; })},
      DivBroadcast("row", {3, 4}, {4}),
      DivBroadcast("column", {3, 4}, {3, 1}),
      DivBroadcast("scalar", {3, 4}, {}),
      DivBroadcast("of_scalar", {}, {3, 4}),
      DivBroadcast("both_ways", {2, 1, 3, 1}, {4, 1, 2}),
      DivBroadcast("empty", {0, 4}, {1, 4}),
      DivBroadcast("one_element", {1, 1}, {1}),
      {"sub_row_large",
       [](const Inputs& in) { return Sub(in[0], in[1]); },
       {{{5, 3}}, {{3}}},
       Pointwise([](double a, double b) { return a - b; }),
       {{{2000, 33}}, {{33}}}},
      {"equal",
       [](const Inputs& in) { return Equal(in[0], in[1]); },
       {{{4, 5}, kMask}, {{5}, kMask}},
       Pointwise([](double a, double b) { return double(a == b); })},
      {"less",
       [](const Inputs& in) { return Less(in[0], in[1]); },
       {{{4, 5}}, {{5}}},
       Pointwise([](double a, double b) { return double(a < b); }),
       {{{400, 155}}, {{155}}}},
      {"less_equal",
       [](const Inputs& in) { return LessEqual(in[0], in[1]); },
       {{{40}, InputSpec::kIndex, 3}, {{40}, InputSpec::kIndex, 3}},
       Pointwise([](double a, double b) { return double(a <= b); })},
      {"where",
       [](const Inputs& in) { return Where(in[0], in[1], in[2]); },
       {{{3, 4}, kMask}, {{3, 4}}, {{3, 4}}},
       Pointwise([](double c, double a, double b) { return c != 0 ? a : b; }),
       {{{33, 1004}, kMask}, {{33, 1004}}, {{33, 1004}}}},
      {"where_broadcast",
       [](const Inputs& in) { return Where(in[0], in[1], in[2]); },
       {{{3, 1}, kMask}, {{4}}, {{2, 1, 1}}},
       Pointwise([](double c, double a, double b) { return c != 0 ? a : b; })},
      {"clamp",
       [](const Inputs& in) { return Clamp(in[0], -0.5, 0.8); },
       {{{3, 7}}},
       Pointwise([](double x) { return std::clamp(x, -0.5, 0.8); }),
       {{{37, 1201}}},
       /*has_kinks=*/true},
      {"pow",
       [](const Inputs& in) { return Pow(in[0], 2.5); },
       {{{3, 7}, kPositive}},
       Pointwise([](double x) { return std::pow(x, 2.5); })},
      {"pow_integer",
       [](const Inputs& in) { return Pow(in[0], 3); },
       {{{3, 7}}},
       Pointwise([](double x) { return x * x * x; })},
      UnaryCase("neg", Neg, [](double x) { return -x; }),
      UnaryCase(
          "abs", Abs, [](double x) { return std::abs(x); }, kNormal, true),
      UnaryCase("exp", Exp, [](double x) { return std::exp(x); }),
      UnaryCase(
          "log", Log, [](double x) { return std::log(x); }, kPositive),
      UnaryCase(
          "sqrt", Sqrt, [](double x) { return std::sqrt(x); }, kPositive),
      UnaryCase("tanh", Tanh, [](double x) { return std::tanh(x); }),
      UnaryCase("sigmoid", Sigmoid, SigmoidOf),
      UnaryCase(
          "relu", Relu, [](double x) { return std::max(x, 0.0); }, kNormal, true),
      UnaryCase("gelu", Gelu, [](double x) { return x * 0.5 * (1 + std::erf(x / sqrt2)); }),
      UnaryCase("silu", Silu, [](double x) { return x * SigmoidOf(x); }),
      UnaryCase("softplus", Softplus, [](double x) { return std::log(1 + std::exp(x)); }),
      UnaryCase("log_sigmoid", LogSigmoid, [](double x) { return std::log(SigmoidOf(x)); }),
      {"softplus_far",
       [](const Inputs& in) { return Add(Softplus(Mul(in[0], 300)), LogSigmoid(Mul(in[0], 300))); },
       {{{3, 7}}},
       Pointwise([](double x) { return 300 * x; })},
      {"swiglu",
       [](const Inputs& in) { return SwiGlu(in[0], in[1]); },
       {{{3, 5}}, {{3, 5}}},
       Pointwise([](double g, double u) { return g * SigmoidOf(g) * u; }),
       {{{43, 1009}}, {{43, 1009}}}},
      {"exp_scalar",
       [](const Inputs& in) { return Exp(in[0]); },
       {{Shape()}},
       Pointwise([](double x) { return std::exp(x); })},
      {"exp_empty",
       [](const Inputs& in) { return Exp(in[0]); },
       {{{3, 0}}},
       Pointwise([](double x) { return std::exp(x); })},
  };
}

}  // namespace trireme::testing
