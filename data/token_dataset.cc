#include "data/token_dataset.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/rng.h"

namespace trireme {
namespace {

class TokenDataset final : public Dataset {
 public:
  TokenDataset(std::vector<std::unique_ptr<TokenCorpus>> corpora,
               const TokenDatasetOptions& options)
      : corpora_(std::move(corpora)),
        sequence_length_(options.sequence_length),
        train_(Pointers(), ValidationThreshold(options.validation_fraction), uint64_t{1} << 32),
        validation_(Pointers(), 0, ValidationThreshold(options.validation_fraction)) {}

  const DocumentIndex& index(Split split) const {
    return split == Split::kTrain ? train_ : validation_;
  }

  int64_t num_samples(Split split) const override {
    const int64_t num_pairs = std::max<int64_t>(index(split).num_tokens() - 1, 0);
    const int64_t whole = num_pairs / sequence_length_;
    return split == Split::kTrain ? whole : whole + (num_pairs % sequence_length_ != 0);
  }

  int64_t num_classes() const override { return corpora_.front()->vocabulary_size(); }
  bool is_text() const override { return true; }
  bool has_accuracy() const override { return false; }
  Shape feature_shape() const override { return {}; }

  uint64_t fingerprint() const override {
    uint64_t hash = StableHash("tokens", sequence_length_);
    hash = StableHash("train", hash + train_.num_documents());
    for (const auto& corpus : corpora_) {
      const absl::Span<const DocumentRecord> documents = corpus->documents();
      hash = StableHash({reinterpret_cast<const char*>(documents.data()),
                         documents.size() * sizeof(DocumentRecord)},
                        hash);
    }
    return hash;
  }

  Status Fill(Split split, absl::Span<const SampleRef> samples, HostBatch* batch) const override {
    *batch = HostBatch();
    for (const SampleRef& ref : samples) RETURN_IF_ERROR(Append(split, ref, batch));
    return absl::OkStatus();
  }

 private:
  std::vector<const TokenCorpus*> Pointers() const {
    std::vector<const TokenCorpus*> pointers;
    for (const auto& corpus : corpora_) pointers.push_back(corpus.get());
    return pointers;
  }

  Status Append(Split split, const SampleRef& ref, HostBatch* batch) const;

  std::vector<std::unique_ptr<TokenCorpus>> corpora_;
  int64_t sequence_length_;
  DocumentIndex train_, validation_;
};

Status TokenDataset::Append(Split split, const SampleRef& ref, HostBatch* batch) const {
  CHECK(ref.index >= 0 && ref.index < num_samples(split))
      << "sample " << ref.index << " of " << num_samples(split);
  const DocumentIndex& documents = index(split);
  const int64_t begin = ref.index * sequence_length_;
  const int64_t length = std::min(sequence_length_, documents.num_tokens() - 1 - begin);
  const int64_t packed_begin = batch->tokens.size();
  CHECK_LE(packed_begin + length, std::numeric_limits<int32_t>::max()) << "tokens of one batch";
  batch->segments.push_back({ref.sample, 0, length});
  // The last label has no input, so one token more is read and dropped again below.
  batch->tokens.resize(packed_begin + length + 1);
  batch->labels.resize(packed_begin + length, kIgnoredLabel);
  batch->label_bytes.resize(packed_begin + length, 0);
  int32_t* const tokens = batch->tokens.data() + packed_begin;
  int32_t* const labels = batch->labels.data() + packed_begin;
  int64_t* const label_bytes = batch->label_bytes.data() + packed_begin;

  DocumentIndex::Cursor cursor = documents.Find(begin);
  for (int64_t piece_begin = 0;;) {
    const DocumentRecord& record = documents.record(cursor);
    const int64_t offset = begin + piece_begin - cursor.begin;
    const int64_t piece = std::min<int64_t>(record.num_tokens - offset, length + 1 - piece_begin);
    const int64_t piece_end = piece_begin + piece;
    RETURN_IF_ERROR(documents.corpus(cursor).Read(cursor.token + offset,
                                                  absl::MakeSpan(tokens + piece_begin, piece)));
    std::copy(tokens + piece_begin + 1, tokens + piece_end, labels + piece_begin);
    // The last label may be the first token of a document that has no input.
    const int64_t inputs = std::min(piece_end, length) - piece_begin;
    if (inputs > 0) batch->documents.push_back({ref.sample, piece_begin, inputs});
    for (int64_t i = 0; i + 1 < piece; ++i) {
      label_bytes[piece_begin + i] = BytesOfTokens(record, offset + i + 1, offset + i + 2);
    }
    piece_begin = piece_end;
    if (piece_begin == length + 1) break;
    documents.Next(&cursor);
  }
  batch->tokens.pop_back();
  return absl::OkStatus();
}

Status CheckSplit(absl::string_view name, const TokenDataset& dataset, Split split,
                  int64_t sequence_length) {
  if (dataset.num_samples(split) > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      name, ": the ", SplitName(split), " split has ", dataset.index(split).num_documents(),
      " documents with ", dataset.index(split).num_tokens(), " tokens: no sample of ",
      sequence_length, " + 1; change validation_fraction, or cut the text into smaller documents"));
}

}  // namespace

StatusOr<std::unique_ptr<Dataset>> MakeTokenDataset(
    absl::string_view name, std::vector<std::unique_ptr<TokenCorpus>> corpora,
    const TokenDatasetOptions& options) {
  if (options.sequence_length <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": sequence_length = ", options.sequence_length, " is not positive"));
  }
  CHECK(!corpora.empty());
  for (const auto& corpus : corpora) {
    if (corpus->vocabulary_size() != corpora.front()->vocabulary_size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": files with vocabularies of ", corpora.front()->vocabulary_size(),
                       " and ", corpus->vocabulary_size(), " tokens do not mix"));
    }
  }
  auto dataset = std::make_unique<TokenDataset>(std::move(corpora), options);
  if (options.validation_fraction < 1) {
    RETURN_IF_ERROR(CheckSplit(name, *dataset, Split::kTrain, options.sequence_length));
  }
  if (options.validation_fraction > 0) {
    RETURN_IF_ERROR(CheckSplit(name, *dataset, Split::kValidation, options.sequence_length));
  }
  return dataset;
}

}  // namespace trireme
