// Rows that look at examples while they merge.
#include <cmath>
#include <limits>

#include "apps/model_probe.h"
#include "apps/pipeline.h"
#include "models/metric.h"
#include "solvers/methods/method.h"

namespace amalgam {

using nlohmann::json;

namespace {

/// How often all of val was scored to make it.
int64_t looks_of(const MergeOutcome& outcome) { return outcome.report.search ? outcome.report.search->val_looks : 0; }

}  // namespace

/// The splits that a row looks at while it merges.
Pipeline::SearchedSplits Pipeline::searched_splits(const MergeRow& row) {
  SearchedSplits splits;
  splits.scores_val = !row.search.empty();
  for (const auto& options : settings_of(row)) {
    const auto needs = make_method(row.method, options, "merge." + row.name)->requirements();
    splits.scores_val = splits.scores_val || needs.val_scores;
    if (!needs.entropy_split.empty()) splits.entropy.insert(split_from_name(needs.entropy_split));
  }
  return splits;
}

/// What a row that looks at examples while it merges depends on beside its experts.
json Pipeline::search_inputs(const MergeRow& row, const Tasks& tasks) {
  json inputs = json::object();
  const SearchedSplits splits = searched_splits(row);
  if (splits.scores_val && recipe_.evaluate.examples > 0)
    inputs["search_examples"] = {recipe_.evaluate.examples, recipe_.seed};
  for (const auto& [option, values] : row.search)
    for (const auto& value : values) inputs["search"][option].push_back(yaml_text(value));
  for (const size_t i : tasks) {
    const auto& task = recipe_.tasks[i];
    if (splits.scores_val)
      inputs["search_data"].push_back(
          {{"data", dataset(i, Split::kVal).digest()}, {"metric", task.metric}, {"output", task.output}});
    for (const auto split : splits.entropy)
      inputs["entropy_data"].push_back({{"data", dataset(i, split).digest()},
                                        {"loss", yaml_text(write_options(task.loss))},
                                        {"output", task.output}});
  }
  return inputs;
}

/// @param inputs  what the merge depends on: a search that was stopped goes on where they are the same
MergeArrangement Pipeline::search_arrangement(const MergeRow& row, const json& inputs) const {
  MergeArrangement arrangement;
  arrangement.search_folder = folder().merged(row.name, ".search");
  arrangement.search_identity = inputs.dump();
  return arrangement;
}

/// The row merged of the tasks' experts, by the best setting where it searches its options.
Pipeline::MadeRow Pipeline::make_row(const MergeRow& row, const Tasks& tasks, const MergeArrangement& arrangement) {
  MadeRow made;
  made.options.reset(row.options);
  if (row.search.empty()) {
    made.outcome = merge_with(row, tasks, arrangement);
    made.val_looks = looks_of(made.outcome);
  } else {
    made.outcome = choose_on_val(row, tasks, arrangement, made.options, made.tried);
    for (const auto& trial : made.tried) made.val_looks += trial.at("val_looks").get<int64_t>();
  }
  if (probe_) probe_->close_models();
  return made;
}

/// Of one setting's model: the mean over the tasks, as they are compared; NaN where an output is not finite, which is
/// then the model's doing, since the experts were scored on the same examples.
double Pipeline::mean_on_val(const MergeRow& row, const MergeOutcome& outcome, const Tasks& tasks,
                             const std::vector<ScoreLine>& experts) {
  const MemoryTensors merged(outcome.merged), parts(outcome.task_parts);
  try {
    auto lines = score(row.name, {&merged, &parts}, name_of(Split::kVal), tasks);
    normalise(lines, experts);
    double mean = 0;
    for (const auto& line : lines) mean += line.normalised.value_or(line.value) / static_cast<double>(lines.size());
    return mean;
  } catch (const ExampleError& error) {
    terminal_.message(fmt::format("{}; this setting counts as the worst", error.what()));
    return std::numeric_limits<double>::quiet_NaN();
  }
}

/// Merges with every combination of the searched values and keeps the outcome with the best mean on `val`: the root
/// does, and scores, while other processes wait for it.
MergeOutcome Pipeline::choose_on_val(const MergeRow& row, const Tasks& tasks, const MergeArrangement& arrangement,
                                     YAML::Node& chosen, json& tried) {
  tried = json::array();
  // Scored here and not taken from the run's scores: the choice must not depend on which splits were asked for.
  const auto experts = is_root() ? score("expert", {}, name_of(Split::kVal), tasks) : std::vector<ScoreLine>{};
  const auto options = settings_of(row);
  std::vector<std::unique_ptr<MergeMethod>> methods;
  std::vector<MergeMethod*> variants;
  for (const auto& variant : options)
    variants.push_back(methods.emplace_back(make_method(row.method, variant, "merge." + row.name)).get());
  const auto& metric = find_metric(recipe_.tasks[0].metric);  // the others go in its direction: checked with the recipe
  MergeOutcome best;
  double best_mean = std::numeric_limits<double>::quiet_NaN();
  const auto take = [&](size_t variant, MergeOutcome outcome) {
    reset_batch_norms(row, outcome, tasks);
    const double mean = mean_on_val(row, outcome, tasks, experts);
    json values;
    for (const auto& [option, unused] : row.search) values[option] = yaml_text(options[variant][option]);
    tried.push_back({{"values", values}, {"mean", mean}, {"val_looks", 1 + looks_of(outcome)}});
    terminal_.about(row.name);
    if (variant > 0 && !(metric.merit(mean) > metric.merit(best_mean)) && !std::isnan(best_mean)) return;
    best_mean = mean;
    best = std::move(outcome);
    chosen.reset(options[variant]);
  };
  terminal_.about(row.name);
  const auto reached = merge_earlier(row, tasks, arrangement);
  merge_variants(variants, going_on_from(reached, merge_input(*variants.front(), row, tasks)), terminal_, take,
                 arrangement);
  return best;
}

}  // namespace amalgam
