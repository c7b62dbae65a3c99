#include "solvers/methods/average.h"

#include <algorithm>

#include "solvers/methods/pieces.h"

namespace amalgam {
namespace {

const RegisterMethod<Average> registered("average", "the weighted mean of the experts",
                                         "McMahan et al. 2017; Wortsman et al. 2022 (model soups)");

}  // namespace

WeightedMean::WeightedMean(std::vector<double> weights) : weights_(std::move(weights)) {
  TORCH_CHECK(!weights_.empty(), "a mean of no experts");
  for (double& weight : weights_) weight = std::max(weight, 0.0);
  if (std::all_of(weights_.begin(), weights_.end(), [](double weight) { return weight == 0.0; }))
    std::fill(weights_.begin(), weights_.end(), 1.0);
}

at::Tensor WeightedMean::operator()(const std::function<at::Tensor(size_t expert)>& tensors) const {
  at::Tensor mean;
  double total = 0.0;
  for (size_t expert = 0; expert < weights_.size(); ++expert) {
    if (weights_[expert] == 0.0) continue;
    total += weights_[expert];
    const at::Tensor tensor = tensors(expert);
    mean = mean.defined() ? mean.lerp_(tensor, weights_[expert] / total) : tensor.clone();
  }
  return mean;
}

WeightedMean mean_of_experts(const MergeInput& input) {
  std::vector<double> weights;
  for (const ExpertInput& expert : input.experts) weights.push_back(expert.weight);
  return WeightedMean(std::move(weights));
}

at::Tensor average_parameter(const MergeInput& input, const std::string& name) {
  return mean_of_experts(input)(
      [&](size_t expert) { return read_parameter(*input.experts[expert].tensors, name, input.device); });
}

at::Tensor average_in_pieces(const MergeInput& input, const std::string& name) {
  return merge_in_pieces(input, name, [&](const MergeInput& piece, int64_t) { return average_parameter(piece, name); });
}

at::Tensor Average::merge_parameter(const MergeInput& input, const std::string& name) {
  return average_in_pieces(input, name);
}

}  // namespace amalgam
