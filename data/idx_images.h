// Labelled images in IDX files as a data set: features are the pixels divided by 255.
#pragma once

#include <memory>

#include "data/dataset.h"

namespace trireme {

inline constexpr ParamInfo kIdxImagesParams[] = {
    {"images", ParamType::kString, nullptr,
     "IDX file of unsigned bytes [samples, height, width ...]"},
    {"labels", ParamType::kString, nullptr, "IDX file of unsigned bytes [samples]"},
    {"validation_images", ParamType::kString, "", "the same, held out; with validation_labels"},
    {"validation_labels", ParamType::kString, "", "the same, held out; with validation_images"},
    {"num_classes", ParamType::kInt, "10", "labels are below this", 1, 256},
    {"validation_fraction", ParamType::kFloat, "0.05",
     "share of the images, chosen by a hash of their pixels, that is held out when there are no "
     "validation files",
     0, 1},
};
StatusOr<std::unique_ptr<Dataset>> MakeIdxImages(const Params& params,
                                                 const DatasetContext& context);

}  // namespace trireme
