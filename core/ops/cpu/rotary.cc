// Rotary on the CPU. Angles are reduced to [-pi/4, pi/4] in f64, since positions may be large; then
// f32 needs short Taylor polynomials only.
#include "core/ops/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "core/device/cpu/cpu_device.h"
#include "core/ops/cpu/element.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

// sin and cos to 2 units of the last place, without branches, for |angle| < 2^30.
inline void SinCos(double angle, float* sine, float* cosine) {
  // Adding 1.5 * 2^52 rounds to an integer.
  constexpr double kRound = 0x1.8p52;
  const double quarters = (angle * (2 / std::numbers::pi) + kRound) - kRound;
  const float r = static_cast<float>(angle - quarters * (std::numbers::pi / 2));
  const int quadrant = static_cast<int>(quarters);
  const float z = r * r;
  const float s = r + r * z * (-1.f / 6 + z * (1.f / 120 + z * (-1.f / 5040 + z * (1.f / 362880))));
  const float c =
      1 +
      z * (-0.5f + z * (1.f / 24 + z * (-1.f / 720 + z * (1.f / 40320 + z * (-1.f / 3628800)))));
  const float swapped_s = (quadrant & 1) != 0 ? c : s;
  const float swapped_c = (quadrant & 1) != 0 ? s : c;
  *sine = (quadrant & 2) != 0 ? -swapped_s : swapped_s;
  *cosine = ((quadrant + 1) & 2) != 0 ? -swapped_c : swapped_c;
}

inline void SinCos(double angle, double* sine, double* cosine) {
  *sine = std::sin(angle);
  *cosine = std::cos(angle);
}

}  // namespace

void RotaryCpu(Device& device, const RotaryArgs& args) {
  const int64_t n = args.x.sizes[0], h = args.x.sizes[1], half = args.x.sizes[2] / 2;
  std::vector<double> frequency(half);
  for (int64_t i = 0; i < half; ++i) {
    frequency[i] = std::pow(args.theta, -static_cast<double>(i) / half);
    if (args.inverse) frequency[i] = -frequency[i];
  }
  DispatchFloating(args.x.dtype, "rotary", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(1, h * half));
    AsCpu(device).ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
      std::vector<A> sines(half), cosines(half);
      for (int64_t t = begin; t < end; ++t) {
        const double position = args.positions.as<int32_t>()[t];
        const double* f = frequency.data();
        A* sine = sines.data();
        A* cosine = cosines.data();
#pragma omp simd
        for (int64_t i = 0; i < half; ++i) SinCos(position * f[i], sine + i, cosine + i);
        for (int64_t head = 0; head < h; ++head) {
          const T* x = args.x.as<T>() + t * args.x.strides[0] + head * args.x.strides[1];
          T* y = args.y.as<T>() + (t * h + head) * 2 * half;
#pragma omp simd
          for (int64_t i = 0; i < half; ++i) {
            const A a = Load(x + i), b = Load(x + half + i);
            Store(y + i, a * cosine[i] - b * sine[i]);
            Store(y + half + i, b * cosine[i] + a * sine[i]);
          }
        }
      }
    });
  });
}

}  // namespace trireme
