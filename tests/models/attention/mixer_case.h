// Small mixers of every entry, and runs of them on the whole or on ranks, for the tests of this
// folder.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "core/autograd/check_gradient.h"
#include "models/attention/token_mixer.h"

namespace trireme::testing {

inline constexpr int64_t kMixerWidth = 16;

struct MixerCase {
  std::string name;
  std::string entry;
  ParamMap params;
};
inline std::ostream& operator<<(std::ostream& out, const MixerCase& c) { return out << c.name; }

// With four heads, each entry at least once.
std::vector<MixerCase> MixerCases();
const MixerCase& FindMixerCase(const std::string& name);
std::string MixerName(const ::testing::TestParamInfo<MixerCase>& info);

MixerShape SmallShape(const TensorAxis& tensor = {}, std::shared_ptr<const SequenceAxis> sequence =
                                                         std::make_shared<SequenceAxis>());
StatusOr<std::unique_ptr<TokenMixer>> MakeMixer(const std::string& entry, const ParamMap& params,
                                                const MixerShape& shape, const Scope& scope);

// A mixer on this rank. All its parameters are drawn around zero, or around one for gains, from
// their paths, so that mixers have the same weights where they have the same names and shapes.
struct MixerUnderTest {
  MixerUnderTest(const MixerCase& c, Device& device, DType dtype = DType::kF64,
                 const MixerShape& shape = SmallShape());

  ParameterSet parameters;
  std::unique_ptr<TokenMixer> mixer;
};

// Documents of several samples, with lengths that divide by nothing.
HostBatch RaggedDocuments();
TokenLayout LayoutOf(const HostBatch& host, Device& device);
ForwardContext ContextOf(const TokenLayout& layout);

// The largest difference, over the largest of `expected`.
double Distance(const std::vector<double>& actual, const std::vector<double>& expected);

}  // namespace trireme::testing
