// What training and evaluation read: samples that are cut once and for all, so that any rank count
// and any layout see the same ones. A sample of text is a fixed window of the concatenated
// documents of its split; a sample of images is one image. Documents go to train or validation by a
// hash of their content.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/registry.h"
#include "core/base/status.h"
#include "core/batch.h"

namespace trireme {

enum class Split { kTrain, kValidation };

const char* SplitName(Split split);

// `index` says which sample of the split; `sample` is the global index it goes by in this run,
// which is what Segment::sample and the random numbers of dropout are told. See Sampler.
struct SampleRef {
  int64_t sample = 0;
  int64_t index = 0;
};

// Thread-safe.
class Dataset {
 public:
  virtual ~Dataset() = default;

  // Train: whole windows only, so every sample has the same length. Validation: consecutive windows
  // that hold every token once, the last one as long as it comes. 0 only when validation_fraction
  // says so.
  virtual int64_t num_samples(Split split) const = 0;

  // Vocabulary size, or the number of classes: labels are below it.
  virtual int64_t num_classes() const = 0;
  // Tokens that predict the next one, and not features that have one label each.
  virtual bool is_text() const = 0;
  // Labels are answers, right or wrong: evaluations count the right ones.
  virtual bool has_accuracy() const = 0;
  // Shape of the features of one sample; empty for text.
  virtual Shape feature_shape() const = 0;
  // Changes when the samples do: a resumed run compares it.
  virtual uint64_t fingerprint() const = 0;

  // Replaces *batch by the given samples, one segment each, in this order. CHECKs that each index
  // is in [0, num_samples(split)). DATA_LOSS when a file turns out to be corrupt, naming it and the
  // offset.
  virtual Status Fill(Split split, absl::Span<const SampleRef> samples, HostBatch* batch) const = 0;
};

// What a data set is told besides its own parameters.
struct DatasetContext {
  int64_t sequence_length = 0;  // Tokens of a sample; text only.
};

using DatasetFactory = StatusOr<std::unique_ptr<Dataset>> (*)(const Params&, const DatasetContext&);

absl::Span<const Entry<DatasetFactory>> Datasets();

// NOT_FOUND, INVALID_ARGUMENT or DATA_LOSS for the files; INVALID_ARGUMENT when a split that was
// asked for would have no sample.
StatusOr<std::unique_ptr<Dataset>> MakeDataset(absl::string_view name, const ParamMap& params,
                                               const DatasetContext& context);

// Documents whose hash is below this are validation: a fraction in [0, 1] of all hashes.
uint64_t ValidationThreshold(double fraction);

}  // namespace trireme
