#include "apps/pipeline.h"

#include <algorithm>

#include "core/atomic_file.h"
#include "core/error.h"

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
  if (group_.is_root()) lock_.emplace(runs / recipe_.name);
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
  std::vector<std::string> names;
  for (const auto& task : recipe_.tasks) names.push_back(task.name);
  const auto percent = [](const std::optional<double>& value) {
    return value ? fmt::format("{:.1f}", 100 * *value) : std::string("-");
  };
  std::string text;
  for (const auto& split : splits()) {
    std::vector<std::vector<std::string>> rows = {{split + ", %"}};
    rows[0].insert(rows[0].end(), names.begin(), names.end());
    rows[0].insert(rows[0].end(), {"mean", "normalised", "worst"});
    for (const auto& summary : summarise(scores_, names, split)) {
      auto& row = rows.emplace_back(std::vector{summary.method});
      for (const auto& value : summary.values) row.push_back(percent(value));
      row.insert(row.end(),
                 {percent(summary.mean_value), percent(summary.mean_normalised), percent(summary.worst_normalised)});
    }
    text += format_table(rows) + "\n";
  }
  return text;
}

}  // namespace amalgam
