// A sink that keeps gradients by leaf and the order of what reached it.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "core/autograd/gradient_sink.h"

namespace trireme::testing {

class RecordingSink : public GradientSink {
 public:
  // Leaves are named in the order of `leaves`: "g0" is a gradient of the first.
  explicit RecordingSink(std::vector<Tensor> leaves) : leaves_(std::move(leaves)) {
    grads_.resize(leaves_.size());
  }

  Slot Open(const Tensor& leaf) override {
    for (size_t i = 0; i < leaves_.size(); ++i) {
      if (leaves_[i].impl() != leaf.impl()) continue;
      events_.push_back(absl::StrCat("g", i));
      const bool fresh = !grads_[i].defined();
      // Garbage that shows when it is added to.
      if (fresh) {
        grads_[i] = Tensor::Full(leaf.device(), leaf.shape(), AccumulationType(leaf.dtype()), 1e30);
      }
      return {grads_[i], fresh};
    }
    events_.push_back("unknown leaf");
    return {};
  }

  const std::vector<std::string>& events() const { return events_; }
  std::vector<double> grad(int i) const { return grads_[i].ToVector(); }
  std::vector<std::vector<double>> grads() const {
    std::vector<std::vector<double>> values;
    for (const Tensor& grad : grads_) {
      values.push_back(grad.defined() ? grad.ToVector() : std::vector<double>());
    }
    return values;
  }

 private:
  std::vector<Tensor> leaves_;
  std::vector<Tensor> grads_;
  std::vector<std::string> events_;
};

}  // namespace trireme::testing
