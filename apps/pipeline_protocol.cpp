// Every row merged of subsets of the experts, and scored on all tasks: those merged and those not.
#include <algorithm>

#include "apps/pipeline.h"
#include "core/error.h"
#include "models/metric.h"

namespace amalgam {

using nlohmann::json;

std::vector<Pipeline::Tasks> Pipeline::protocol_subsets() const {
  std::vector<std::string> names;
  for (const auto& task : recipe_.tasks) names.push_back(task.name);
  return subsets_of(recipe_.protocol, names, static_cast<uint64_t>(recipe_.seed));
}

/// "left+dim"
std::string Pipeline::name_of_subset(const Tasks& subset) const {
  std::string name;
  for (const size_t i : subset) name += (name.empty() ? "" : "+") + recipe_.tasks[i].name;
  return name;
}

json Pipeline::subset_inputs(const MergeRow& row, const Tasks& subset) {
  json inputs = merge_inputs_json(row, subset);
  inputs["split"] = reported_split();
  inputs["scored"] = evaluate_inputs(row.name, "", reported_split());
  return inputs;
}

/// Merges the subset, chooses on `val` of its tasks alone where the row searches, and scores every task.
json Pipeline::score_subset(const MergeRow& row, const Tasks& subset, const json& inputs,
                            const std::vector<ScoreLine>& experts) {
  const auto arranged = search_arrangement(row, inputs);
  const auto made = make_row(row, subset, arranged);
  std::filesystem::remove_all(arranged.search_folder);
  const MemoryTensors merged(made.outcome.merged), parts(made.outcome.task_parts);
  auto lines = score(row.name, {&merged, &parts}, reported_split(), all_tasks());
  normalise(lines, experts);
  json scores = json::array();
  for (auto& line : lines) {
    line.subset = name_of_subset(subset);
    scores.push_back(to_json(line));
  }
  json names = json::array();
  for (const size_t i : subset) names.push_back(recipe_.tasks[i].name);
  return {{"row", row.name},
          {"tasks", names},
          {"scores", scores},
          {"search", made.tried},
          {"val_looks", made.val_looks * static_cast<int64_t>(subset.size())},
          {"evaluations", lines.size()}};
}

void Pipeline::run_protocol() {
  std::vector<ScoreLine> experts;
  std::ranges::copy_if(scores_, std::back_inserter(experts), [&](const ScoreLine& line) {
    return line.method == "expert" && line.split == reported_split();
  });
  const auto subsets = protocol_subsets();
  for (const auto& row : recipe_.merge) {
    if (!selection_.row.empty() && selection_.row != row.name) continue;
    for (const auto& subset : subsets) {
      const json inputs = subset_inputs(row, subset);
      steps_.run("protocol", row.name + " " + name_of_subset(subset), inputs, {}, [&] {
        if (experts.empty()) experts = score("expert", {}, reported_split(), all_tasks());  // another split was chosen
        return score_subset(row, subset, inputs, experts);
      });
    }
  }
}

}  // namespace amalgam
