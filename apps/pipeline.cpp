#include "apps/pipeline.h"

#include <algorithm>

#include "apps/hf_folder.h"
#include "apps/model_probe.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "models/metric.h"

namespace amalgam {

Pipeline::Pipeline(Recipe recipe, const std::filesystem::path& runs, PipelineSelection selection,
                   const ProcessGroup& group, Terminal& terminal)
    : recipe_(std::move(recipe)),
      selection_(std::move(selection)),
      group_(group),
      terminal_(terminal),
      device_(parse_device(recipe_.device)),
      steps_(RunFolder(runs / recipe_.name), device_, terminal),
      tasks_(recipe_.tasks.size()) {
  if (group_.is_root())
    lock_.emplace(runs / recipe_.name, "choose another place with --runs, or another name with --set name=…");
}

Pipeline::~Pipeline() = default;

const Dataset& Pipeline::dataset(size_t task, Split split) {
  auto& data = tasks_[task].data[split];
  if (!data)
    data = open_dataset(recipe_.tasks[task].data, split, static_cast<uint64_t>(recipe_.seed), recipe_.tasks[task].name,
                        files_);
  return *data;
}

std::vector<std::string> Pipeline::splits() const {
  return selection_.split.empty() ? recipe_.evaluate.splits : std::vector{selection_.split};
}

std::string Pipeline::table() const {
  std::vector<std::string> names, headings;
  std::vector<bool> lower;  // is better; such figures are no shares
  for (const auto& task : recipe_.tasks) {
    names.push_back(task.name);
    lower.push_back(!find_metric(task.metric).higher_is_better);
    headings.push_back(lower.back() ? fmt::format("{} ({})", task.name, task.metric) : task.name);
  }
  const bool shares = std::find(lower.begin(), lower.end(), false) != lower.end();
  const auto text_of = [](const std::optional<double>& value, bool is_lower = false) {
    if (!value) return std::string("-");
    return is_lower ? fmt::format("{:.5g}", *value) : fmt::format("{:.1f}", 100 * *value);
  };
  std::string text;
  for (const auto& split : splits()) {
    std::vector<std::vector<std::string>> rows = {{split + (shares ? ", %" : "")}};
    rows[0].insert(rows[0].end(), headings.begin(), headings.end());
    rows[0].insert(rows[0].end(), {"mean", "normalised", "worst"});
    for (const auto& summary : summarise(scores_, names, split)) {
      auto& row = rows.emplace_back(std::vector{summary.method});
      for (size_t i = 0; i < names.size(); ++i) row.push_back(text_of(summary.values[i], lower[i]));
      row.insert(row.end(), {text_of(summary.mean_value, summary.lower_is_better), text_of(summary.mean_normalised),
                             text_of(summary.worst_normalised)});
    }
    text += format_table(rows) + "\n";
  }
  return text;
}

}  // namespace amalgam
