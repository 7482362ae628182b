#include "parallel/layers/layer_traffic.h"

#include "parallel/layers/vocabulary.h"

namespace trireme {
namespace {

using Kind = RowTransfer::Kind;

}  // namespace

void AddColumnLinear(const TensorAxis& axis, int64_t width, UnitTraffic* traffic) {
  if (axis.size == 1) return;
  if (axis.sharded_stream) {
    traffic->rows.push_back({"stream rows", Kind::kAllGather, false, width});
    traffic->rows.push_back({"stream rows again", Kind::kAllGather, true, width});
    traffic->rows.push_back({"stream gradients", Kind::kReduceScatter, true, width});
  } else {
    traffic->rows.push_back({"stream gradients", Kind::kAllReduce, true, width});
  }
}

void AddFromStream(const TensorAxis& axis, int64_t width, const char* purpose,
                   UnitTraffic* traffic) {
  if (axis.size == 1) return;
  if (axis.sharded_stream) {
    traffic->rows.push_back({purpose, Kind::kAllGather, false, width});
    traffic->rows.push_back({purpose, Kind::kReduceScatter, true, width});
  } else {
    traffic->rows.push_back({purpose, Kind::kAllReduce, true, width});
  }
}

void AddToStream(const TensorAxis& axis, int64_t width, const char* purpose, UnitTraffic* traffic) {
  if (axis.size == 1) return;
  if (axis.sharded_stream) {
    traffic->rows.push_back({purpose, Kind::kReduceScatter, false, width});
    traffic->rows.push_back({purpose, Kind::kAllGather, true, width});
  } else {
    traffic->rows.push_back({purpose, Kind::kAllReduce, false, width});
  }
}

void AddVocabularyCrossEntropy(const TensorAxis& axis, const Parameter& head,
                               UnitTraffic* traffic) {
  if (axis.size == 1) return;
  const int64_t width = head.spec.global[1], chunk = VocabularyChunk(axis, head);
  if (axis.sharded_stream) {
    traffic->rows.push_back({"head rows", Kind::kAllGather, false, width});
    traffic->rows.push_back({"head rows", Kind::kReduceScatter, true, width});
  } else {
    traffic->rows.push_back({"head gradients", Kind::kAllReduce, true, width});
  }
  traffic->rows.push_back({"vocabulary maxima", Kind::kAllReduce, false, 1, true, chunk});
  traffic->rows.push_back({"vocabulary sums", Kind::kAllReduce, false, 2, true, chunk});
}

}  // namespace trireme
