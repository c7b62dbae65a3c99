#include "apps/report_data.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <limits>
#include <utility>

#include "apps/protocol.h"
#include "apps/recipe_rows.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "models/metric.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string text(const json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Files of a folder with this ending, sorted; none where the folder is missing.
std::vector<fs::path> files_of(const fs::path& folder, const std::string& ending) {
  std::vector<fs::path> files;
  if (!fs::is_directory(folder)) return files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().string().ends_with(ending)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// The subsets that the recipe draws; records of others are of an earlier one.
void read_protocol_into(RunRecord& run, const YAML::Node& section) {
  ProtocolSpec protocol;
  read_options(protocol, section, "protocol");
  for (const auto& subset : subsets_of(protocol, run.tasks, static_cast<uint64_t>(run.seed.value_or(0)))) {
    auto& names = run.protocol_subsets.emplace_back();
    for (const size_t task : subset) names.push_back(run.tasks[task]);
  }
}

/// All of it or, where it throws, its text alone.
void read_recipe_into(RunRecord& whole, const fs::path& path) {
  whole.recipe = read_file(path);
  const YAML::Node root = YAML::Load(whole.recipe);
  RunRecord run = whole;
  run.name = root["name"].as<std::string>(run.name);
  run.device = root["device"].as<std::string>("");
  if (root["seed"]) run.seed = root["seed"].as<int64_t>();
  if (root["report"]) {
    run.title = root["report"]["title"].as<std::string>("");
    run.reference = root["report"]["reference"].as<std::string>("");
  }
  for (const auto& pattern : root["private"]) run.private_patterns.push_back(pattern.as<std::string>());
  for (const auto& task : root["tasks"]) {
    run.tasks.push_back(task["name"].as<std::string>());
    const auto& metric = run.metrics[run.tasks.back()] = task["metric"].as<std::string>("accuracy");
    find_metric(metric, "tasks." + run.tasks.back() + ".metric");
  }
  for (const auto& [key, names] : {std::pair{"merge", &run.rows}, std::pair{"donors", &run.donor_rows}})
    for (const auto& row : root[key]) std::ranges::copy(scored_names(row), std::back_inserter(*names));
  if (root["protocol"]) read_protocol_into(run, root["protocol"]);
  whole = std::move(run);
}

StepRecord step_from(const json& object) {
  StepRecord step;
  object.at("kind").get_to(step.kind);
  object.at("subject").get_to(step.subject);
  object.at("device").get_to(step.device);
  object.at("version").get_to(step.version);
  object.at("torch").get_to(step.torch);
  object.at("finished").get_to(step.finished);
  step.seconds = object.at("seconds").get<double>();
  step.peak_host_bytes = object.at("peak_host_bytes").get<double>();
  step.peak_device_bytes = object.at("peak_device_bytes").get<double>();
  step.inputs = object.at("inputs");
  step.outputs = object.at("outputs");
  step.details = object.at("details");
  return step;
}

/// Reads what it can: what cannot be read becomes a problem that the page names.
template <class Read>
void attempt(RunRecord& run, const RunFolder& folder, const fs::path& path, const Read& read) {
  try {
    read();
  } catch (const std::exception& error) {
    run.problems.push_back(fmt::format("{}: {}", fs::relative(path, folder.root()).string(), error.what()));
  }
}

/// Where a pair of tasks stands among all of all rows of donors; nothing where the recipe has not this row or task.
std::optional<size_t> place_of_donor(const RunRecord& run, const json& details) {
  const auto place = [](const std::vector<std::string>& names, const json& name) {
    return static_cast<size_t>(std::find(names.begin(), names.end(), text(name)) - names.begin());
  };
  if (!details.is_object()) return std::nullopt;
  const size_t row = place(run.donor_rows, details.value("row", json())), tasks = run.tasks.size(),
               target = place(run.tasks, details.value("target", json())),
               donor = place(run.tasks, details.value("donor", json()));
  if (row == run.donor_rows.size() || target == tasks || donor == tasks) return std::nullopt;
  return (row * tasks + target) * tasks + donor;
}

/// Where a subset stands among those of all rows; nothing where the recipe has not this row or draws no such subset.
std::optional<size_t> place_of_subset(const RunRecord& run, const json& details) {
  if (!details.is_object() || !details.contains("tasks")) return std::nullopt;
  const auto row = std::find(run.rows.begin(), run.rows.end(), text(details.value("row", json())));
  std::vector<std::string> tasks;
  for (const auto& task : details["tasks"]) tasks.push_back(text(task));
  const auto& subsets = run.protocol_subsets;
  const auto subset = std::ranges::find(subsets, tasks);
  if (row == run.rows.end() || subset == subsets.end()) return std::nullopt;
  return static_cast<size_t>(row - run.rows.begin()) * subsets.size() + static_cast<size_t>(subset - subsets.begin());
}

/// Where the subject of a step stands in the recipe; nothing where it is of a task or row that is no longer there.
std::optional<size_t> place_of(const RunRecord& run, const StepRecord& step) {
  if (step.kind == "donor") return place_of_donor(run, step.details);
  if (step.kind == "protocol") return place_of_subset(run, step.details);
  auto subject = step.subject;
  if (step.kind == "evaluate") subject = subject.substr(0, subject.rfind(' '));  // "<row> <split>"
  const bool of_rows = step.kind == "evaluate" || step.kind == "merge";
  if (subject == "base") return 0;
  if (of_rows && subject == "expert") return 1;
  const auto& names = of_rows ? run.rows : run.tasks;
  const auto found = std::find(names.begin(), names.end(), subject);
  if (found == names.end()) return std::nullopt;
  return 2 + static_cast<size_t>(found - names.begin());
}

void keep_steps(RunRecord& run, std::vector<StepRecord> steps) {
  static const std::vector<std::string> kinds = {"train", "open", "collect", "merge", "evaluate", "donor", "protocol"};
  using Place = std::pair<size_t, size_t>;
  std::vector<std::pair<Place, StepRecord>> placed;
  for (auto& step : steps) {
    const auto place = place_of(run, step);
    if (!place) {
      run.left_out.push_back(step.kind + " " + step.subject);
      continue;
    }
    const auto kind = static_cast<size_t>(std::find(kinds.begin(), kinds.end(), step.kind) - kinds.begin());
    placed.emplace_back(Place{kind, *place}, std::move(step));
  }
  std::stable_sort(placed.begin(), placed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [place, step] : placed) run.steps.push_back(std::move(step));
}

/// The files that the steps say they wrote: others may be of other models.
void find_predictions(RunRecord& run, const fs::path& root) {
  for (const auto* step : run.of_kind("evaluate")) {
    const auto space = step->subject.rfind(' ');  // "<row> <split>"
    if (space == std::string::npos) continue;
    for (const auto& [output, unused] : step->outputs.items()) {
      const auto file = fs::path(output).filename().string();  // "<task>.<split>.safetensors"
      run.predictions[{step->subject.substr(0, space), file.substr(0, file.find('.')),
                       step->subject.substr(space + 1)}] = root / output;
    }
  }
}

void keep_merges(RunRecord& run, std::vector<MergeRecord> merges) {
  for (const auto& row : run.rows)
    for (auto& merge : merges)
      if (merge.row == row) run.merges.push_back(merge);
  for (const auto& merge : merges)
    if (!contains(run.rows, merge.row)) run.left_out.push_back("merged " + merge.row);
}

/// Scores are of a merge of the inputs that they name.
void find_stale_scores(RunRecord& run) {
  for (const auto& merge : run.merges)
    if (!merge.inputs.empty() && std::ranges::any_of(run.scores, [&](const ScoreLine& line) {
          return (line.method == merge.row || line.method == routed_name(merge.row)) && line.options != merge.inputs;
        }))
      run.stale.push_back(merge.row);
}

/// Without a recipe the other files say which tasks and rows there are.
void fill_names(RunRecord& run, const std::vector<StepRecord>& steps, const std::vector<MergeRecord>& merges) {
  const auto add = [](std::vector<std::string>& names, const std::string& name) {
    if (name != "base" && name != "expert" && !contains(names, name)) names.push_back(name);
  };
  for (const auto& line : run.scores) {
    add(run.tasks, line.task);
    add(run.rows, line.method);
    run.metrics.emplace(line.task, line.metric);
  }
  for (const auto& step : steps)
    if (step.kind == "open" || step.kind == "train" || step.kind == "collect") add(run.tasks, step.subject);
  for (const auto& merge : merges) add(run.rows, merge.row);
}

}  // namespace

std::vector<const StepRecord*> RunRecord::of_kind(const std::string& kind) const {
  std::vector<const StepRecord*> found;
  for (const auto& step : steps)
    if (step.kind == kind) found.push_back(&step);
  return found;
}

const StepRecord* RunRecord::step(const std::string& kind, const std::string& subject) const {
  for (const auto& step : steps)
    if (step.kind == kind && step.subject == subject) return &step;
  return nullptr;
}

const MergeRecord* RunRecord::merge(const std::string& row) const {
  for (const auto& merge : merges)
    if (merge.row == row) return &merge;
  return nullptr;
}

RunRecord read_run(const RunFolder& folder) {
  const auto steps_folder = folder.root() / "steps";
  require_input(
      fs::exists(folder.recipe()) || fs::exists(folder.scores()) || fs::exists(steps_folder),
      "{} is no run's folder: it holds neither {} nor scores.jsonl nor steps/; give the folder of a run, for example "
      "runs/quickstart",
      folder.root().string(), folder.recipe().filename().string());
  RunRecord run;
  run.name = fs::absolute(folder.root()).lexically_normal().filename().string();
  if (fs::exists(folder.recipe()))
    attempt(run, folder, folder.recipe(), [&] { read_recipe_into(run, folder.recipe()); });
  if (fs::exists(folder.scores()))
    attempt(run, folder, folder.scores(), [&] { run.scores = read_scores(folder.scores()); });
  std::vector<StepRecord> steps;
  for (const auto& path : files_of(steps_folder, ".json"))
    attempt(run, folder, path, [&] { steps.push_back(step_from(json::parse(read_file(path)))); });
  std::vector<MergeRecord> merges;
  for (const auto& path : files_of(folder.root() / "merged", ".merge.json"))
    attempt(run, folder, path, [&] { merges.push_back(merge_record(json::parse(read_file(path)))); });
  if (run.tasks.empty()) fill_names(run, steps, merges);
  keep_steps(run, std::move(steps));
  find_predictions(run, folder.root());
  keep_merges(run, std::move(merges));
  find_stale_scores(run);
  return run;
}

}  // namespace amalgam
