// The products that frame a token mixer: from the stream to rows that belong to heads, cut over the
// tensor axis, and from the heads back onto the stream.
#pragma once

#include <optional>
#include <vector>

#include "core/module/unit_traffic.h"
#include "parallel/layers/tensor_axis.h"

namespace trireme {

// INVALID_ARGUMENT unless every rank can have equally many of `heads`, and of `key_heads`, which
// divide them, equally many or one that it has in common with neighbours. `component` opens the
// message.
Status CheckHeadCut(absl::string_view component, const TensorAxis& axis, int64_t heads,
                    int64_t key_heads);

// `expand` times `width` channels shared by `heads`. INVALID_ARGUMENT when they do not divide it;
// `key` names the parameter that gave `expand`.
StatusOr<int64_t> HeadWidth(absl::string_view component, absl::string_view key, double expand,
                            int64_t width, int64_t heads);

class HeadProjections {
 public:
  HeadProjections(const TensorAxis& axis, const Scope& scope, int64_t stream_width);

  // Weight `name` [heads * width, stream], each rank with the rows of its heads (see
  // TensorAxis::DeclareHeads). With one head every rank has all rows.
  void AddHeads(absl::string_view name, int64_t heads, int64_t width, Init init);
  // Weight "wo" [stream, heads * width].
  void SetOutput(int64_t heads, int64_t width, Init init);

  // Of the stream, whose rows are n in all: with each weight in order of declaration, [n, rows of
  // this rank].
  std::vector<Tensor> In(const Tensor& stream, int64_t n) const;
  // The same when each weight has an input of its own, made of what `TensorAxis::FromStream` gives.
  Tensor In(int weight, const Tensor& x) const;
  // Onto the stream, from [n, channels of this rank].
  Tensor Out(const Tensor& y) const;

  void AddTrafficIn(UnitTraffic* traffic) const;
  void AddTrafficOut(UnitTraffic* traffic) const;
  // Of a forward pass over one token.
  double Flops() const;

 private:
  const TensorAxis axis_;
  const Scope scope_;
  const int64_t stream_width_;
  std::vector<const Parameter*> weights_;
  const Parameter* out_ = nullptr;
};

// The second half of a product of low rank: y = x up^T + bias, from [n, rank] on every rank to the
// channels of its heads. Parameters NAME_up [heads * width, rank] and NAME_bias [heads * width].
class LowRankUp {
 public:
  LowRankUp(const TensorAxis& axis, const Scope& scope, absl::string_view name, int64_t rank,
            int64_t heads, int64_t width, Init init, std::optional<Init> bias);

  Tensor operator()(const Tensor& x) const;
  double Flops() const { return 2.0 * up_->spec.global.numel(); }

 private:
  const Parameter* up_;
  const Parameter* bias_ = nullptr;
};

// [n, heads * width] as [n, heads, width], and back.
Tensor SplitHeads(const Tensor& x, int64_t width);
Tensor JoinHeads(const Tensor& x);

}  // namespace trireme
