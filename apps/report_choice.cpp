#include "apps/report_choice.h"

#include <algorithm>

#include "models/metric.h"

namespace amalgam {

Choice choose(const RunRecord& run) {
  Choice choice;
  const auto splits = splits_of(run);
  if (splits.empty()) return choice;
  choice.split = splits[0];
  choice.rows = summarise(run.scores, run.tasks, choice.split);
  const auto* reported = best_merged(choice.rows);
  const auto on_val = summarise(run.scores, run.tasks, "val");
  const auto* chosen = best_merged(on_val);
  if (chosen && choice.split != "val" && find_row(choice.rows, chosen->method)) {
    reported = find_row(choice.rows, chosen->method);
    choice.chosen_on_val = true;
  }
  if (reported) choice.best = static_cast<size_t>(reported - choice.rows.data());
  return choice;
}

bool is_reference(const std::string& row) { return row == "base" || row == "expert"; }

std::vector<std::string> splits_of(const RunRecord& run) {
  std::vector<std::string> splits;
  for (const std::string wanted : {"test", "val", ""})
    for (const auto& line : run.scores) {
      const bool known = std::find(splits.begin(), splits.end(), line.split) != splits.end();
      if (!known && (wanted.empty() || line.split == wanted)) splits.push_back(line.split);
    }
  return splits;
}

std::optional<double> merit(const RowSummary& row) {
  return row.mean_normalised ? row.mean_normalised : row.mean_value;
}

bool is_better(const RowSummary& row, const RowSummary& than) {
  const auto one = merit(row), other = merit(than);
  return one && other && (row.lower_is_better ? *one < *other : *one > *other);
}

bool lower_is_better(const RunRecord& run, const std::string& task) {
  const auto metric = run.metrics.find(task);
  return metric != run.metrics.end() && !find_metric(metric->second).higher_is_better;
}

bool lower_is_better(const RunRecord& run) {
  return !run.tasks.empty() && std::all_of(run.tasks.begin(), run.tasks.end(),
                                           [&](const std::string& task) { return lower_is_better(run, task); });
}

bool lower_is_better_somewhere(const RunRecord& run) {
  return std::any_of(run.tasks.begin(), run.tasks.end(),
                     [&](const std::string& task) { return lower_is_better(run, task); });
}

const RowSummary* find_row(const std::vector<RowSummary>& rows, const std::string& name) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const RowSummary& row) { return row.method == name; });
  return found == rows.end() || !merit(*found) ? nullptr : &*found;
}

const RowSummary* best_merged(const std::vector<RowSummary>& rows) {
  const RowSummary* best = nullptr;
  for (const auto& row : rows)
    if (!is_reference(row.method) && merit(row) && (!best || is_better(row, *best))) best = &row;
  return best;
}

std::string metric_word(const RunRecord& run) {
  for (const auto& line : run.scores)
    if (line.metric != run.scores[0].metric) return "score";
  return run.scores[0].metric;
}

}  // namespace amalgam
