// Merging: one row of the recipe, one model.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#include "apps/hf_folder.h"
#include "apps/model_probe.h"
#include "apps/pipeline.h"
#include "apps/reset_passes.h"
#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/task_parts.h"
#include "core/version.h"
#include "datasets/loader.h"
#include "models/artefact.h"
#include "models/batch_norm_reset.h"
#include "solvers/check.h"
#include "solvers/merge_report_json.h"

namespace amalgam {

using nlohmann::json;

namespace {

/// Says which rows are likely to be ruined, before anything is collected for them.
void warn_of_resets(const Recipe& recipe, const std::string& selected, const MergeInput& input, Progress& progress) {
  std::vector<std::string> rows;
  for (const auto& row : recipe.merge)
    if (row.reset_batch_norms > 0 && (selected.empty() || selected == row.name)) rows.push_back(row.name);
  if (rows.empty() || !moments_never_moved(input)) return;
  for (const auto& row : rows)
    progress.message(fmt::format(
        "merge.{}.reset_batch_norms: the means and variances of all experts are the base's, bit for bit: their "
        "weights were trained to live with these, and new ones may ruin the model (an expert alone, too)",
        row));
}

}  // namespace

bool Pipeline::needs_statistics() const { return !kinds_for(selection_.row).empty(); }

/// The layers of the shared parameters, as the statistics know them.
LayerTable Pipeline::shared_layers() const {
  LayerTable table;
  if (tasks_.empty() || !tasks_[0].statistics) return table;
  const auto& whole = tasks_[0].statistics->header().layers;
  table.aliases = whole.aliases;
  for (const auto& layer : whole.layers) {
    const auto& parameter = layer.weight.empty() ? layer.bias : layer.weight;
    if (!is_private(parameter)) table.layers.push_back(layer);
  }
  return table;
}

/// @param method  gets what it asks for to run the models
MergeInput Pipeline::merge_input(const MergeMethod& method, const MergeRow& row, const Tasks& tasks) {
  MergeInput input = merge_input(tasks);
  input.seed = seed_of(row);
  if (method.requirements().runs_models()) {
    input.probe = &probe();
    ProbeReset reset{{}, row.reset_batch_norms};
    for (const size_t i : tasks) reset.tasks.push_back(recipe_.tasks[i].name);
    probe_->reset_batch_norms(std::move(reset));
  }
  return input;
}

uint64_t Pipeline::seed_of(const MergeRow& row) const { return static_cast<uint64_t>(row.seed.value_or(recipe_.seed)); }

Pipeline::Tasks Pipeline::all_tasks() const {
  Tasks tasks(tasks_.size());
  std::iota(tasks.begin(), tasks.end(), size_t{0});
  return tasks;
}

/// @param tasks  whose experts are merged
MergeInput Pipeline::merge_input(const Tasks& tasks) const {
  MergeInput input;
  input.base = base_.tensors.get();
  input.base_statistics = base_statistics_ ? &*base_statistics_ : nullptr;
  for (const size_t i : tasks) {
    const auto& spec = recipe_.tasks[i];
    input.experts.push_back({spec.name, spec.weight, tasks_[i].expert.tensors.get(),
                             tasks_[i].statistics ? &*tasks_[i].statistics : nullptr, tasks_[i].expert.adapter.get()});
  }
  input.parameters = shared(tasks_[0].expert.parameters);
  input.buffers = shared(tasks_[0].expert.buffers);
  input.layers = shared_layers();
  input.device = device_;
  input.seed = static_cast<uint64_t>(recipe_.seed);
  return input;
}

/// What the row's earlier methods make, one after the other: in a file, which all processes map, and of which memory
/// holds what is read. Null where the row has one method.
std::shared_ptr<const TensorSource> Pipeline::merge_earlier(const MergeRow& row, const Tasks& tasks,
                                                            const MergeArrangement& arrangement) {
  // No row's own file: their names begin with no dot.
  const auto path = folder().root() / "merged" / ("." + file_stem(row.name) + ".earlier.safetensors");
  std::shared_ptr<const TensorSource> reached;
  for (const MergeStage& stage : row.earlier) {
    const auto method = make_method(stage.method, stage.options, "merge." + row.name);
    const auto outcome =
        amalgam::merge(*method, going_on_from(reached, merge_input(*method, row, tasks)), terminal_, arrangement);
    if (is_root()) write_safetensors(path, outcome.merged, {{"row", row.name}, {"method", stage.method}});
    if (arrangement.processes != nullptr) arrangement.processes->barrier();
    reached = std::make_shared<SafetensorsFile>(path);
  }
  // Mapped by all: the name can go.
  if (reached && arrangement.processes != nullptr) arrangement.processes->barrier();
  if (reached && is_root()) std::filesystem::remove(path);
  return reached;
}

/// @param reached  takes the base's place; null: the base keeps it
MergeInput Pipeline::going_on_from(const std::shared_ptr<const TensorSource>& reached, MergeInput input) {
  if (!reached) return input;
  input.base = reached.get();
  input.base_statistics = nullptr;  // they are of another base
  return input;
}

MergeOutcome Pipeline::merge_with(const MergeRow& row, const Tasks& tasks, const MergeArrangement& arrangement) {
  const auto method = make_method(row.method, row.options, "merge." + row.name);
  terminal_.about(row.name);
  const auto reached = merge_earlier(row, tasks, arrangement);
  auto outcome =
      amalgam::merge(*method, going_on_from(reached, merge_input(*method, row, tasks)), terminal_, arrangement);
  reset_batch_norms(row, outcome, tasks);
  return outcome;
}

/// The merged model's own means and variances in its batch norms, over as many examples of each task, where the row
/// asks for them.
void Pipeline::reset_batch_norms(const MergeRow& row, MergeOutcome& outcome, const Tasks& tasks) {
  if (row.reset_batch_norms == 0 || !is_root()) return;
  BatchNormReset reset;
  std::vector<std::pair<std::string, const Dataset*>> data;
  for (const size_t i : tasks)
    data.emplace_back(recipe_.tasks[i].name, &dataset(i, split_from_name(recipe_.statistics.split)));
  const auto passes = reset_passes(data, recipe_.evaluate, static_cast<uint64_t>(recipe_.seed), row.reset_batch_norms);
  terminal_.begin("reset batch norms", std::ssize(passes));
  int64_t done = 0;
  for (const ResetPass& pass : passes) {
    const MemoryTensors merged(outcome.merged);
    const auto whose = std::ranges::find(recipe_.tasks, pass.task, &TaskSpec::name) - recipe_.tasks.begin();
    PartProgress part(terminal_, done++);
    reset.add(*open_task_model(static_cast<size_t>(whose), {&merged}), *pass.examples, part);
  }
  terminal_.end("");
  for (const auto& [name, value] : reset.buffers())
    if (!is_private(name)) outcome.merged[name] = value;
}

/// One TorchScript file: the experts' own with the merged parameters, or one with a submodule a task where tasks have
/// something of their own.
void Pipeline::write_model(const std::filesystem::path& path, const MergeOutcome& outcome) const {
  if (recipe_.private_patterns.empty() && outcome.task_parts.empty()) {
    save_merged(path, tasks_[0].expert.path, outcome.merged);
    return;
  }
  std::vector<TaskModel> models;
  for (size_t i = 0; i < tasks_.size(); ++i)
    models.push_back({recipe_.tasks[i].name, tasks_[i].expert.path, recipe_.tasks[i].output});
  save_multitask(path, models, outcome.merged, outcome.task_parts);
}

/// What a method that merges these tasks' experts depends on.
json Pipeline::method_inputs(const MergeRow& row, const Tasks& tasks) const {
  const auto needs = needs_of(row);
  json inputs = {{"method", row.method},
                 {"options", yaml_text(written_options(row, row.options))},
                 {"seed", seed_of(row)},
                 {"base", base_.digest},
                 {"private", recipe_.private_patterns}};
  if (base_statistics_ && needs.base_statistics) inputs["base_statistics"] = base_statistics_digest_;
  for (const size_t i : tasks) {
    const auto& expert = tasks_[i].expert;
    auto& known = inputs["experts"].emplace_back(
        json{{"task", recipe_.tasks[i].name},
             {"digest", expert.digest},
             {"file", expert.file},
             {"statistics", needs.statistics.empty() ? "" : tasks_[i].statistics_digest}});
    if (expert.adapter) known["adapter"] = digest_of(*expert.adapter);
    if (needs.probe) inputs["probe"].push_back(probe_inputs(i));
  }
  return inputs;
}

json Pipeline::merge_inputs_json(const MergeRow& row, const Tasks& tasks) {
  json inputs = method_inputs(row, tasks);
  for (size_t i = 0; i < tasks.size(); ++i) inputs["experts"][i]["weight"] = recipe_.tasks[tasks[i]].weight;
  inputs.update(search_inputs(row, tasks));
  if (row.reset_batch_norms > 0) {
    inputs["reset_batch_norms"] = {
        {"examples", row.reset_batch_norms}, {"batch", recipe_.evaluate.batch}, {"batches", "of all tasks"}};
    if (row.seed) inputs["reset_batch_norms"]["seed"] = recipe_.seed;  // draws the examples, whatever the row's own
    for (const size_t i : tasks)
      inputs["reset_data"].push_back(tasks_[i].data.at(split_from_name(recipe_.statistics.split))->digest());
  }
  if (row.router > 0) {
    auto& router = inputs["router"] = {{"examples", row.router}, {"seed", recipe_.seed}};
    for (const size_t i : tasks) router["data"].push_back({dataset(i, Split::kVal).digest(), recipe_.tasks[i].output});
  }
  if (merged_adapter_rank() > 0) inputs["adapter_rank"] = merged_adapter_rank();
  return inputs;
}

/// The model, its tensors, and how they were made.
void Pipeline::write_merged(const MergeRow& row, const MergeOutcome& outcome, const json& about) const {
  json made = {{"row", row.name},
               {"method", row.method},
               {"seed", seed_of(row)},
               {"base", base_.digest},
               {"report", to_json(outcome.report, shared_layers())},
               {"version", AMALGAM_VERSION},
               {"torch", AMALGAM_TORCH_VERSION},
               {"recipe", resolved_yaml(recipe_)}};
  made.update(about);
  if (merges_adapters()) made["adapter"] = write_merged_adapter(row, outcome.merged);
  write_safetensors(folder().merged(row.name, ".safetensors"), outcome.merged,
                    {{"row", row.name}, {"method", row.method}});
  if (keeps_task_parts(row))
    write_task_parts(folder().merged(row.name, ".tasks.safetensors"), MemoryTensors(outcome.task_parts),
                     MemoryTensors(outcome.merged), {{"row", row.name}, {"method", row.method}});
  write_model(folder().merged(row.name, ".pt"), outcome);
  write_file(folder().merged(row.name, ".merge.json"), made.dump(1) + "\n");
}

void Pipeline::merge_row(const MergeRow& row) {
  const auto tasks = all_tasks();
  const auto inputs = is_root() ? merge_inputs_json(row, tasks) : json();
  const auto work = [&] {
    auto arranged = search_arrangement(row, inputs);
    arranged.processes = &group_;
    auto made = make_row(row, tasks, arranged);
    if (!is_root()) return json();
    const auto router = row.router > 0 ? fit_router(row, tasks, made.outcome) : json();
    write_merged(row, made.outcome,
                 {{"options", yaml_text(written_options(row, made.options))},
                  {"inputs", digest_of_inputs(inputs)},
                  {"experts", inputs["experts"]},
                  {"base_statistics", inputs.value("base_statistics", "")},
                  {"reset_batch_norms", row.reset_batch_norms},
                  {"val_looks", made.val_looks},
                  {"router", router},
                  {"search", made.tried}});
    std::filesystem::remove_all(arranged.search_folder);  // of searches that are finished now
    return json{{"fallbacks", made.outcome.report.fallbacks.size()},
                {"candidates", made.tried.size()},
                {"val_looks", made.val_looks}};
  };
  std::vector outputs = {folder().merged(row.name, ".pt"), folder().merged(row.name, ".safetensors"),
                         folder().merged(row.name, ".merge.json")};
  if (keeps_task_parts(row)) outputs.push_back(folder().merged(row.name, ".tasks.safetensors"));
  if (merges_adapters())
    std::ranges::copy(peft_files(folder().merged(row.name, ".adapter")), std::back_inserter(outputs));
  const bool is_done = is_root() && !steps_.finished("merge", row.name, inputs, outputs).is_null();
  const bool was_done = group_.any(is_done);
  if (is_root()) {
    steps_.run("merge", row.name, inputs, outputs, work);
  } else if (!was_done) {
    work();
  }
}

void Pipeline::merge() {
  make_models();
  const MergeInput input = merge_input(all_tasks());
  check_experts(input);
  warn_of_resets(recipe_, selection_.row, input, terminal_);
  if (base_statistics_) check_base_statistics(*base_statistics_, base_.digest);
  if (needs_statistics()) collect();
  for (const auto& row : recipe_.merge) {
    if (!selection_.row.empty() && selection_.row != row.name) continue;
    merge_row(row);
  }
}

void Pipeline::write_hf() {
  if (!hf_folder_) return;
  const auto& row = selection_.row.empty() ? recipe_.merge.front().name : selection_.row;
  hf_folder_->write(SafetensorsFile(folder().merged(row, ".safetensors")), *base_.tensors);
}

}  // namespace amalgam
