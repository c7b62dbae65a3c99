#include "solvers/search/task_vector_sum.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "solvers/merge_outcome.h"
#include "solvers/methods/block_names.h"
#include "solvers/methods/experts.h"
#include "solvers/methods/task_vectors.h"

namespace amalgam {
namespace {

std::string group_of(const std::string& name, const std::string& grouping) {
  if (grouping == "model") return "model";
  if (grouping == "parameter") return name;
  const std::string prefix = numbered_prefix(name);
  if (!prefix.empty()) return prefix;
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? name : name.substr(0, dot + 1);
}

}  // namespace

const std::vector<std::string>& TaskVectorSum::groupings() {
  static const std::vector<std::string> names = {"parameter", "block", "model"};
  return names;
}

std::vector<std::string> summed_parameters(const MergeInput& input, const MergeMethod& method) {
  std::vector<std::string> names = merged_parameters(method, input);
  require_input(!names.empty(), "method '{}': its `apply_to` and `except` leave no parameter to merge", method.name());
  return names;
}

NamedTensors tensors_left_aside(const MergeInput& input, const std::vector<std::string>& summed) {
  const std::set<std::string> own(summed.begin(), summed.end());
  NamedTensors rest;
  for (const auto* others : {&input.parameters, &input.buffers})
    for (const std::string& name : *others) {
      if (own.contains(name)) continue;
      const at::ScalarType dtype = input.experts.front().tensors->infos().at(name).dtype;
      rest[name] = value_without_method(input, name).to(dtype);
    }
  return rest;
}

TaskVectorSum::TaskVectorSum(const MergeInput& input, const MergeMethod& method, const std::string& grouping)
    : names_(summed_parameters(input, method)), rest_(tensors_left_aside(input, names_)), device_(input.device) {
  for (const ExpertInput& expert : heard_experts(input)) {
    tasks_.push_back(expert.task);
    weights_.push_back(expert.weight);
  }
  for (const std::string& name : names_) add(input, name, group_of(name, grouping));
}

void TaskVectorSum::add(const MergeInput& input, const std::string& name, const std::string& group) {
  const auto known = std::find(groups_.begin(), groups_.end(), group);
  Part& part = parts_[name];
  part.group = known - groups_.begin();
  if (known == groups_.end()) groups_.push_back(group);
  part.stored = input.base->infos().at(name);
  part.base = read_parameter(*input.base, name, device_).flatten();
  std::vector<at::Tensor> changes;
  for (const at::Tensor& change : heard_task_vectors(input, name).changes) changes.push_back(change.flatten());
  part.changes = at::stack(changes);
}

void TaskVectorSum::scale_changes(const std::string& name, const at::Tensor& factor) {
  Part& part = parts_.at(name);
  part.changes.mul_(factor.to(part.changes.options()).reshape({1, -1}));
}

at::Tensor TaskVectorSum::uniform(double scale) const {
  const at::Tensor row = at::tensor(weights_, at::kDouble) * scale;
  return row.repeat({static_cast<int64_t>(groups_.size()), 1});
}

at::Tensor TaskVectorSum::parameter(const std::string& name, const at::Tensor& coefficients) const {
  const Part& part = parts_.at(name);
  const at::Tensor own = coefficients[part.group].to(part.base.options());
  return (part.base + own.matmul(part.changes)).reshape(part.stored.shape);
}

NamedTensors TaskVectorSum::model(const at::Tensor& coefficients) const {
  NamedTensors model = rest_;
  for (const auto& [name, part] : parts_) model[name] = parameter(name, coefficients).to(part.stored.dtype);
  return model;
}

void TaskVectorSum::describe(const at::Tensor& coefficients, SearchReport& report) const {
  report.groups = groups_;
  report.tasks = tasks_;
  report.coefficients.clear();
  for (int64_t g = 0; g < coefficients.size(0); ++g) {
    std::vector<double>& row = report.coefficients.emplace_back();
    for (int64_t m = 0; m < coefficients.size(1); ++m) row.push_back(coefficients[g][m].item<double>());
  }
}

at::Tensor TaskVectorSum::slopes(const NamedTensors& gradient) const {
  at::Tensor slopes = at::zeros({static_cast<int64_t>(groups_.size()), static_cast<int64_t>(tasks_.size())},
                                at::TensorOptions(device_).dtype(at::kDouble));
  for (const auto& [name, part] : parts_) {
    const at::Tensor own = gradient.at(name).flatten().to(part.base.options());
    slopes[part.group] += (part.changes * own).sum({1}, /*keepdim=*/false, at::kDouble);
  }
  return slopes.cpu();
}

}  // namespace amalgam
