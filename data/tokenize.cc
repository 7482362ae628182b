#include "data/tokenize.h"

#include <memory>

#include "absl/strings/str_cat.h"

#include "data/documents.h"
#include "data/ngram_entropy.h"
#include "data/token_shard.h"
#include "data/tokenizer.h"

namespace trireme {
namespace {

constexpr ParamInfo kTokenizeParams[] = {
    kTokenizerParam,
    kDocumentsParam,
    kDocumentPrefixParam,
    kMinDocumentBytesParam,
};

}  // namespace

absl::Span<const ParamInfo> TokenizeParams() { return kTokenizeParams; }

StatusOr<TokenizeReport> TokenizeFiles(absl::Span<const std::string> inputs, const Params& options,
                                       const std::string& output) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                   MakeTokenizer(options.String("tokenizer")));
  ASSIGN_OR_RETURN(const DocumentRule rule, MakeDocumentRule("tokenize", options));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<TokenShardWriter> writer,
      TokenShardWriter::Create(output, tokenizer->name(), tokenizer->vocabulary_size()));
  TokenizeReport report;
  NgramEntropy entropy;
  std::vector<int32_t> tokens;
  for (const std::string& input : inputs) {
    RETURN_IF_ERROR(ForEachDocument(input, rule, [&](absl::string_view document) {
      tokenizer->Encode(document, &tokens);
      entropy.Add(document);
      report.num_bytes += document.size();
      return writer->Add(tokens, document);
    }));
  }
  report.num_documents = writer->num_documents();
  report.num_tokens = writer->num_tokens();
  if (report.num_documents == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenize: ", inputs.size(), " input files hold no text"));
  }
  RETURN_IF_ERROR(writer->Finish());
  const StatusOr<std::vector<double>> bits_per_byte = entropy.BitsPerByte();
  if (bits_per_byte.ok()) report.bits_per_byte = *bits_per_byte;
  return report;
}

}  // namespace trireme
