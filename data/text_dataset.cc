#include "data/text_dataset.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "data/input_file.h"

namespace trireme {

StatusOr<std::unique_ptr<Dataset>> MakeText(const Params& params, const DatasetContext& context) {
  ASSIGN_OR_RETURN(const DocumentRule rule, MakeDocumentRule("text", params));
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                   MakeTokenizer(params.String("tokenizer")));
  ASSIGN_OR_RETURN(const std::vector<std::string> files, ExpandFileList(params.String("files")));
  auto corpus = std::make_unique<MemoryCorpus>(tokenizer->vocabulary_size());
  std::vector<int32_t> tokens;
  for (const std::string& path : files) {
    RETURN_IF_ERROR(ForEachDocument(path, rule, [&](absl::string_view document) {
      tokenizer->Encode(document, &tokens);
      return corpus->Add(tokens, document);
    }));
  }
  if (corpus->num_tokens() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("text: the files hold no text: ", params.String("files")));
  }
  std::vector<std::unique_ptr<TokenCorpus>> corpora;
  corpora.push_back(std::move(corpus));
  return MakeTokenDataset("text", std::move(corpora),
                          {context.sequence_length, params.Float("validation_fraction")});
}

}  // namespace trireme
