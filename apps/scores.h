#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/recipe.h"
#include "datasets/loader.h"

namespace amalgam {

/// One line of `scores.jsonl`: a row's score on one split of one task.
struct ScoreLine {
  std::string method;  ///< the row's name: base, expert, or a name under `merge`
  std::string task, split, metric;
  double value = 0, loss = 0;
  int64_t count = 0;                 ///< targets scored
  std::optional<double> normalised;  ///< value / the expert's value; absent where the metric does not allow it
  double seconds = 0;
  std::string options;  ///< `digest_of_inputs` of the row's merge
  int64_t seed = 0;
  std::string subset;  ///< which tasks' experts were merged: "all"
};

/// Which examples of a split of a task are scored, and in which batches.
LoaderOptions scored_examples(const EvaluateSpec& spec, uint64_t seed, const std::string& task);

/// Of all that a row's merge depends on, short: what its scores and its record have in common.
std::string digest_of_inputs(const nlohmann::json& inputs);

nlohmann::json to_json(const ScoreLine& line);
ScoreLine score_line_from(const nlohmann::json& object);
/// @throws InputError naming the line
std::vector<ScoreLine> read_scores(const std::filesystem::path& path);
void write_scores(const std::filesystem::path& path, const std::vector<ScoreLine>& lines);

/// What a table says of one row on one split.
struct RowSummary {
  std::string method, split;
  std::vector<std::optional<double>> values;  ///< by task
  std::optional<double> mean_value;           ///< none where lower is better in some of the tasks only
  std::optional<double> mean_normalised, worst_normalised;
  std::string worst_task;
  bool lower_is_better = false;  ///< of every task's metric, and so of the mean
};

/// One summary for each row, in the order in which rows first occur.
std::vector<RowSummary> summarise(const std::vector<ScoreLine>& lines, const std::vector<std::string>& tasks,
                                  const std::string& split);

}  // namespace amalgam
