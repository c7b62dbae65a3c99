// Scores of base, experts and merged models on held-out data.
#include <algorithm>

#include "apps/pipeline.h"
#include "apps/predictions.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/task_parts.h"
#include "datasets/loader.h"
#include "models/artefact.h"
#include "models/evaluate.h"
#include "models/metric.h"
#include "models/plain_execution.h"

namespace amalgam {
namespace {

using nlohmann::json;

/// The shared tensors of a model that fit the given ones.
NamedTensors values_of(const TensorSource& tensors, const std::vector<std::string>& names) {
  NamedTensors values;
  for (const auto& name : names)
    if (tensors.contains(name)) values[name] = tensors.get(name);
  return values;
}

}  // namespace

/// The task's model is its expert, with the shared tensors replaced by the row's: so heads stay the task's own.
/// Where the row's tasks keep parts, with the task's own part of them.
std::unique_ptr<ModelRunner> Pipeline::open_task_model(size_t task, const RowTensors& tensors) const {
  const auto& expert = tasks_[task].expert;
  auto model = open_model(expert.path, device_, {.output = recipe_.tasks[task].output});
  if (tensors.shared) {
    auto names = shared(expert.parameters);
    const auto buffers = shared(expert.buffers);
    names.insert(names.end(), buffers.begin(), buffers.end());
    const MemoryTensors none({});
    const TaskTensors own(*tensors.shared, tensors.parts ? *tensors.parts : none, recipe_.tasks[task].name);
    model->set(values_of(own, names));
  }
  return model;
}

/// @param tensors      as `open_task_model` takes them
/// @param predictions  filled where not null
ScoreLine Pipeline::score_task(const std::string& row, size_t task, const RowTensors& tensors, const std::string& split,
                               Progress& progress, Predictions* predictions) {
  const auto& spec = recipe_.tasks[task];
  std::optional<UnoptimisedExecution> unoptimised;
  if (!tensors.routed.empty()) unoptimised.emplace();
  const auto model =
      tensors.routed.empty() ? open_task_model(task, tensors) : open_routed(tensors.routed, spec.name, device_);
  Loader loader(dataset(task, split_from_name(split)),
                scored_examples(recipe_.evaluate, static_cast<uint64_t>(recipe_.seed), spec.name));
  const auto began = std::chrono::steady_clock::now();
  const auto score = [&] {
    try {
      return amalgam::evaluate(*model, loader, spec.loss, spec.metric, progress, predictions);
    } catch (const ExampleError& error) {
      throw ExampleError(error.position(),
                         fmt::format("task '{}', example {} of {}{}: {}: {}", spec.name, error.position(), split,
                                     recipe_.evaluate.examples > 0 ? ", in the order drawn" : "", row, error.what()));
    }
  }();
  ScoreLine line;
  line.method = row;
  line.task = spec.name;
  line.split = split;
  line.metric = spec.metric;
  line.value = score.value;
  line.loss = score.loss;
  line.count = score.count;
  line.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  line.seed = recipe_.seed;
  line.subset = "all";
  return line;
}

/// @param keep_predictions  write them, too
std::vector<ScoreLine> Pipeline::score(const std::string& row, const RowTensors& tensors, const std::string& split,
                                       const Tasks& tasks, bool keep_predictions) {
  std::vector<ScoreLine> lines;
  terminal_.about(row + " on " + split);
  terminal_.begin("evaluate", static_cast<int64_t>(tasks.size()));
  for (const size_t i : tasks) {
    const auto& spec = recipe_.tasks[i];
    PartProgress part(terminal_, static_cast<int64_t>(lines.size()));
    Predictions predictions;
    lines.push_back(score_task(row, i, tensors, split, part, keep_predictions ? &predictions : nullptr));
    if (keep_predictions)
      write_predictions(folder().predictions(row, spec.name, split), predictions,
                        {row, spec.name, split, spec.metric, spec.loss.name});
  }
  terminal_.end("");
  return lines;
}

/// Fills in value / the expert's value.
/// @param experts lines with the row `expert` among them
void Pipeline::normalise(std::vector<ScoreLine>& lines, const std::vector<ScoreLine>& experts) {
  for (auto& line : lines) {
    if (!find_metric(line.metric).normalisable) continue;
    for (const auto& expert : experts)
      if (expert.method == "expert" && expert.task == line.task && expert.split == line.split && expert.value > 0)
        line.normalised = line.value / expert.value;
  }
}

/// What is told where one split must do: `test` where it is scored.
std::string Pipeline::reported_split() const {
  const auto& splits = recipe_.evaluate.splits;
  return std::find(splits.begin(), splits.end(), "test") != splits.end() ? "test" : splits.back();
}

/// What the scores of a row on a split depend on.
/// @param digest  of the row's tensors
json Pipeline::evaluate_inputs(const std::string& row, const std::string& digest, const std::string& split) {
  json inputs = {{"row", row}, {"tensors", digest}, {"private", recipe_.private_patterns}, {"seed", recipe_.seed}};
  if (recipe_.evaluate.examples > 0) inputs["examples"] = recipe_.evaluate.examples;
  for (size_t i = 0; i < tasks_.size(); ++i)
    inputs["tasks"].push_back({{"data", dataset(i, split_from_name(split)).digest()},
                               {"expert", tasks_[i].expert.digest},
                               {"file", tasks_[i].expert.file},
                               {"loss", yaml_text(write_options(recipe_.tasks[i].loss))},
                               {"output", recipe_.tasks[i].output},
                               {"metric", recipe_.tasks[i].metric}});
  return inputs;
}

/// Scores a row on the chosen splits; what an earlier run scored on the others is kept where it still holds.
/// @param routed  each example with the part that the row's router chooses, under a name of its own
void Pipeline::evaluate_row(const std::string& made, bool routed) {
  const auto row = routed ? routed_name(made) : made;
  if (std::any_of(scores_.begin(), scores_.end(), [&](const ScoreLine& line) { return line.method == row; })) return;
  const auto found = std::find_if(recipe_.merge.begin(), recipe_.merge.end(),
                                  [&](const MergeRow& merged) { return merged.name == made; });
  std::shared_ptr<const SafetensorsFile> tensors, parts;
  json options = {{"row", row}};
  if (row == "base") tensors = base_.tensors;
  if (found != recipe_.merge.end()) {
    tensors = std::make_shared<SafetensorsFile>(folder().merged(made, ".safetensors"));
    if (keeps_task_parts(*found)) parts = open_task_parts(folder().merged(made, ".tasks.safetensors"), *tensors);
    options = merge_inputs_json(*found, all_tasks());
  }
  const auto artefact = routed ? folder().merged(made, ".pt") : std::filesystem::path();
  const auto wanted = splits();
  const auto digest = (tensors ? digest_of(*tensors) : "") + (parts ? " " + digest_of(*parts) : "");
  for (const auto& split : recipe_.evaluate.splits) {
    const auto inputs = evaluate_inputs(row, digest, split);
    std::vector<std::filesystem::path> files;
    for (const auto& task : recipe_.tasks) files.push_back(folder().predictions(row, task.name, split));
    const bool keep = recipe_.evaluate.predictions;
    const auto subject = row + " " + split;
    auto record = steps_.finished("evaluate", subject, inputs, {});
    if (std::find(wanted.begin(), wanted.end(), split) != wanted.end())
      record = steps_.run("evaluate", subject, inputs, keep ? files : decltype(files){}, [&] {
        for (const auto& file : files) std::filesystem::remove(file);  // of other tensors or data than these
        json details = json::array();
        for (const auto& line : score(row, {tensors.get(), parts.get(), artefact}, split, all_tasks(), keep))
          details.push_back(to_json(line));
        return details;
      });
    if (record.is_null()) continue;
    for (const auto& object : record.at("details")) {
      scores_.push_back(score_line_from(object));
      scores_.back().options = digest_of_inputs(options);
    }
  }
  normalise(scores_, scores_);
  write_scores(folder().scores(), scores_);
}

void Pipeline::evaluate() {
  make_models();
  if (is_root()) {
    evaluate_row("base");
    evaluate_row("expert");
  }
  merge();
  if (!is_root()) return;
  for (const auto& row : recipe_.merge) {
    evaluate_row(row.name);
    if (row.router > 0) evaluate_row(row.name, /*routed=*/true);
  }
  for (const auto& row : recipe_.donors) score_donors(row);
  if (recipe_.protocol.is_on()) run_protocol();
}

}  // namespace amalgam
