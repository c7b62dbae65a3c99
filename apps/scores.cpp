#include "apps/scores.h"

#include <algorithm>
#include <limits>
#include <sstream>

#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/error.h"
#include "models/metric.h"

namespace amalgam {

using nlohmann::json;

LoaderOptions scored_examples(const EvaluateSpec& spec, uint64_t seed, const std::string& task) {
  LoaderOptions loading;
  loading.batch = spec.batch;
  if (spec.examples == 0) return loading;
  loading.examples = spec.examples;
  loading.drawn = true;
  loading.seed = seed;
  loading.label = "evaluate/" + task;
  return loading;
}

std::string digest_of_inputs(const json& inputs) { return digest_of(inputs.dump()).substr(0, 16); }

json to_json(const ScoreLine& line) {
  json object = {{"method", line.method},   {"task", line.task}, {"split", line.split},  {"metric", line.metric},
                 {"value", line.value},     {"loss", line.loss}, {"count", line.count},  {"seconds", line.seconds},
                 {"options", line.options}, {"seed", line.seed}, {"subset", line.subset}};
  if (line.normalised) object["normalised"] = *line.normalised;
  return object;
}

namespace {

/// JSON has no infinity, which is written as null: the perplexity of a model that has diverged.
double finite_or_infinite(const json& number) {
  return number.is_null() ? std::numeric_limits<double>::infinity() : number.get<double>();
}

}  // namespace

ScoreLine score_line_from(const json& object) {
  ScoreLine line;
  object.at("method").get_to(line.method);
  object.at("task").get_to(line.task);
  object.at("split").get_to(line.split);
  object.at("metric").get_to(line.metric);
  find_metric(line.metric);
  line.value = finite_or_infinite(object.at("value"));
  line.loss = finite_or_infinite(object.at("loss"));
  object.at("count").get_to(line.count);
  object.at("seconds").get_to(line.seconds);
  object.at("options").get_to(line.options);
  object.at("seed").get_to(line.seed);
  object.at("subset").get_to(line.subset);
  if (object.contains("normalised")) line.normalised = object.at("normalised").get<double>();
  return line;
}

std::vector<ScoreLine> read_scores(const std::filesystem::path& path) {
  std::vector<ScoreLine> lines;
  std::istringstream text(read_file(path));
  int64_t number = 0;
  for (std::string row; std::getline(text, row);) {
    ++number;
    if (row.empty()) continue;
    try {
      lines.push_back(score_line_from(json::parse(row)));
    } catch (const std::exception& error) {
      throw InputError(fmt::format("{}:{}: this is no score: {}", path.string(), number, error.what()));
    }
  }
  return lines;
}

void write_scores(const std::filesystem::path& path, const std::vector<ScoreLine>& lines) {
  std::string text;
  for (const auto& line : lines) text += to_json(line).dump() + "\n";
  write_file(path, text);
}

namespace {

void add_line(RowSummary& summary, const ScoreLine& line, size_t task) {
  summary.values[task] = line.value;
  if (!line.normalised) return;
  if (!summary.worst_normalised || *line.normalised < *summary.worst_normalised) {
    summary.worst_normalised = line.normalised;
    summary.worst_task = line.task;
  }
  summary.mean_normalised = summary.mean_normalised.value_or(0) + *line.normalised;
}

/// Of a row: how many tasks have a normalised score, and in how many lower is better.
struct Counts {
  size_t normalised = 0, lower = 0;
};

/// Sums become means, but only where every task has its part, and all metrics go in one direction: else a mean is no
/// figure to compare.
void finish(RowSummary& summary, const Counts& counts) {
  const auto tasks = summary.values.size();
  const bool whole =
      std::all_of(summary.values.begin(), summary.values.end(), [](const auto& value) { return value.has_value(); });
  summary.lower_is_better = counts.lower == tasks;
  if (whole && (counts.lower == 0 || counts.lower == tasks)) {
    double sum = 0;
    for (const auto& value : summary.values) sum += *value;
    summary.mean_value = sum / static_cast<double>(tasks);
  }
  if (counts.normalised == tasks) {
    summary.mean_normalised = *summary.mean_normalised / static_cast<double>(tasks);
  } else {
    summary.mean_normalised.reset();
    summary.worst_normalised.reset();
  }
}

}  // namespace

std::vector<RowSummary> summarise(const std::vector<ScoreLine>& lines, const std::vector<std::string>& tasks,
                                  const std::string& split) {
  std::vector<RowSummary> rows;
  std::vector<Counts> counts;
  for (const auto& line : lines) {
    const auto task = std::find(tasks.begin(), tasks.end(), line.task);
    if (line.split != split || task == tasks.end()) continue;
    auto row =
        std::find_if(rows.begin(), rows.end(), [&](const RowSummary& known) { return known.method == line.method; });
    if (row == rows.end()) {
      rows.push_back({line.method, split, std::vector<std::optional<double>>(tasks.size()), {}, {}, {}, {}, false});
      counts.emplace_back();
      row = rows.end() - 1;
    }
    add_line(*row, line, static_cast<size_t>(task - tasks.begin()));
    auto& counted = counts[static_cast<size_t>(row - rows.begin())];
    counted.normalised += line.normalised.has_value();
    counted.lower += !find_metric(line.metric).higher_is_better;
  }
  for (size_t i = 0; i < rows.size(); ++i) finish(rows[i], counts[i]);
  return rows;
}

}  // namespace amalgam
