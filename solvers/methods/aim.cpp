#include "solvers/methods/aim.h"

#include <fmt/format.h>

#include "solvers/check.h"
#include "solvers/methods/experts.h"

namespace amalgam {
namespace {

const RegisterMethod<Aim> registered("aim", "another method, its changes held back where inputs are large",
                                     "Nobari et al. 2025 (AIM)");

/// E x² of a layer's inputs, without the bias's: float64 [groups, in/groups · kernel].
/// @param whose  "task 'left'", "the base": for messages
at::Tensor mean_squares(const Statistics& statistics, const std::string& whose, const Layer& layer) {
  const at::Tensor squares = statistics.input_gram(layer).diagonal(0, -2, -1).slice(-1, 0, layer.in);
  check_finite_statistic(squares,
                         fmt::format("statistics of {}, layer '{}': the input Gram matrix", whose, layer.name));
  return squares;
}

}  // namespace

void Aim::declare_options(OptionSet& set) {
  set.real("omega", omega_, {0, 1},
           "share of the change that the layer's largest input keeps, ω; 1: nothing is held back");
  declare_inner(set, "the method whose changes are held back");
}

void Aim::configure(const std::string& where) {
  InnerMethod::configure(where);
  refuse_running(where, "with nothing held back");
}

MethodRequirements Aim::requirements() const {
  MethodRequirements requirements = InnerMethod::requirements();
  requirements.base = true;
  requirements.base_statistics = true;
  requirements.statistics.insert(StatisticKind::kInputGram);
  return requirements;
}

void Aim::plan(const MergeInput& input) {
  selected_ = selected(input);
  inner().plan(selected_);
}

GroupResult Aim::merge_group(const MergeInput& /*input*/, const MergeGroup& group, const Checkpoint& checkpoint) {
  GroupResult result = inner().merge_group(selected_, group, checkpoint);
  for (size_t i = 0; i < result.matrices.size(); ++i)
    result.matrices[i] = held_back(selected_, group.layers[i], result.matrices[i]);
  for (auto& [name, merged] : result.merged) merged = held_back(selected_, name, merged);
  return result;
}

/// 1 − (1 − ω) a / max a of the layer's columns, float64 [groups, 1, columns]; nothing where its inputs are not known,
/// or never were anything but zero.
std::optional<at::Tensor> Aim::shares(const MergeInput& input, const LayerMatrix& matrix) const {
  const Layer& layer = matrix.layer();
  at::Tensor squares;
  if (input.base_statistics != nullptr && input.base_statistics->has_input_gram(layer)) {
    squares = mean_squares(*input.base_statistics, "the base", layer);
  } else {
    for (const ExpertInput& expert : heard_experts(input)) {
      if (!expert.statistics->has_input_gram(layer)) return std::nullopt;
      const at::Tensor own = mean_squares(*expert.statistics, fmt::format("task '{}'", expert.task), layer);
      squares = squares.defined() ? squares + own : own;
    }
  }
  const at::Tensor size = squares.clamp_min(0).sqrt(), largest = size.max();
  if (!(largest.item<double>() > 0)) return std::nullopt;
  at::Tensor shares = 1 - size / largest * (1 - omega_);
  if (matrix.with_bias()) shares = at::cat({shares, at::ones({matrix.groups(), 1}, shares.options())}, 1);
  return shares.unsqueeze(1).to(input.device);
}

/// Of a layer's matrices [groups, rows, columns].
at::Tensor Aim::held_back(const MergeInput& input, const LayerMatrix& layer, const at::Tensor& merged) const {
  const auto of_columns = shares(input, layer);
  if (!of_columns) return merged;
  const at::Tensor base = layer.gather(*input.base, at::TensorOptions(input.device).dtype(at::kDouble));
  return base + (merged.to(at::kDouble) - base) * *of_columns;
}

/// Of a parameter, in the layers that have it as their weight, or rows of it.
at::Tensor Aim::held_back(const MergeInput& input, const std::string& parameter, const at::Tensor& merged) const {
  const at::Tensor exact = merged.to(input.device, at::kDouble);  // merged in pieces it lies on the CPU
  NamedTensors held = {{parameter, exact.clone()}};
  for (const Layer& layer : input.layers.layers) {
    if (layer.weight != parameter || (layer.kind != LayerKind::kLinear && layer.kind != LayerKind::kConvolution))
      continue;
    const LayerMatrix matrix(layer, /*with_bias=*/false);
    matrix.scatter(held_back(input, matrix, matrix.gather([&](const std::string&) { return exact; })), held);
  }
  return held.at(parameter);
}

}  // namespace amalgam
