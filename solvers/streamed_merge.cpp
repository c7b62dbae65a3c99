#include "solvers/streamed_merge.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "solvers/check.h"
#include "solvers/merge_outcome.h"
#include "solvers/methods/task_part_method.h"
#include "solvers/tensor_bytes.h"

namespace amalgam {
namespace {

constexpr double kMegabyte = 1e6;
constexpr double kReadAhead = 256e6;  // bytes, of all models

}  // namespace

StreamedMerge::StreamedMerge(MergeMethod& method, const MergeInput& input, Progress& progress)
    : method_(method), progress_(progress), input_(input) {
  if (const std::string why = why_not_streamed(method); !why.empty())
    throw InputError(fmt::format("method '{}' needs {}: it cannot be merged in a stream", method.name(), why));
  check_requirements(method, input);
  check_experts(input);
  for (const auto* names : {&input.parameters, &input.buffers})
    for (const std::string& name : *names) infos_[name] = input.experts.front().tensors->infos().at(name);
  read_ahead();
  reads_ = std::make_unique<PlanReads>(input_, progress);
  plan();
}

StreamedMerge::~StreamedMerge() = default;

/// In the order of the names, as writers ask for them.
void StreamedMerge::read_ahead() {
  std::vector<std::string> order;
  for (const auto& [name, info] : infos_) order.push_back(name);
  std::vector<const TensorSource*> sources;
  if (method_.requirements().base) sources.push_back(input_.base);
  for (ExpertInput& expert : input_.experts) {
    sources.push_back(expert.tensors);
    observed_.push_back(
        std::make_unique<ObservedTensors>(*expert.tensors, [this](const std::string& name) { ahead_->reached(name); }));
    expert.tensors = observed_.back().get();
  }
  ahead_ = std::make_unique<ReadAhead>(std::move(sources), std::move(order), kReadAhead);
}

void StreamedMerge::plan() {
  const at::NoGradGuard no_grad;
  reads_->during([this] { method_.plan(input_); });
  Grouping grouping = form_groups(method_, input_);
  for (const MergeGroup& group : grouping.groups) by_method_.insert(group.parameters.begin(), group.parameters.end());
  report_.method = method_.name();
  report_.fallbacks = std::move(grouping.fallbacks);
  report_.merged_parameters = std::ssize(by_method_);
  double total = 0;
  for (const auto& [name, info] : infos_) total += bytes_of(info);
  progress_.begin("merge, MB", static_cast<int64_t>(total / kMegabyte));
}

at::Tensor StreamedMerge::merged(const std::string& name) const {
  if (std::ranges::find(input_.buffers, name) != input_.buffers.end()) return merged_buffer(method_, input_, name);
  if (!by_method_.contains(name)) return value_without_method(input_, name);
  MergeGroup group;
  group.parameters = {name};
  GroupResult result =
      method_.merge_group(input_, group, [&] { progress_.update(static_cast<int64_t>(done_ / kMegabyte), name); });
  check_result(method_, group, result);
  report_.layers.insert(report_.layers.end(), result.reports.begin(), result.reports.end());
  return result.merged.at(name);
}

at::Tensor StreamedMerge::get(const std::string& name) const {
  require_input(infos_.contains(name), "the merge holds no tensor '{}'", name);
  const at::NoGradGuard no_grad;
  const at::Tensor stored = stored_value(method_, input_, name, merged(name));
  check_finite(method_, input_, name, stored);
  done_ += bytes_of(infos_.at(name));
  return stored;
}

std::string why_not_streamed(const MergeMethod& method) {
  const MethodRequirements requirements = method.requirements();
  for (const StatisticKind kind : requirements.statistics)
    return fmt::format("the statistic '{}', which is collected from data", name_of(kind));
  if (requirements.adapters) return "adapters";
  if (requirements.runs_models()) return "the models and examples";
  if (keeps_task_parts(method)) return "to keep a part for each task beside what is merged";
  return requirements.layers ? "to know the model's layers" : "";
}

}  // namespace amalgam
