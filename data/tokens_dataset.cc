#include "data/tokens_dataset.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "data/input_file.h"
#include "data/token_shard.h"

namespace trireme {

StatusOr<std::unique_ptr<Dataset>> MakeTokens(const Params& params, const DatasetContext& context) {
  ASSIGN_OR_RETURN(const std::vector<std::string> files, ExpandFileList(params.String("files")));
  std::vector<std::unique_ptr<TokenCorpus>> shards;
  std::string tokenizer;
  for (const std::string& path : files) {
    ASSIGN_OR_RETURN(std::unique_ptr<TokenShard> shard, TokenShard::Open(path));
    if (!shards.empty() && shard->tokenizer() != tokenizer) {
      return absl::InvalidArgumentError(absl::StrCat(path, " holds tokens of '", shard->tokenizer(),
                                                     "', ", files.front(), " of '", tokenizer,
                                                     "'"));
    }
    tokenizer = shard->tokenizer();
    shards.push_back(std::move(shard));
  }
  return MakeTokenDataset("tokens", std::move(shards),
                          {context.sequence_length, params.Float("validation_fraction")});
}

}  // namespace trireme
