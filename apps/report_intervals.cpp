// How far rows are from one of them, and how sure that is.
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <optional>

#include "apps/bootstrap.h"
#include "apps/html.h"
#include "apps/predictions.h"
#include "apps/report_choice.h"
#include "apps/report_page.h"
#include "core/error.h"

namespace amalgam {
namespace {

/// The row that the recipe names, or the first of `regmean`, or else of `average`; empty where there is none.
std::string reference_row(const RunRecord& run) {
  if (!run.reference.empty()) return run.reference;
  for (const std::string wanted : {"regmean", "average"})
    for (const auto& row : run.rows) {
      const auto* merge = run.merge(row);
      if (row == wanted || (merge && merge->method == wanted)) return row;
    }
  return "";
}

/// The expert's accuracy, or 0 where it is not known.
double expert_accuracy(const RunRecord& run, const std::string& task, const std::string& split) {
  for (const auto& line : run.scores)
    if (line.method == "expert" && line.task == task && line.split == split && line.metric == "accuracy")
      return line.value;
  return 0;
}

/// By task, in the run's order; nothing where a task has no predictions.
std::optional<std::vector<RightTargets>> results_of(const RunRecord& run, const std::string& row,
                                                    const std::string& split) {
  std::vector<RightTargets> results;
  for (const auto& task : run.tasks) {
    const auto file = run.predictions.find({row, task, split});
    if (file == run.predictions.end()) return std::nullopt;
    results.push_back(read_right_targets(file->second));
  }
  return results;
}

Interval compare(const RunRecord& run, const std::string& split, const std::vector<RightTargets>& row,
                 const std::vector<RightTargets>& reference) {
  std::vector<PairedTask> tasks;
  for (size_t t = 0; t < row.size(); ++t) {
    require_input(at::equal(row[t].count, reference[t].count),
                  "the predictions of task '{}' are of other examples than the reference's; evaluate again",
                  run.tasks[t]);
    tasks.push_back({row[t].right - reference[t].right, row[t].count, expert_accuracy(run, run.tasks[t], split)});
  }
  return paired_bootstrap(tasks, static_cast<uint64_t>(run.seed.value_or(0)));
}

/// "+1.2", "−0.3", in points.
std::string points_text(double difference) {
  const double points = std::round(1000 * difference) / 10;
  return fmt::format("{}{:.1f}", points > 0 ? "+" : points < 0 ? "−" : "", std::abs(points));
}

std::string interval_table(const RunRecord& run, const std::string& split, const std::string& reference) {
  const auto of_reference = results_of(run, reference, split);
  if (!of_reference) return "";
  HtmlTable table(fmt::format("<b>Above {}</b> · {} · mean normalised accuracy, points; 95 % interval of a paired "
                              "bootstrap over the examples, in bold where it leaves out 0",
                              escape_html(reference), escape_html(split)),
                  {"row", "difference", "from", "to"});
  bool any = false;
  for (const auto& row : run.rows) {
    if (row == reference) continue;
    const auto of_row = results_of(run, row, split);
    if (!of_row) continue;
    any = true;
    const auto interval = compare(run, split, *of_row, *of_reference);
    const bool apart = interval.low > 0 || interval.high < 0;
    const auto difference = points_text(interval.difference);
    table.add({escape_html(row), apart ? "<strong>" + difference + "</strong>" : difference, points_text(interval.low),
               points_text(interval.high)});
  }
  return any ? html_scroll("Differences to " + escape_html(reference), table.html()) : "";
}

}  // namespace

std::string intervals(const RunRecord& run) {
  const auto splits = splits_of(run);
  const auto reference = reference_row(run);
  if (splits.empty() || reference.empty()) return "";
  for (const auto& task : run.tasks)
    if (!(expert_accuracy(run, task, splits[0]) > 0)) return "";
  try {
    return interval_table(run, splits[0], reference);
  } catch (const InputError& error) {
    return html_missing(fmt::format("No intervals: {}.", escape_html(error.what())));
  }
}

}  // namespace amalgam
