// Short convolutions: every row is a sum of rows, each channel times its tap. Tasks are pieces of
// runs, and for the gradients of the taps, which are sums over tokens, ranges of channels.
#include "core/ops/short_conv.h"

#include <algorithm>
#include <vector>

#include "core/device/cpu/cpu_device.h"
#include "core/device/workspace.h"
#include "core/ops/cpu/element.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int64_t kPieceTokens = 64, kChannelTile = 256;

// Tokens [begin, end) of a run.
struct Piece {
  int64_t run, begin, end;
};

std::vector<Piece> CutRuns(const TokenRun* runs, int64_t num_runs) {
  std::vector<Piece> pieces;
  for (int64_t r = 0; r < num_runs; ++r) {
    for (int64_t t = runs[r].begin; t < runs[r].end; t += kPieceTokens) {
      pieces.push_back({r, t, std::min(t + kPieceTokens, runs[r].end)});
    }
  }
  return pieces;
}

// The rows of a run and, before it, those of its history; nullptr for a row that is zero.
template <typename T>
struct RunRows {
  const View& x;
  const View& history;
  int64_t taps;

  const T* Row(int64_t run, int64_t run_begin, int64_t t) const {
    if (t >= run_begin) return x.as<T>() + t * x.strides[0];
    if (!history.defined()) return nullptr;
    const int64_t row = run * (taps - 1) + taps - 1 + t - run_begin;
    return history.as<T>() + row * x.sizes[1];
  }
};

// A row of the sum and its taps [c].
template <typename T>
struct Term {
  const T* row;
  const AccOf<T>* taps;
};

// sum = [sum +] the first kTerms terms.
template <int kTerms, typename T>
void AddTerms(const Term<T>* terms, int64_t c, AccOf<T>* sum) {
  Term<T> t[kTerms];
  std::copy(terms, terms + kTerms, t);
  SimdLoop(c, [=](int64_t i) {
    AccOf<T> s = sum[i];
#pragma GCC unroll 4
    for (int j = 0; j < kTerms; ++j) s += t[j].taps[i] * Load(t[j].row + i);
    sum[i] = s;
  });
}

// to = the initial sum plus all terms.
template <typename T>
void SumRows(const std::vector<Term<T>>& terms, int64_t c, AccOf<T>* sum, T* to) {
  size_t k = 0;
  for (; k + 4 <= terms.size(); k += 4) AddTerms<4>(&terms[k], c, sum);
  switch (terms.size() - k) {
    case 3:
      AddTerms<3>(&terms[k], c, sum);
      break;
    case 2:
      AddTerms<2>(&terms[k], c, sum);
      break;
    case 1:
      AddTerms<1>(&terms[k], c, sum);
      break;
  }
  SimdLoop(c, [=](int64_t i) { Store(to + i, sum[i]); });
}

// Taps by their distance: [w, c].
template <typename T>
void LoadTaps(const View& weight, AccOf<T>* taps) {
  const int64_t c = weight.sizes[0], w = weight.sizes[1];
  for (int64_t i = 0; i < c; ++i) {
    for (int64_t j = 0; j < w; ++j) taps[j * c + i] = Load(weight.as<T>() + i * w + w - 1 - j);
  }
}

template <typename T>
void Forward(CpuDevice& device, const ShortConvArgs& args) {
  using A = AccOf<T>;
  const int64_t c = args.x.sizes[1], w = args.weight.sizes[1];
  const RunRows<T> rows{args.x, args.history, w};
  const std::vector<Piece> pieces = CutRuns(args.runs, args.num_runs);
  const Workspace taps_memory(device, w * c * sizeof(A), "short_conv");
  A* taps = taps_memory.as<A>();
  LoadTaps<T>(args.weight, taps);
  device.ParallelFor(pieces.size(), 1, [&](int64_t i, int64_t last) {
    const Workspace sum_memory(device, c * sizeof(A), "short_conv");
    A* sum = sum_memory.as<A>();
    std::vector<Term<T>> terms;
    for (; i < last; ++i) {
      for (int64_t t = pieces[i].begin; t < pieces[i].end; ++t) {
        terms.clear();
        for (int64_t j = 0; j < w; ++j) {
          const T* row = rows.Row(pieces[i].run, args.runs[pieces[i].run].begin, t - j);
          if (row != nullptr) terms.push_back({row, taps + j * c});
        }
        for (int64_t k = 0; k < c; ++k) {
          sum[k] = args.bias.defined() ? Load(args.bias.as<T>() + k) : A(0);
        }
        SumRows(terms, c, sum, args.y.as<T>() + t * c);
      }
    }
  });
}

// dx_t = sum of tap j times dy_{t + j}; rows before the run are those of its history.
template <typename T>
void InputGradients(CpuDevice& device, const ShortConvBackwardArgs& args) {
  using A = AccOf<T>;
  const int64_t c = args.x.sizes[1], w = args.taps;
  const std::vector<Piece> pieces = CutRuns(args.runs, args.num_runs);
  const Workspace taps_memory(device, w * c * sizeof(A), "short_conv backward");
  A* taps = taps_memory.as<A>();
  LoadTaps<T>(args.weight, taps);
  const auto run_row = [&](const TokenRun& run, int64_t t, A* sum, T* to) {
    std::vector<Term<T>> terms;
    for (int64_t j = std::max<int64_t>(0, run.begin - t); j < w && t + j < run.end; ++j) {
      terms.push_back({args.dy.as<T>() + (t + j) * args.dy.strides[0], taps + j * c});
    }
    std::fill(sum, sum + c, A(0));
    SumRows(terms, c, sum, to);
  };
  device.ParallelFor(pieces.size(), 1, [&](int64_t i, int64_t last) {
    const Workspace sum(device, c * sizeof(A), "short_conv backward");
    for (; i < last; ++i) {
      for (int64_t t = pieces[i].begin; t < pieces[i].end; ++t) {
        run_row(args.runs[pieces[i].run], t, sum.as<A>(), args.dx.as<T>() + t * c);
      }
    }
  });
  if (!args.dhistory.defined()) return;
  const Workspace sum(device, c * sizeof(A), "short_conv backward");
  for (int64_t i = 0; i < args.num_runs * (w - 1); ++i) {
    const TokenRun& run = args.runs[i / (w - 1)];
    run_row(run, run.begin - (w - 1) + i % (w - 1), sum.as<A>(), args.dhistory.as<T>() + i * c);
  }
}

template <typename T>
void TapGradients(CpuDevice& device, const ShortConvBackwardArgs& args) {
  using A = AccOf<T>;
  const int64_t c = args.x.sizes[1], w = args.taps;
  const RunRows<T> rows{args.x, args.history, w};
  device.ParallelFor(c, kChannelTile, [&](int64_t first, int64_t last) {
    const int64_t width = last - first;
    // Of each tap, then of the bias.
    const Workspace memory(device, (w + 1) * width * sizeof(A), "short_conv backward");
    A* sums = memory.as<A>();
    std::fill(sums, sums + (w + 1) * width, A(0));
    for (int64_t r = 0; r < args.num_runs; ++r) {
      for (int64_t t = args.runs[r].begin; t < args.runs[r].end; ++t) {
        const T* dy = args.dy.as<T>() + t * args.dy.strides[0] + first;
        for (int64_t j = 0; j < w && args.dweight.defined(); ++j) {
          const T* row = rows.Row(r, args.runs[r].begin, t - j);
          if (row == nullptr) continue;
          const T* x = row + first;
          A* sum = sums + j * width;
          SimdLoop(width, [=](int64_t i) { sum[i] += Load(dy + i) * Load(x + i); });
        }
        if (!args.dbias.defined()) continue;
        A* sum = sums + w * width;
        SimdLoop(width, [=](int64_t i) { sum[i] += Load(dy + i); });
      }
    }
    const auto put = [&](A* to, A value) { *to = (args.accumulate ? *to : A(0)) + value; };
    for (int64_t i = 0; i < width; ++i) {
      for (int64_t j = 0; j < w && args.dweight.defined(); ++j) {
        put(args.dweight.as<A>() + (first + i) * w + w - 1 - j, sums[j * width + i]);
      }
      if (args.dbias.defined()) put(args.dbias.as<A>() + first + i, sums[w * width + i]);
    }
  });
}

}  // namespace

void ShortConvCpu(Device& device, const ShortConvArgs& args) {
  DispatchFloating(args.x.dtype, "short_conv",
                   [&](auto tag) { Forward<typename decltype(tag)::type>(AsCpu(device), args); });
}

void ShortConvBackwardCpu(Device& device, const ShortConvBackwardArgs& args) {
  DispatchFloating(args.x.dtype, "short_conv", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (args.dx.defined()) InputGradients<T>(AsCpu(device), args);
    if (args.dweight.defined() || args.dbias.defined()) TapGradients<T>(AsCpu(device), args);
  });
}

}  // namespace trireme
