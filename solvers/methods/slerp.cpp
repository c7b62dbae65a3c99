#include "solvers/methods/slerp.h"

#include <cmath>

#include "solvers/methods/experts.h"

namespace amalgam {
namespace {

const RegisterMethod<Slerp> registered("slerp", "spherical interpolation between two experts, tensor by tensor",
                                       "Shoemake 1985; mergekit");

constexpr double kNearlyParallel = 0.9995;  // |cos φ|, mergekit's

}  // namespace

at::Tensor slerp(const at::Tensor& a, const at::Tensor& b, double t) {
  const at::Tensor flat_a = a.flatten().to(at::kDouble), flat_b = b.flatten().to(at::kDouble);
  const double norms = flat_a.norm().item<double>() * flat_b.norm().item<double>();
  const double cosine = norms > 0 ? flat_a.dot(flat_b).item<double>() / norms : 1.0;
  if (std::abs(cosine) > kNearlyParallel) return a * (1 - t) + b * t;
  const double angle = std::acos(cosine), part = angle * t;
  return a * (std::sin(angle - part) / std::sin(angle)) + b * (std::sin(part) / std::sin(angle));
}

MethodRequirements Slerp::requirements() const { return {.least_experts = 2, .most_experts = 2}; }

void Slerp::declare_options(OptionSet& set) {
  set.real("t", t_, {0, 1}, "where between the first task (0) and the second (1)");
}

at::Tensor Slerp::merge_parameter(const MergeInput& input, const std::string& name) {
  const auto experts = heard_experts(input);
  const double first = experts[0].weight * (1 - t_), second = experts[1].weight * t_;
  return slerp(read_parameter(*experts[0].tensors, name, input.device),
               read_parameter(*experts[1].tensors, name, input.device), second / (first + second));
}

}  // namespace amalgam
