// Three steps of AdamW against PyTorch, in f64 and f32. write_adamw.py has the same settings.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "optim/optimizer.h"
#include "tests/golden/golden.h"
#include "tests/testing/device.h"

namespace trireme {
namespace {

using testing::Golden;
using testing::RelativeError;

struct Setting {
  const char* name;
  ParamMap params;
  double learning_rate, weight_decay;
};

TEST(AdamWGoldenTest, ThreeStepsEqualPyTorch) {
  const auto device = testing::MakeTestDevice({.num_threads = 2});
  const Golden golden("adamw", *device);
  const Setting settings[] = {
      {"usual", {{"beta1", "0.9"}, {"beta2", "0.95"}, {"epsilon", "1e-8"}}, 3e-3, 0.1},
      {"large_epsilon", {{"beta1", "0.8"}, {"beta2", "0.999"}, {"epsilon", "0.3"}}, 0.1, 0},
  };
  for (const Setting& setting : settings) {
    const auto optimizer = MakeOptimizer("adamw", setting.params);
    ASSERT_TRUE(optimizer.ok()) << optimizer.status();
    for (const auto& [dtype, label, tolerance] :
         {std::tuple(DType::kF64, "f64", 1e-15), {DType::kF32, "f32", 3e-7}}) {
      // All shapes in one call, as a model's update does.
      std::vector<std::string> prefixes;
      std::vector<UpdateSlice> slices;
      while (true) {
        const std::string prefix = absl::StrCat(setting.name, ".", slices.size(), ".");
        if (!golden.Has(prefix + "p0")) break;
        UpdateSlice slice;
        slice.owned = golden.Read(prefix + "p0", dtype);
        for (int i = 0; i < 2; ++i) {
          slice.states.push_back(Tensor::Zeros(*device, slice.owned.shape(), dtype));
        }
        slice.learning_rate = setting.learning_rate;
        slice.weight_decay = setting.weight_decay;
        slices.push_back(slice);
        prefixes.push_back(prefix);
      }
      ASSERT_EQ(slices.size(), 4u);
      for (int step = 1; step <= 3; ++step) {
        for (size_t i = 0; i < slices.size(); ++i) {
          slices[i].grad = golden.Read(absl::StrCat(prefixes[i], "g", step), dtype);
        }
        (*optimizer)->Update(slices, /*grad_scale=*/1, step);
        for (size_t i = 0; i < slices.size(); ++i) {
          const Tensor expected = golden.Read(absl::StrCat(prefixes[i], label, ".p", step));
          EXPECT_LT(RelativeError(slices[i].owned, expected), tolerance)
              << prefixes[i] << label << " step " << step;
        }
      }
      for (size_t i = 0; i < slices.size(); ++i) {
        const std::string prefix = absl::StrCat(prefixes[i], label, ".");
        EXPECT_LT(RelativeError(slices[i].states[0], golden.Read(prefix + "exp_avg")), tolerance);
        EXPECT_LT(RelativeError(slices[i].states[1], golden.Read(prefix + "exp_avg_sq")),
                  tolerance);
      }
    }
  }
}

}  // namespace
}  // namespace trireme
