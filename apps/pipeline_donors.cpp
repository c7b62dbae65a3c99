// Intermediate-task merging: another task's expert merged into a task's own, for every ordered pair.
#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/bootstrap.h"
#include "apps/pipeline.h"
#include "core/error.h"
#include "models/metric.h"

namespace amalgam {

using nlohmann::json;

json Pipeline::donor_inputs(const DonorRow& row, size_t target, size_t donor) {
  json inputs = method_inputs(row.merge, {target, donor});
  inputs.update({{"weights", row.weights},
                 {"split", reported_split()},
                 {"examples", recipe_.evaluate.examples},
                 {"metric", recipe_.tasks[target].metric},
                 {"output", recipe_.tasks[target].output},
                 {"val_data", dataset(target, Split::kVal).digest()},
                 {"data", dataset(target, split_from_name(reported_split())).digest()}});
  return inputs;
}

/// Merges with each weight, takes the best on `val`, and scores that.
/// @param expert  what the task's own expert says; null where the metric is no accuracy
json Pipeline::score_donor(const DonorRow& row, size_t target, size_t donor, const RightTargets* expert) {
  const auto method = make_method(row.merge.method, row.merge.options, "donors." + row.merge.name);
  MergeInput input = merge_input(*method, row.merge, all_tasks());
  const auto& metric = find_metric(recipe_.tasks[target].metric);
  SilentProgress silent;
  json tried = json::array();
  double best = std::numeric_limits<double>::quiet_NaN(), chosen = 0;
  MergeOutcome merged;
  const std::vector<ExpertInput> all = input.experts;
  for (const double weight : row.weights) {
    input.experts = {all[target], all[donor]};
    input.experts[0].weight = 1.0;
    input.experts[1].weight = weight;
    terminal_.update(static_cast<int64_t>(donor), recipe_.tasks[donor].name);
    auto outcome = amalgam::merge(*method, input, silent);
    const MemoryTensors shared(outcome.merged), parts(outcome.task_parts);
    const double value = score_task(row.merge.name, target, {&shared, &parts}, name_of(Split::kVal), silent).value;
    tried.push_back({weight, value});
    if (!std::isnan(best) && !(metric.merit(value) > metric.merit(best))) continue;
    best = value;
    chosen = weight;
    merged = std::move(outcome);
  }
  const MemoryTensors shared(merged.merged), parts(merged.task_parts);
  Predictions predictions;
  const auto line =
      score_task(row.merge.name, target, {&shared, &parts}, reported_split(), silent, expert ? &predictions : nullptr);
  json details = {{"weight", chosen}, {"val", tried}, {"metric", line.metric}, {"value", line.value}};
  if (expert) {
    const auto right = right_targets(predictions, recipe_.tasks[target].loss.name);
    const auto interval =
        paired_bootstrap({{right.right - expert->right, right.count, 1.0}}, static_cast<uint64_t>(recipe_.seed));
    details["interval"] = {interval.low, interval.high};
  }
  return details;
}

void Pipeline::score_donors(const DonorRow& row) {
  const auto count = static_cast<int64_t>(tasks_.size());
  for (size_t target = 0; target < tasks_.size(); ++target) {
    const auto& spec = recipe_.tasks[target];
    std::optional<RightTargets> expert;
    std::optional<double> expert_value;
    const auto score_expert = [&] {
      if (expert_value) return;
      SilentProgress silent;
      Predictions predictions;
      expert_value = score_task("expert", target, {}, reported_split(), silent, &predictions).value;
      if (spec.metric == "accuracy") expert = right_targets(predictions, spec.loss.name);
    };
    terminal_.about(fmt::format("{} into {}", row.merge.name, spec.name));
    terminal_.begin("donors", count);
    for (size_t donor = 0; donor < tasks_.size(); ++donor) {
      if (donor == target) continue;
      const auto subject = fmt::format("{} {} {}", row.merge.name, spec.name, recipe_.tasks[donor].name);
      steps_.run("donor", subject, donor_inputs(row, target, donor), {}, [&] {
        score_expert();
        json details = score_donor(row, target, donor, expert ? &*expert : nullptr);
        details.update({{"row", row.merge.name},
                        {"target", spec.name},
                        {"donor", recipe_.tasks[donor].name},
                        {"split", reported_split()},
                        {"expert", *expert_value}});
        return details;
      });
    }
    terminal_.end("");
  }
}

}  // namespace amalgam
