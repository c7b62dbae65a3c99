#include "solvers/check.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/low_rank.h"

namespace amalgam {
namespace {

constexpr size_t kShownDifferences = 5;

/// What of `names` differs between a source and the first expert, one text each.
void compare(const TensorSource& first, const std::string& first_name, const TensorSource& other,
             const std::string& other_name, const std::vector<std::string>& names,
             std::vector<std::string>& differences) {
  for (const std::string& name : names) {
    const auto here = first.infos().find(name), there = other.infos().find(name);
    const bool has = here != first.infos().end(), other_has = there != other.infos().end();
    if (has && other_has && here->second == there->second) continue;
    differences.push_back(fmt::format("{}: {} in {}, {} in {}", name, has ? describe(here->second) : "missing",
                                      first_name, other_has ? describe(there->second) : "missing", other_name));
  }
}

}  // namespace

void check_experts(const MergeInput& input) {
  require_input(!input.experts.empty(), "there is no expert to merge: give at least one task");
  std::vector<std::string> names = input.parameters, differences;
  names.insert(names.end(), input.buffers.begin(), input.buffers.end());
  const ExpertInput& first = input.experts.front();
  const std::string first_name = "expert '" + first.task + "'";
  for (size_t i = 0; i < input.experts.size(); ++i)  // the first one with itself: for what it lacks
    compare(*first.tensors, first_name, *input.experts[i].tensors, "expert '" + input.experts[i].task + "'", names,
            differences);
  if (input.base != nullptr) compare(*first.tensors, first_name, *input.base, "the base", names, differences);
  if (differences.empty()) return;
  std::string text = fmt::format("the experts cannot be merged: {} parameter{} differ in name, shape or dtype",
                                 differences.size(), differences.size() == 1 ? "" : "s");
  for (size_t i = 0; i < std::min(differences.size(), kShownDifferences); ++i) text += "\n  " + differences[i];
  if (differences.size() > kShownDifferences)
    text += fmt::format("\n  … and {} more", differences.size() - kShownDifferences);
  throw InputError(text + "\nFine-tune all experts from one base, or list what belongs to a task under `private`.");
}

void check_statistics(const Statistics& statistics, const std::string& expert_digest, const std::string& task) {
  const std::string& theirs = statistics.header().expert_digest;
  require_input(theirs == expert_digest,
                "the statistics of task '{}' belong to another expert: they were collected from {}, the expert is {}; "
                "collect them again with `amalgam collect`",
                task, theirs, expert_digest);
}

void check_base_statistics(const Statistics& statistics, const std::string& base_digest) {
  const StatisticsHeader& header = statistics.header();
  require_input(header.expert_digest == base_digest,
                "base.statistics: they belong to another model: they were collected from {}, the base is {}; collect "
                "them with a recipe whose only task has the base as its expert",
                header.expert_digest, base_digest);
  const StatisticKind gradients = StatisticKind::kSquaredGradient, inputs = StatisticKind::kInputGram;
  require_input(header.kinds.contains(gradients) || header.kinds.contains(inputs),
                "base.statistics: they hold neither the statistic '{}' (for gradient_matching) nor '{}' (for aim); add "
                "one to `statistics.kinds` and collect them again",
                name_of(gradients), name_of(inputs));
}

void check_weights(const MergeMethod& method, const std::vector<ExpertInput>& experts) {
  const MethodRequirements requirements = method.requirements();
  require_input(std::ssize(experts) >= requirements.least_experts,
                "method '{}' merges at least {} experts, and there {} only {}", method.name(),
                requirements.least_experts, experts.size() == 1 ? "is" : "are", experts.size());
  if (requirements.negative_weights) return;
  for (const ExpertInput& expert : experts)
    require_input(expert.weight >= 0,
                  "the weight of task '{}' is {}: method '{}' takes no negative weight; "
                  "task_arithmetic does",
                  expert.task, expert.weight, method.name());
  const auto heard = std::ranges::count_if(experts, [](const ExpertInput& expert) { return expert.weight > 0; });
  require_input(heard > 0, "every task's weight is 0: give at least one task a positive weight");
  require_input(heard >= requirements.least_experts,
                "method '{}' merges at least {} experts, and only {} of the tasks {} a positive weight", method.name(),
                requirements.least_experts, heard, heard == 1 ? "has" : "have");
  require_input(requirements.most_experts == 0 || heard <= requirements.most_experts,
                "method '{}' with these options merges at most {} experts, and {} tasks have a positive weight{}",
                method.name(), requirements.most_experts, heard, method.name() == "mats" ? "; take `solver: cg`" : "");
}

void check_finite_statistic(const at::Tensor& statistic, const std::string& what) {
  require_input(
      statistic.isfinite().all().item<bool>(),
      "{} holds a value that is not finite; collect the statistics again, and look for values that overflow in "
      "the model's outputs or loss",
      what);
}

void check_adapters(const MergeMethod& method, const MergeInput& input) {
  if (!method.requirements().adapters) return;
  for (const ExpertInput& expert : input.experts)
    require_input(expert.adapter != nullptr,
                  "method '{}' merges the factors of low-rank adapters, and the expert of task '{}' has none: train it "
                  "with `expert.train.adapter`, or give a folder of PEFT as `expert.adapter`",
                  method.name(), expert.task);
  const ExpertInput& first = input.experts.front();
  for (const ExpertInput& expert : input.experts)
    for (const auto& [one, other] : {std::pair{&first, &expert}, std::pair{&expert, &first}})
      for (const std::string& weight : adapted_weights(*one->adapter))
        require_input(
            other->adapter->contains(down_name(weight)),
            "method '{}': the adapter of task '{}' changes '{}', and that of task '{}' does not; merge adapters "
            "of the same targets, or take a method that merges whole weights",
            method.name(), one->task, weight, other->task);
}

void check_requirements(const MergeMethod& method, const MergeInput& input) {
  require_input(!input.experts.empty(), "there is no expert to merge: give at least one task");
  const MethodRequirements requirements = method.requirements();
  require_input(!requirements.base || input.base != nullptr,
                "method '{}' (or its start) needs the base that the experts were fine-tuned from; give the base: "
                "`base.model` in a recipe, `--base` on the command line{}",
                method.name(), method.name() == "mats" ? ", or start it from `average`" : "");
  require_input(!requirements.runs_models() || input.probe != nullptr,
                "method '{}' runs the models while it merges, and there is nothing to run them with: merge by a recipe "
                "(`amalgam merge`), or hand in a ModelProbe (`MergeInput::probe`)",
                method.name());
  check_weights(method, input.experts);
  check_adapters(method, input);
  for (const ExpertInput& expert : input.experts)
    for (const StatisticKind kind : requirements.statistics) {
      require_input(expert.statistics != nullptr,
                    "method '{}' needs the statistic '{}' of every task, and task '{}' has no "
                    "statistics; collect them with `amalgam collect`",
                    method.name(), name_of(kind), expert.task);
      require_input(expert.statistics->header().kinds.contains(kind),
                    "method '{}' needs the statistic '{}', which the statistics of task '{}' do not hold; add '{}' to "
                    "`statistics.kinds` and collect them again",
                    method.name(), name_of(kind), expert.task, name_of(kind));
    }
}

}  // namespace amalgam
