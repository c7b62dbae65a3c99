// What can be known of a recipe before heavy work begins.
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "apps/hf_folder.h"
#include "apps/missing_models.h"
#include "apps/model_check.h"
#include "apps/pipeline.h"
#include "apps/recipe_needs.h"
#include "apps/recipe_training.h"
#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/patterns.h"
#include "models/artefact.h"
#include "solvers/check.h"
#include "solvers/methods/names_tasks.h"

namespace amalgam {

namespace fs = std::filesystem;

namespace {

/// Models whose tasks have something of their own become one file that runs each task, when all the work is done. What
/// is trained has the base's `forward`, and a base that is trained one that will do.
void check_multitask_models(const Recipe& recipe) {
  bool routed = false, of_tasks = !recipe.private_patterns.empty();
  for (const auto& row : recipe.merge) {
    routed = routed || row.router > 0;
    of_tasks = of_tasks || keeps_task_parts(row);
  }
  std::vector<TaskModel> models;
  for (const auto& task : recipe.tasks)
    if (const auto& model = task.expert.model.empty() ? recipe.base.model : task.expert.model; !model.empty())
      models.push_back({task.name, model, task.output});
  if (of_tasks) check_multitask(models, routed);
}

/// What weights and names of tasks tell of a row, however it is tried.
void check_tasks_of_row(const std::string& where, const MergeRow& row, const std::vector<ExpertInput>& experts) {
  for (const MergeStage& stage : tried_stages(row)) {
    const auto method = make_method(stage.method, stage.options, where);
    check_weights(*method, experts);
    check_task_names(*method, experts);
  }
}

/// Likewise of a donor's row, which merges two tasks with each of its weights.
void check_tasks_of_donors(const DonorRow& row, const std::vector<TaskSpec>& tasks) {
  const auto where = "donors." + row.merge.name;
  for (const auto& target : tasks)
    for (const auto& donor : tasks)
      for (const double weight : row.weights) {
        if (&donor == &target) continue;
        try {
          check_tasks_of_row(where, row.merge,
                             {{target.name, 1.0, nullptr, nullptr}, {donor.name, weight, nullptr, nullptr}});
        } catch (const InputError& error) {
          throw InputError(fmt::format("{}: '{}' with weight {} into '{}': {}", where, donor.name, weight, target.name,
                                       error.what()));
        }
      }
}

/// What is allowed, and seldom meant.
void warn(const Recipe& recipe, Terminal& terminal) {
  for (const auto& task : recipe.tasks)
    if (task.weight == 0)
      terminal.message(
          fmt::format("tasks.{}.weight is 0: its expert has no say in merges that weigh tasks", task.name));
}

}  // namespace

void Pipeline::check() {
  check_selection();
  for (const auto& word : recipe_.statistics.kinds) kinds_from_word(word);
  check_weights_of_rows();
  check_parts_of_rows();
  check_data();
  check_given_models();
  check_multitask_models(recipe_);
  check_given_statistics();
  check_base();
  check_write_hf();
  check_adapters();
  if (!group_.is_root()) return;
  write_file(folder().recipe(), resolved_yaml(recipe_));
  terminal_.log_to(folder().log());
  warn(recipe_, terminal_);
}

void Pipeline::check_selection() const {
  std::vector<std::string> tasks, rows;
  for (const auto& task : recipe_.tasks) tasks.push_back(task.name);
  for (const auto& row : recipe_.merge) rows.push_back(row.name);
  std::vector<std::string> scored = rows;
  for (const auto& row : recipe_.merge)
    if (row.router > 0) scored.push_back(routed_name(row.name));
  const auto require_one = [](const std::string& chosen, const std::vector<std::string>& known, const char* option) {
    require_input(chosen.empty() || std::find(known.begin(), known.end(), chosen) != known.end(),
                  "{} {}: the recipe has none of that name{}", option, chosen, suggestion(chosen, known));
  };
  require_one(selection_.task, tasks, "--task");
  require_one(selection_.row, rows, "--method");
  const auto& splits = recipe_.evaluate.splits;
  require_input(selection_.split.empty() || std::ranges::count(splits, selection_.split) > 0,
                "--split {}: the recipe scores only {}; give one of these, or add it to `evaluate.splits`",
                selection_.split, fmt::join(splits, ", "));
  // Rows become files: two names must not become one.
  std::map<std::string, std::string> stems = {{"base", "base"}, {"expert", "expert"}};
  for (const auto& row : scored) {
    const auto [known, fresh] = stems.emplace(file_stem(row), row);
    require_input(fresh, "merge: the rows '{}' and '{}' would both be written to files named {}; give one another name",
                  known->second, row, known->first);
  }
}

void Pipeline::check_weights_of_rows() const {
  auto merged = protocol_subsets();
  merged.push_back(all_tasks());
  for (const auto& subset : merged) {
    std::vector<ExpertInput> experts;
    for (const size_t i : subset) experts.push_back({recipe_.tasks[i].name, recipe_.tasks[i].weight, nullptr, nullptr});
    for (const auto& row : recipe_.merge) check_tasks_of_row("merge." + row.name, row, experts);
  }
  for (const auto& row : recipe_.donors) check_tasks_of_donors(row, recipe_.tasks);
}

/// What is for one model of all tasks, and not for models that keep a part for each.
void Pipeline::check_parts_of_rows() const {
  for (const auto& row : recipe_.merge) {
    if (!keeps_task_parts(row)) continue;
    require_input(
        row.reset_batch_norms == 0,
        "merge.{}.reset_batch_norms: with '{}' each task keeps its expert's own means and variances; leave it "
        "out",
        row.name, row.method);
    require_input(row.router == 0 || tasks_.size() > 1, "merge.{}.router: there is one task, and none to tell it from",
                  row.name);
    for (const auto& task : recipe_.tasks)
      require_input(row.router == 0 || task.loss.kind() == LossSpec::Kind::kCrossEntropy,
                    "merge.{}.router: it goes by outputs that are classes, and the loss of task '{}' is {}", row.name,
                    task.name, task.loss.name);
    for (const auto& other : recipe_.merge)
      require_input(file_stem(other.name) != file_stem(row.name) + ".tasks",
                    "merge: the row '{}' would be written to the file of the parts of '{}'; give it another name",
                    other.name, row.name);
    const bool chosen = selection_.row.empty() ? recipe_.merge.size() == 1 : selection_.row == row.name;
    require_input(selection_.write_hf.empty() || !chosen,
                  "--write-hf: the row '{}' has a model for each task; write one with `amalgam reconstruct`", row.name);
  }
}

void Pipeline::check_data() {
  if (recipe_.base.model.empty()) {
    for (const auto split : {Split::kTrain, Split::kVal}) base_data_[split] = open_base_data(split);
    check_training_data(recipe_.base.train, *base_data_.at(Split::kTrain), "base.train");
  }
  for (size_t i = 0; i < tasks_.size(); ++i) {
    const auto& task = recipe_.tasks[i];
    const auto& observed = dataset(i, split_from_name(recipe_.statistics.split));
    const bool chosen = selection_.task.empty() || selection_.task == task.name;
    require_input(!chosen || !task.statistics.empty() || recipe_.statistics.first < observed.size(),
                  "statistics.first: task '{}' has {} examples of {}, and {} is behind them; give a smaller number",
                  task.name, observed.size(), recipe_.statistics.split, recipe_.statistics.first);
    require_input(!chosen || !task.statistics.empty() || kinds_for(selection_.row).empty() || observed.size() >= 2,
                  "tasks.{}: statistics take at least two examples, to tell the layers apart, and {} has {}; give "
                  "more, or another `statistics.split`",
                  task.name, recipe_.statistics.split, observed.size());
    for (const auto& split : splits()) dataset(i, split_from_name(split));
    for (const auto& row : recipe_.merge) {
      if (!selection_.row.empty() && selection_.row != row.name) continue;
      const auto looked_at = searched_splits(row);
      if (looked_at.scores_val || row.router > 0) dataset(i, Split::kVal);
      require_input(row.router == 0 || dataset(i, Split::kVal).get({0}).target.dim() == 1,
                    "merge.{}.router: it goes by one output an example, and the examples of task '{}' have a target a "
                    "token",
                    row.name, task.name);
      for (const auto split : looked_at.entropy) dataset(i, split);
    }
    // Weights of donors are chosen on val, whatever splits are scored.
    if (!recipe_.donors.empty()) dataset(i, Split::kVal);
    if (!recipe_.donors.empty() || recipe_.protocol.is_on()) dataset(i, split_from_name(reported_split()));
    const auto classes = observed.classes();
    require_input(task.metric != "f1" || task.loss.kind() != LossSpec::Kind::kCrossEntropy || classes <= 2,
                  "tasks.{}.metric: f1 is of two classes, and the data have {}; use macro_f1", task.name, classes);
    if (!task.expert.is_trained()) continue;
    dataset(i, Split::kVal);
    check_training_data(task.expert.train, dataset(i, Split::kTrain), "tasks." + task.name + ".expert.train");
  }
}

void Pipeline::check_given_models() {
  if (!recipe_.base.model.empty()) make_base();
  MergeInput given;
  given.base = base_.tensors.get();
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (recipe_.tasks[i].expert.model.empty()) continue;
    // An expert's change is measured against the base: where that is still to be trained, the expert is opened after
    // it.
    if (!base_.tensors) {
      open_model(recipe_.tasks[i].expert.model, at::kCPU);
      continue;
    }
    make_expert(i);
    given.experts.push_back({recipe_.tasks[i].name, recipe_.tasks[i].weight, tasks_[i].expert.tensors.get(), nullptr});
  }
  given.parameters = shared(base_.parameters);
  given.buffers = shared(base_.buffers);
  if (!given.experts.empty()) check_experts(given);
  for (size_t i = 0; i < tasks_.size(); ++i) {
    const auto& task = recipe_.tasks[i];
    const std::string from_base = has_own_head() && task.expert.is_trained() ? std::string() : recipe_.base.model;
    const auto& model = task.expert.model.empty() ? from_base : task.expert.model;
    const auto open = [&] {
      return model.empty() ? untrained_expert(i) : open_model(model, device_, {.output = task.output});
    };
    check_output(open, task, dataset(i, split_from_name(recipe_.statistics.split)), device_);
  }
}

void Pipeline::check_given_statistics() {
  if (const std::string& path = recipe_.base.statistics; !path.empty()) {
    base_statistics_ = Statistics::load(path);
    base_statistics_digest_ = digest_of_file(open_safetensors(path)->path());
    if (base_.tensors) check_base_statistics(*base_statistics_, base_.digest);
  }
  for (size_t i = 0; i < tasks_.size(); ++i) {
    const auto& task = recipe_.tasks[i];
    if (task.statistics.empty()) continue;
    tasks_[i].statistics = Statistics::load(task.statistics);
    tasks_[i].statistics_digest = digest_of_file(open_safetensors(task.statistics)->path());
    if (tasks_[i].expert.tensors) check_statistics(*tasks_[i].statistics, tasks_[i].expert.digest, task.name);
  }
  std::vector<std::optional<std::set<StatisticKind>>> given(tasks_.size());
  for (size_t i = 0; i < tasks_.size(); ++i)
    if (tasks_[i].statistics) given[i] = tasks_[i].statistics->header().kinds;
  check_needed_kinds(recipe_, selection_.row, given);
}

void Pipeline::check_write_hf() {
  if (selection_.write_hf.empty() || !is_root()) return;
  require_input(!selection_.row.empty() || recipe_.merge.size() == 1,
                "--write-hf: the recipe has {} rows; say which one with --method", recipe_.merge.size());
  require_input(base_.tensors != nullptr,
                "--write-hf: the recipe trains its base, and transformers loads only what came from it: give `base: "
                "{{model: …}}` as `python -m amalgam_export encoder` wrote it (docs/export.md)");
  hf_folder_ = std::make_unique<HfFolder>(recipe_.base.model, selection_.write_hf);
  std::map<std::string, TensorInfo> infos;
  for (const auto& [name, info] : base_.tensors->infos())
    if (!is_private(name)) infos.emplace(name, info);
  hf_folder_->check(infos);
}

/// What the base's parameters tell: of a file, or of a model made the way the base will be.
void Pipeline::check_base() {
  double bytes = 0;
  std::vector<std::string> names = base_.parameters;
  if (base_.tensors) {
    bytes = static_cast<double>(fs::file_size(base_.tensors->path()));
  } else {
    for (const auto& [name, tensor] : new_base()->parameters()) {
      bytes += static_cast<double>(tensor.nbytes());
      names.push_back(name);
    }
  }
  require_matches("private", recipe_.private_patterns, names);
  if (!base_.tensors) require_matches("base.train.trainable", recipe_.base.train.finetune.trainable, names);
  for (const auto& task : recipe_.tasks)
    if (task.expert.is_trained())
      require_matches(fmt::format("tasks.{}.expert.train.trainable", task.name), task.expert.train.finetune.trainable,
                      names);
  require_input(!shared(names).empty(), "private: nothing is left to merge; name only what belongs to one task");
  std::vector<std::string> buffers = base_.buffers;
  if (!base_.tensors)
    for (const auto& [name, tensor] : new_base()->buffers()) buffers.push_back(name);
  for (const auto& row : recipe_.merge)
    require_input(row.reset_batch_norms == 0 || !shared(buffers).empty(),
                  "merge.{}.reset_batch_norms: the base has no buffers{}, so no batch norms that keep means and "
                  "variances; leave it out",
                  row.name, buffers.empty() ? "" : " that the tasks share");
  const double needed = bytes * static_cast<double>(missing_models(recipe_, folder(), selection_.row).size());
  const double free = static_cast<double>(fs::space(folder().root()).available);
  require_input(
      free >= needed,
      "{}: there are {} free, the models that the run still makes need {}; free some space, or choose another disk "
      "with --runs",
      folder().root().string(), format_bytes(free), format_bytes(needed));
}

}  // namespace amalgam
