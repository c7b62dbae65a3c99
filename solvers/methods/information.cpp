#include "solvers/methods/information.h"

#include <algorithm>

#include "core/error.h"
#include "solvers/check.h"

namespace amalgam {

at::Tensor information(const Statistics& statistics, const std::string& whose, const TensorInfo& parameter,
                       const std::string& name, at::Device device) {
  const at::Tensor mean = statistics.squared_gradient(name).to(device);
  require_input(mean.sizes() == at::IntArrayRef(parameter.shape),
                "statistics of {}: {}/squared_gradient is no match for the parameter, which is {}; collect the "
                "statistics of this model again",
                whose, name, describe(parameter));
  check_finite_statistic(mean, fmt::format("statistics of {}: {}/squared_gradient", whose, name));
  return mean;
}

at::Tensor floored_information(const ExpertInput& expert, const std::string& name, double floor, at::Device device) {
  const at::Tensor mean = information(*expert.statistics, fmt::format("task '{}'", expert.task),
                                      expert.tensors->infos().at(name), name, device);
  return at::maximum(mean, mean.mean() * floor);
}

bool anyone_knows(const MergeInput& input, const std::string& name) {
  return std::any_of(input.experts.begin(), input.experts.end(), [&](const ExpertInput& expert) {
    return expert.weight > 0 && expert.statistics->sums().get(name + "/squared_gradient").any().item<bool>();
  });
}

}  // namespace amalgam
