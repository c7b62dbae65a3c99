#include "solvers/methods/layer_factors.h"

#include <fmt/format.h>

#include "core/error.h"
#include "solvers/check.h"

namespace amalgam {
namespace {

/// [groups, n, n] of which the first `size` rows and columns are kept.
at::Tensor checked_factor(const at::Tensor& factor, int64_t size, const char* what, const ExpertInput& expert,
                          const LayerMatrix& layer, at::Device device) {
  require_input(
      factor.dim() == 3 && factor.size(0) == layer.groups() && factor.size(1) >= size &&
          factor.size(2) == factor.size(1),
      "statistics of task '{}', layer '{}': the {} is no match for the layer, which needs {} matrices of size "
      "{}; collect the statistics of this expert again",
      expert.task, layer.layer().name, what, layer.groups(), size);
  check_finite_statistic(
      factor, fmt::format("statistics of task '{}', layer '{}': the {}", expert.task, layer.layer().name, what));
  return factor.slice(1, 0, size).slice(2, 0, size).to(device);
}

}  // namespace

void scale_off_diagonal(at::Tensor& matrices, double lambda) {
  const at::Tensor diagonal = matrices.diagonal(0, -2, -1).clone();
  matrices.mul_(lambda);
  matrices.diagonal(0, -2, -1).copy_(diagonal);
}

at::Tensor input_factor(const ExpertInput& expert, const LayerMatrix& layer, at::Device device, KroneckerForm form) {
  return checked_factor(expert.statistics->input_gram(layer.layer(), form), layer.columns(), "input Gram matrix",
                        expert, layer, device);
}

at::Tensor output_factor(const ExpertInput& expert, const LayerMatrix& layer, at::Device device, KroneckerForm form) {
  return checked_factor(expert.statistics->output_gram(layer.layer(), form), layer.rows(),
                        "output gradients' Gram matrix", expert, layer, device);
}

at::Tensor summed_fisher(const ExpertInput& expert, const LayerMatrix& layer, at::Device device) {
  const at::Tensor fisher =
      layer.gather([&](const std::string& parameter) { return expert.statistics->squared_gradient(parameter); });
  return fisher.sum({1, 2}).to(device);
}

}  // namespace amalgam
