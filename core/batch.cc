#include "core/batch.h"

#include "core/base/log.h"

namespace trireme {

Batch ToDevice(const HostBatch& host, Device& device) {
  Batch batch;
  int64_t n = 0;
  for (const Segment& segment : host.segments) n += segment.length;
  const auto size_of = [](const auto& values) { return static_cast<int64_t>(values.size()); };

  if (host.feature_shape.rank() == 0) {
    CHECK_EQ(size_of(host.tokens), n) << "tokens in the segments of a batch";
    batch.inputs = Tensor::FromHost<int32_t>(device, {n}, host.tokens);
  } else {
    CHECK(host.tokens.empty()) << "a batch has tokens or features, not both";
    Shape shape = {n};
    for (const int64_t dim : host.feature_shape.dims()) shape.Append(dim);
    batch.inputs = Tensor::FromHost<float>(device, shape, host.features);
  }

  CHECK_EQ(size_of(host.labels), n) << "labels in the segments of a batch";
  batch.labels = Tensor::FromHost<int32_t>(device, {n}, host.labels);
  for (const int32_t label : host.labels) batch.num_targets += label != kIgnoredLabel;
  CHECK(host.label_bytes.empty() || size_of(host.label_bytes) == n) << "bytes of each label";
  for (const int64_t bytes : host.label_bytes) batch.num_bytes += bytes;

  std::vector<int64_t> sample;
  std::vector<int32_t> position;
  sample.reserve(n);
  position.reserve(n);
  for (const Segment& segment : host.segments) {
    for (int64_t i = 0; i < segment.length; ++i) {
      sample.push_back(segment.sample);
      position.push_back(static_cast<int32_t>(segment.begin + i));
    }
  }
  batch.layout.segments = host.segments;
  batch.layout.documents = host.documents;
  batch.layout.axis_segments = host.axis_segments;
  if (host.axis_segments.empty()) batch.layout.axis_segments = {host.segments};
  batch.layout.sample = Tensor::FromHost<int64_t>(device, {n}, sample);
  batch.layout.position = Tensor::FromHost<int32_t>(device, {n}, position);
  return batch;
}

}  // namespace trireme
