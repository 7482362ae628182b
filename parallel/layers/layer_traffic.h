// What the layers of this folder say along the tensor axis, for models to add up.
#pragma once

#include "core/module/unit_traffic.h"
#include "parallel/layers/tensor_axis.h"

namespace trireme {

// width: of the stream.
void AddColumnLinear(const TensorAxis& axis, int64_t width, UnitTraffic* traffic);
void AddFromStream(const TensorAxis& axis, int64_t width, const char* purpose,
                   UnitTraffic* traffic);
void AddToStream(const TensorAxis& axis, int64_t width, const char* purpose, UnitTraffic* traffic);
void AddVocabularyCrossEntropy(const TensorAxis& axis, const Parameter& head, UnitTraffic* traffic);

}  // namespace trireme
