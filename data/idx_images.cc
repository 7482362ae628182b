#include "data/idx_images.h"

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "data/idx.h"
#include "data/token_corpus.h"

namespace trireme {
namespace {

// Images of a pair of files.
struct LabelledImages {
  std::vector<int64_t> image_dims;
  int64_t num_images = 0, num_pixels = 0;  // Pixels of one image.
  std::string pixels, labels;

  absl::string_view image(int64_t i) const {
    return absl::string_view(pixels).substr(i * num_pixels, num_pixels);
  }
};

StatusOr<LabelledImages> ReadLabelledImages(const std::string& image_path,
                                            const std::string& label_path, int64_t num_classes) {
  ASSIGN_OR_RETURN(IdxArray images, ReadIdx(image_path));
  ASSIGN_OR_RETURN(IdxArray labels, ReadIdx(label_path));
  if (images.dims.size() < 2 || images.dims.size() > kMaxRank || labels.dims.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(image_path, " has ", images.dims.size(), " dimensions and ", label_path,
                     " has ", labels.dims.size(), "; expected 2 to ", kMaxRank, " and 1"));
  }
  if (images.dims[0] != labels.dims[0] || images.values.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(image_path, " holds [", absl::StrJoin(images.dims, ", "), "] pixels and ",
                     label_path, " ", labels.dims[0], " labels"));
  }
  for (size_t i = 0; i < labels.values.size(); ++i) {
    const int label = static_cast<uint8_t>(labels.values[i]);
    if (label >= num_classes) {
      return absl::InvalidArgumentError(absl::StrCat(label_path, ": label ", label, " of image ", i,
                                                     " is not below num_classes = ", num_classes));
    }
  }
  LabelledImages result;
  result.image_dims.assign(images.dims.begin() + 1, images.dims.end());
  result.num_images = images.dims[0];
  result.num_pixels = images.values.size() / images.dims[0];
  result.pixels = std::move(images.values);
  result.labels = std::move(labels.values);
  return result;
}

class IdxImages final : public Dataset {
 public:
  IdxImages(std::vector<LabelledImages> images, std::vector<int64_t> train,
            std::vector<int64_t> validation, int64_t num_classes)
      : images_(std::move(images)),
        train_(std::move(train)),
        validation_(std::move(validation)),
        num_classes_(num_classes) {}

  int64_t num_samples(Split split) const override { return samples(split).size(); }
  int64_t num_classes() const override { return num_classes_; }
  bool is_text() const override { return false; }
  bool has_accuracy() const override { return true; }
  Shape feature_shape() const override { return Shape(images_.front().image_dims); }

  uint64_t fingerprint() const override {
    uint64_t hash = StableHash("images", train_.size());
    for (const LabelledImages& images : images_) {
      hash = StableHash(images.labels, StableHash(images.pixels, hash));
    }
    return hash;
  }

  Status Fill(Split split, absl::Span<const SampleRef> refs, HostBatch* batch) const override {
    *batch = HostBatch();
    batch->feature_shape = feature_shape();
    const LabelledImages& images = split == Split::kTrain ? images_.front() : images_.back();
    batch->features.reserve(refs.size() * images.num_pixels);
    for (const SampleRef& ref : refs) {
      CHECK(ref.index >= 0 && ref.index < num_samples(split))
          << "sample " << ref.index << " of " << num_samples(split);
      const int64_t i = samples(split)[ref.index];
      for (const char pixel : images.image(i)) {
        batch->features.push_back(static_cast<uint8_t>(pixel) / 255.0f);
      }
      batch->labels.push_back(static_cast<uint8_t>(images.labels[i]));
      batch->segments.push_back({ref.sample, 0, 1});
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<int64_t>& samples(Split split) const {
    return split == Split::kTrain ? train_ : validation_;
  }

  std::vector<LabelledImages> images_;  // One, or one for each split.
  std::vector<int64_t> train_, validation_;
  int64_t num_classes_;
};

}  // namespace

StatusOr<std::unique_ptr<Dataset>> MakeIdxImages(const Params& params, const DatasetContext&) {
  const std::string& validation_images = params.String("validation_images");
  const std::string& validation_labels = params.String("validation_labels");
  const int64_t num_classes = params.Int("num_classes");
  if (validation_images.empty() != validation_labels.empty()) {
    return absl::InvalidArgumentError(
        "idx_images: validation_images and validation_labels go together");
  }
  std::vector<LabelledImages> images(1);
  ASSIGN_OR_RETURN(
      images[0], ReadLabelledImages(params.String("images"), params.String("labels"), num_classes));
  std::vector<int64_t> train, validation;
  if (!validation_images.empty()) {
    ASSIGN_OR_RETURN(LabelledImages held_out,
                     ReadLabelledImages(validation_images, validation_labels, num_classes));
    if (held_out.image_dims != images[0].image_dims) {
      return absl::InvalidArgumentError(
          absl::StrCat("idx_images: images of [", absl::StrJoin(images[0].image_dims, ", "),
                       "] in ", params.String("images"), " and of [",
                       absl::StrJoin(held_out.image_dims, ", "), "] in ", validation_images));
    }
    train.resize(images[0].num_images);
    validation.resize(held_out.num_images);
    std::iota(train.begin(), train.end(), 0);
    std::iota(validation.begin(), validation.end(), 0);
    images.push_back(std::move(held_out));
  } else {
    const double fraction = params.Float("validation_fraction");
    for (int64_t i = 0; i < images[0].num_images; ++i) {
      const bool held_out = DocumentHash(images[0].image(i)) < ValidationThreshold(fraction);
      (held_out ? validation : train).push_back(i);
    }
    if ((fraction < 1 && train.empty()) || (fraction > 0 && validation.empty())) {
      return absl::InvalidArgumentError(
          absl::StrCat("idx_images: validation_fraction = ", fraction, " leaves ", train.size(),
                       " images to train and ", validation.size(), " held out"));
    }
  }
  return std::make_unique<IdxImages>(std::move(images), std::move(train), std::move(validation),
                                     num_classes);
}

}  // namespace trireme
