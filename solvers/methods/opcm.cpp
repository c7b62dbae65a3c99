#include "solvers/methods/opcm.h"

#include <cmath>

#include "core/error.h"
#include "solvers/methods/experts.h"

namespace amalgam {
namespace {

const RegisterMethod<Opcm> registered("opcm", "one expert after the other, without what overlaps with those before",
                                      "Tang et al. 2025 (OPCM)");

}  // namespace

MethodRequirements Opcm::requirements() const { return {.base = true}; }

void Opcm::declare_options(OptionSet& set) {
  set.real("share", share_, {0, 1}, "of the merged change's singular values: their directions take no more");
}

at::Tensor Opcm::sum_of(const MergeInput& input, const std::string& name, std::vector<double>* squares) const {
  const at::Tensor base = read_parameter(*input.base, name, input.device).to(at::kDouble);
  at::Tensor sum;
  const auto experts = heard_experts(input);
  for (size_t m = 0; m < experts.size(); ++m) {
    const at::Tensor own = read_parameter(*experts[m].tensors, name, input.device).to(at::kDouble);
    const at::Tensor change = (own - base).mul_(experts[m].weight);
    const double square = change.square().sum().item<double>();
    require_input(std::isfinite(square),
                  "'{}' of expert '{}' holds a value that is not finite; mend or retrain that expert", name,
                  experts[m].task);
    if (squares != nullptr) (*squares)[m] += square;
    sum = sum.defined() ? add_change(sum, change, share_) : change;
  }
  return sum;
}

void Opcm::plan(const MergeInput& input) {
  std::vector<double> squares(heard_experts(input).size(), 0.0);
  double sum_square = 0.0;
  for (const std::string& name : input.parameters)
    if (selects(name) && at::isFloatingType(input.base->infos().at(name).dtype))
      sum_square += sum_of(input, name, &squares).square().sum().item<double>();
  state_ = {};
  for (const double square : squares) state_.mean_norm += std::sqrt(square) / static_cast<double>(squares.size());
  state_.experts = std::ssize(squares);
  state_.scale = continual_scale(std::sqrt(sum_square), state_.mean_norm);
}

at::Tensor Opcm::merge_parameter(const MergeInput& input, const std::string& name) {
  const at::Tensor base = read_parameter(*input.base, name, input.device).to(at::kDouble);
  return base + sum_of(input, name, nullptr) / state_.scale;
}

}  // namespace amalgam
