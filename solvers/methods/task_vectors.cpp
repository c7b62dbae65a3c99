#include "solvers/methods/task_vectors.h"

#include <c10/util/accumulate.h>

#include "core/error.h"
#include "core/finite.h"
#include "solvers/methods/experts.h"

namespace amalgam {
namespace {

const TensorInfo& info(const MergeInput& input, const std::string& name) {
  return input.experts.front().tensors->infos().at(name);
}

at::Tensor change_of(const ExpertInput& expert, const at::Tensor& base, const std::string& name) {
  const at::Tensor change = read_parameter(*expert.tensors, name, base.device()) - base;
  require_input(all_finite(change),
                "parameter '{}': the expert of task '{}' or the base holds a value that is not finite; give a model "
                "without such values, or leave the parameter out with `except`",
                name, expert.task);
  return change;
}

at::Tensor read_base(const MergeInput& input, const std::string& name) {
  TORCH_CHECK(input.base != nullptr, "changes from the base without a base");
  return read_parameter(*input.base, name, input.device);
}

}  // namespace

at::Tensor task_vector(const TensorSource& base, const ExpertInput& expert, const std::string& name,
                       at::Device device) {
  return change_of(expert, read_parameter(base, name, device), name);
}

std::vector<at::Tensor> task_vectors(const MergeInput& input, const std::string& name) {
  const at::Tensor base = read_base(input, name);
  std::vector<at::Tensor> changes;
  for (const ExpertInput& expert : input.experts) changes.push_back(change_of(expert, base, name));
  return changes;
}

HeardVectors heard_task_vectors(const MergeInput& input, const std::string& name) {
  const at::Tensor base = read_base(input, name);
  HeardVectors heard;
  for (const ExpertInput& expert : heard_experts(input)) {
    heard.changes.push_back(change_of(expert, base, name));
    heard.weights.push_back(expert.weight);
  }
  return heard;
}

std::vector<std::string> merged_parameters(const MergeMethod& method, const MergeInput& input) {
  std::vector<std::string> names;
  for (const std::string& name : input.parameters)
    if (method.selects(name) && at::isFloatingType(info(input, name).dtype)) names.push_back(name);
  return names;
}

int64_t count_elements(const MergeInput& input, const std::vector<std::string>& names) {
  int64_t count = 0;
  for (const std::string& name : names) count += c10::multiply_integers(info(input, name).shape);
  return count;
}

}  // namespace amalgam
