#include "apps/recipe.h"

#include <algorithm>
#include <set>

#include "apps/recipe_overrides.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "datasets/split.h"
#include "models/architectures/architecture.h"
#include "models/artefact.h"
#include "models/entropy.h"
#include "models/labels.h"
#include "models/metric.h"
#include "solvers/methods/method.h"

namespace amalgam {
namespace {

/// A data section that is given in place, or by its name under `data`.
DataSpec resolve_data(const Recipe& recipe, const YAML::Node& node, const std::string& where) {
  DataSpec spec;
  YAML::Node section = node;
  if (node.IsScalar()) {
    std::vector<std::string> names;
    for (const auto& entry : recipe.data) names.push_back(entry.first.Scalar());
    require_input(std::find(names.begin(), names.end(), node.Scalar()) != names.end(),
                  "{}: there is no data section '{}' under the recipe's `data`{}", where, node.Scalar(),
                  suggestion(node.Scalar(), names));
    section = recipe.data[node.Scalar()];
  }
  require_input(section.IsMap(),
                "{}: expected a data section, for example {{format: idx, root: /usr/share/datasets/fashion-mnist}}",
                where);
  read_options(spec, section, where);
  require_input(!spec.root.empty(), "{}.root: the folder of the data is missing", where);
  return spec;
}

/// One data section, or a list of them.
void read_base_data(Recipe& recipe) {
  const YAML::Node& node = recipe.base.train.data;
  const std::string where = "base.train.data";
  if (!node.IsSequence()) {
    recipe.base_data = {resolve_data(recipe, node, where)};
    return;
  }
  require_input(node.size() > 1, "{}: a list is for the union of several data sections, and there are {}", where,
                node.size());
  require_input(!recipe.private_patterns.empty(),
                "{}: a classifier of several tasks' classes has a head that no task can use whole: name it under "
                "`private`, for example [\"head.*\"]",
                where);
  for (size_t i = 0; i < node.size(); ++i)
    recipe.base_data.push_back(resolve_data(recipe, node[i], fmt::format("{}[{}]", where, i)));
}

/// What is chosen by scores is compared by their mean over the tasks, which must have one; what is chosen by entropies
/// needs predictions that have one.
void check_searches(const Recipe& recipe) {
  const auto& first = recipe.tasks[0].metric;
  for (const auto& row : recipe.merge) {
    const auto needs = make_method(row.method, row.options, "merge." + row.name)->requirements();
    for (const auto& task : recipe.tasks) {
      require_input(
          (row.search.empty() && !needs.val_scores) ||
              find_metric(task.metric).higher_is_better == find_metric(first).higher_is_better,
          "merge.{}{}: what is searched for is compared by the mean over the tasks, and there is none of {} and {}, "
          "since in one of them lower is better; leave out the search, or search in a recipe for each",
          row.name, row.search.empty() ? "" : ".search", first, task.metric);
      require_input(needs.entropy_split.empty() || has_entropy(task.loss.kind()),
                    "merge.{}: '{}' goes by the entropy of predictions, and those of task '{}' are numbers ({}), which "
                    "have none; leave the row out, or take `cma_es`, which goes by scores",
                    row.name, row.method, task.name, task.loss.name);
    }
  }
}

void check_splits(const std::vector<std::string>& splits) {
  require_input(!splits.empty(), "evaluate.splits: nothing would be scored; give at least one of val, test, train");
  std::set<std::string> known;
  for (const auto& split : splits) {
    split_from_name(split);
    require_input(known.insert(split).second, "evaluate.splits: '{}' stands there twice", split);
  }
}

/// What an expert has of the base and of its task, and so cannot be told how to make.
void check_expert(const TrainSpec& train, const std::string& where) {
  require_input(train.architecture.empty() && train.architecture_options.IsNull(),
                "{0}.{1}: an expert has the base's architecture, with its options; leave `{1}` out", where,
                train.architecture.empty() ? "options" : "architecture");
  require_input(train.data.IsNull(), "{}.data: an expert is trained on its task's `data`; leave it out here", where);
}

void check(Recipe& recipe) {
  require_input(!recipe.name.empty() && recipe.name.find('/') == std::string::npos && recipe.name[0] != '.',
                "name: a recipe needs a name that can be a folder's, '{}' cannot", recipe.name);
  require_input(!recipe.tasks.empty(), "tasks: a recipe needs at least one task");
  require_input(!recipe.base.model.empty() || !recipe.base.train.architecture.empty(),
                "base: give the file of a model (`model`), or how to make it (`train` with an `architecture`)");
  require_input(recipe.base.train.finetune.heads.steps == 0,
                "base.train.heads: the base is trained whole; `heads` is for experts with private parameters");
  require_input(!recipe.base.train.finetune.adapter.is_on(),
                "base.train.adapter: the base is trained whole; an adapter changes a base that there is already");
  if (recipe.base.model.empty()) read_base_data(recipe);
  std::set<std::string> names;
  for (auto& task : recipe.tasks) {
    const auto where = "tasks." + task.name;
    require_task_name(task.name);
    require_input(task.name != "base",
                  "tasks: the name 'base' is the base model's, whose files it would share; give the task another");
    require_input(names.insert(task.name).second, "tasks: there are two tasks of the name '{}'", task.name);
    task.data = resolve_data(recipe, task.data_node, where + ".data");
    check_loss(task.loss, where + ".loss");
    fitting_metric(task.metric, task.loss, where + ".metric");
    check_temperature(recipe.statistics.temperature, task.loss, "statistics.temperature (task " + task.name + ")");
    if (task.output.empty()) task.output = recipe.output;
    require_input(task.expert.train.finetune.heads.steps == 0 || !recipe.private_patterns.empty(),
                  "{}.expert.train.heads: nothing is private that could be fitted alone; name the head's parameters "
                  "under `private`, for example [\"head.*\"]",
                  where);
    require_input(task.expert.model.empty() || task.expert.adapter.empty(),
                  "{}.expert: give the file of a model (`model`) or a folder of PEFT (`adapter`), not both", where);
    check_expert(task.expert.train, where + ".expert.train");
  }
  check_splits(recipe.evaluate.splits);
  recipe.merge_node = with_seeds(recipe.merge_node);
  recipe.merge = read_rows(recipe.merge_node);
  recipe.donors = read_donors(recipe.donors_node);
  require_input(recipe.donors.empty() || recipe.tasks.size() > 1, "donors: there is one task, and no other to give");
  check_searches(recipe);
  resolve_protocol(recipe.protocol, {names.begin(), names.end()});
  std::vector<std::string> rows;
  for (const auto& row : recipe.merge) rows.push_back(row.name);
  const auto& reference = recipe.report.reference;
  require_input(reference.empty() || std::ranges::count(rows, reference) > 0,
                "report.reference: there is no row '{}' under `merge`{}", reference, suggestion(reference, rows));
}

YAML::Node load_yaml(const std::filesystem::path& path) {
  try {
    return YAML::Load(read_file(path));
  } catch (const YAML::Exception& error) {
    throw InputError(fmt::format("{}:{}:{}: {}", path.string(), error.mark.line + 1, error.mark.column + 1, error.msg));
  }
}

}  // namespace

std::vector<std::pair<std::string, const MergeRow*>> all_rows(const Recipe& recipe) {
  std::vector<std::pair<std::string, const MergeRow*>> rows;
  for (const auto& row : recipe.merge) rows.emplace_back("merge." + row.name, &row);
  for (const auto& row : recipe.donors) rows.emplace_back("donors." + row.merge.name, &row.merge);
  return rows;
}

Recipe read_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  require_input(std::filesystem::exists(path),
                "there is no recipe {}; give the path of a YAML file, for example configs/quickstart.yaml",
                path.string());
  YAML::Node root = load_yaml(path);
  try {
    for (const auto& text : overrides) apply_override(root, text);
    Recipe recipe;
    read_options(recipe, root, "");
    check(recipe);
    return recipe;
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path.string(), error.what()));
  } catch (const YAML::Exception& error) {
    throw InputError(fmt::format("{}: {}", path.string(), error.what()));
  }
}

std::string resolved_yaml(const Recipe& recipe) { return yaml_text(write_options(recipe)) + "\n"; }

}  // namespace amalgam
