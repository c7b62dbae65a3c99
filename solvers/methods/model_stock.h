#pragma once

#include "solvers/methods/method.h"

namespace amalgam {

/// θ0 + t (θ̄ − θ0) parameter by parameter, θ̄ the weighted mean of the experts: the point nearest to the centre of the
/// shell that fine-tuned models of one angle lie on,
///   t = M c / (1 + (M − 1) c), clamped to [0, 1],
/// c the mean cosine between the changes d_i, d_j of two experts, over all pairs of the M that have a say. A change
/// that is zero has cosine 0 with all. Cosines and t are float64.
/// @source Jang, Yun & Han 2024 (Model Stock), which has one angle a layer; of more than two experts the mean of the
///         pairs' cosines, as in mergekit. Neither clamps: c < 0 would step away from the experts. mergekit's norms are
///         sums in float32, too small for tensors of millions of elements, and its t too large
class ModelStock final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;
};

/// t of the mean cosine c between M changes.
double stock_ratio(double cosine, size_t experts);

}  // namespace amalgam
