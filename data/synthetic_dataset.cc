#include "data/synthetic_dataset.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/base/rng.h"

namespace trireme {

StatusOr<std::unique_ptr<Dataset>> MakeSynthetic(const Params& params,
                                                 const DatasetContext& context) {
  const int64_t vocabulary_size = params.Int("vocabulary_size");
  const int64_t num_tokens = params.Int("num_tokens");
  const int64_t max_length = params.Int("max_document_tokens");
  const RngKey token_key = MakeRngKey(params.Int("seed"), "synthetic tokens");
  const RngKey length_key = MakeRngKey(params.Int("seed"), "synthetic lengths");
  auto corpus = std::make_unique<MemoryCorpus>(vocabulary_size);
  std::vector<int32_t> tokens;
  std::string text;
  for (int64_t begin = 0, document = 0; begin < num_tokens; ++document) {
    const int64_t length = 1 + static_cast<int64_t>(UniformAt(length_key, document) * max_length);
    tokens.resize(std::min(length, num_tokens - begin));
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = static_cast<int32_t>(UniformAt(token_key, begin + i) * vocabulary_size);
    }
    text.clear();
    PackTokens(tokens, TokenWidth(vocabulary_size), &text);
    RETURN_IF_ERROR(corpus->Add(tokens, text));
    begin += tokens.size();
  }
  std::vector<std::unique_ptr<TokenCorpus>> corpora;
  corpora.push_back(std::move(corpus));
  return MakeTokenDataset("synthetic", std::move(corpora),
                          {context.sequence_length, params.Float("validation_fraction")});
}

}  // namespace trireme
