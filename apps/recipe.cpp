#include "apps/recipe.h"

#include <algorithm>
#include <set>

#include "core/atomic_file.h"
#include "core/error.h"
#include "datasets/split.h"
#include "models/architectures/architecture.h"
#include "models/artefact.h"
#include "models/labels.h"
#include "models/metric.h"
#include "solvers/methods/method.h"

namespace amalgam {
namespace {

/// The item of a list that `key` means: its number, its `name`, its `method`, or the item itself where it is a word.
YAML::Node find_item(const YAML::Node& list, const std::string& key, const std::string& where) {
  std::vector<std::string> known;
  for (size_t i = 0; i < list.size(); ++i) {
    YAML::Node item = list[i];
    std::string name = std::to_string(i);
    if (item.IsScalar()) name = item.Scalar();
    if (item.IsMap() && item["method"]) name = item["method"].Scalar();
    if (item.IsMap() && item["name"]) name = item["name"].Scalar();
    if (name == key || std::to_string(i) == key) {
      // A row that is a bare method name becomes a map, so that a key can be set in it.
      if (item.IsScalar()) {
        const auto method = item.Scalar();
        item = YAML::Node(YAML::NodeType::Map);
        item["method"] = method;
        YAML::Node items = list;
        items[i] = item;
      }
      return item;
    }
    known.push_back(name);
  }
  throw InputError(fmt::format("--set {}: there is no '{}'{}", where, key, suggestion(key, known)));
}

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> keys(1);
  for (const char c : path) {
    if (c == '.') {
      keys.emplace_back();
    } else {
      keys.back() += c;
    }
  }
  return keys;
}

void apply_override(YAML::Node root, const std::string& text) {
  const auto equals = text.find('=');
  require_input(equals != std::string::npos && equals > 0,
                "--set {}: expected key=value, for example --set statistics.examples=500", text);
  const auto path = text.substr(0, equals);
  const auto keys = split_path(path);
  YAML::Node value;
  try {
    value = YAML::Load(text.substr(equals + 1));
  } catch (const YAML::Exception& error) {
    throw InputError(fmt::format("--set {}: the value is no YAML: {}", path, error.msg));
  }
  YAML::Node node = root;
  for (size_t i = 0; i + 1 < keys.size(); ++i) {
    YAML::Node next = node.IsSequence() ? find_item(node, keys[i], path) : node[keys[i]];
    node.reset(next);
  }
  require_input(!node.IsScalar(), "--set {}: '{}' holds a single value, not keys", path, keys[keys.size() - 2]);
  if (node.IsSequence()) {
    find_item(node, keys.back(), path).reset(value);
  } else {
    node[keys.back()] = value;
  }
}

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

const std::vector<std::string> kReservedRows = {"base", "expert"};

/// Splits a row's node into what all rows have and the method's own options.
MergeRow read_row(const YAML::Node& node, const std::string& where) {
  MergeRow row;
  row.options = YAML::Node(YAML::NodeType::Map);
  if (node.IsScalar()) {
    row.method = node.Scalar();
  } else {
    require_input(node.IsMap() && node["method"] && node["method"].IsScalar(),
                  "{}: expected a method's name or a map with the key `method`", where);
    row.method = node["method"].Scalar();
    for (const auto& entry : node) {
      const auto key = entry.first.Scalar();
      if (key == "name") {
        require_input(entry.second.IsScalar() && !entry.second.Scalar().empty(), "{}.name: expected a text", where);
        row.name = entry.second.Scalar();
      } else if (key == "search") {
        require_input(entry.second.IsMap() && entry.second.size() > 0,
                      "{}.search: expected options with lists of values", where);
        for (const auto& option : entry.second) {
          const auto name = option.first.Scalar();
          require_input(option.second.IsSequence() && option.second.size() > 0,
                        "{}.search.{}: expected a list of values", where, name);
          row.search.emplace_back(name, std::vector<YAML::Node>(option.second.begin(), option.second.end()));
        }
      } else if (key != "method") {
        row.options[key] = YAML::Clone(entry.second);
      }
    }
  }
  if (row.name.empty()) row.name = row.method;
  return row;
}

/// `init: <row>` becomes what the row says, so that a method needs to know no rows.
void inline_rows(std::vector<MergeRow>& rows) {
  for (auto& row : rows) {
    const YAML::Node init = row.options["init"];
    if (!init.IsDefined() || !init.IsScalar()) continue;
    const auto named =
        std::find_if(rows.begin(), rows.end(), [&](const MergeRow& other) { return other.name == init.Scalar(); });
    if (named == rows.end() || named->name == named->method) continue;
    require_input(named->name != row.name, "merge.{}.init: a row cannot start from itself", row.name);
    require_input(named->search.empty(),
                  "merge.{}.init: '{}' is found by a search, so it is no start; give its options", row.name,
                  named->name);
    YAML::Node inlined = YAML::Clone(named->options);
    inlined["method"] = named->method;
    row.options["init"] = inlined;
  }
}

void read_rows(Recipe& recipe) {
  require_list(recipe.merge_node, "merge");
  std::set<std::string> names(kReservedRows.begin(), kReservedRows.end());
  for (size_t i = 0; i < recipe.merge_node.size(); ++i) {
    auto row = read_row(recipe.merge_node[i], fmt::format("merge[{}]", i));
    require_input(names.insert(row.name).second,
                  "merge: there are two rows of the name '{}' ({}); give one of them another `name`", row.name,
                  "base and expert are always there");
    recipe.merge.push_back(std::move(row));
  }
  inline_rows(recipe.merge);
  for (const auto& row : recipe.merge) {
    make_method(row.method, row.options, "merge." + row.name);  // options are checked here, before any work
    for (const auto& [option, values] : row.search)
      for (const auto& value : values) {
        auto options = YAML::Clone(row.options);
        options[option] = value;
        make_method(row.method, options, fmt::format("merge.{}.search", row.name));
      }
  }
}

void read_donors(Recipe& recipe) {
  if (!recipe.donors_node.IsDefined() || recipe.donors_node.IsNull()) return;
  require_list(recipe.donors_node, "donors");
  std::set<std::string> names;
  for (size_t i = 0; i < recipe.donors_node.size(); ++i) {
    const auto where = fmt::format("donors[{}]", i);
    YAML::Node node = YAML::Clone(recipe.donors_node[i]);
    DonorRow donor;
    if (node.IsMap() && node["weights"].IsDefined()) {
      YAML::Node weights;
      weights["weights"] = node["weights"];
      OptionSet set;
      set.reals("weights", donor.weights, {0, 1e6}, "of the donor");
      set.read(weights, where);
      require_input(!donor.weights.empty(), "{}.weights: give at least one weight of the donor", where);
      node.remove("weights");
    }
    donor.merge = read_row(node, where);
    require_input(donor.merge.search.empty(), "{}.search: a donor's row searches its `weights` alone", where);
    require_input(names.insert(donor.merge.name).second, "donors: there are two rows of the name '{}'",
                  donor.merge.name);
    make_method(donor.merge.method, donor.merge.options, where);
    recipe.donors.push_back(std::move(donor));
  }
  require_input(recipe.donors.empty() || recipe.tasks.size() > 1, "donors: there is one task, and no other to give");
}

/// Settings of a search are compared by their mean over the tasks, which must have one.
void check_searches(const Recipe& recipe) {
  const auto& first = recipe.tasks[0].metric;
  for (const auto& row : recipe.merge)
    for (const auto& task : recipe.tasks)
      require_input(
          row.search.empty() || find_metric(task.metric).higher_is_better == find_metric(first).higher_is_better,
          "merge.{}.search: settings are compared by the mean over the tasks, and there is none of {} and {}, "
          "since in one of them lower is better; leave out the search, or search in a recipe for each",
          row.name, first, task.metric);
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
  if (recipe.base.model.empty()) recipe.base_data = resolve_data(recipe, recipe.base.train.data, "base.train.data");
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
    require_input(task.expert.train.architecture.empty(),
                  "{}.expert.train.architecture: an expert has the base's architecture", where);
  }
  for (const auto& split : recipe.evaluate.splits) split_from_name(split);
  read_rows(recipe);
  read_donors(recipe);
  check_searches(recipe);
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

void TrainSpec::declare(OptionSet& set) {
  set.text("architecture", architecture, "of the base: vision_transformer, convolutional, mlp");
  set.node("options", architecture_options, "of the architecture");
  set.node("data", data, "of the base: a data section, or the name of one under `data`");
  set.node("augment", augment, "random transforms of the training examples");
  finetune.declare(set);
}

void ModelSpec::declare(OptionSet& set) {
  set.text("model", model, "a TorchScript file");
  set.section("train", train, "how to make the model where no file is given");
}

void ExpertSpec::declare(OptionSet& set) {
  ModelSpec::declare(set);
  set.text("adapter", adapter, "a folder of PEFT (adapter_config.json, adapter_model.safetensors) for the base");
}

void BaseSpec::declare(OptionSet& set) {
  ModelSpec::declare(set);
  set.text("statistics", statistics, "a file of squared gradients of the base on data of its own (gradient_matching)");
}

void TaskSpec::declare(OptionSet& set) {
  set.text("name", name, "an identifier");
  set.node("data", data_node, "a data section, or the name of one under `data`");
  set.section_or_word("loss", loss, "name", "cross_entropy, binary_cross_entropy, mean_squared_error");
  set.text("metric", metric, "accuracy, f1, macro_f1, matthews, perplexity; of mean_squared_error r_squared, pearson");
  set.text("output", output, "which tensor of what the model returns: a key, an attribute, a position");
  set.section("expert", expert, "the model fine-tuned on this task");
  set.text("statistics", statistics, "a file of statistics to be used in place of collecting");
  set.real("weight", weight, {-OptionSet::kInfinity, OptionSet::kInfinity}, "of the expert in every method");
}

void StatisticsSpec::declare(OptionSet& set) {
  set.texts("kinds", kinds,
            "input_gram, kronecker, kronecker_reduced, squared_gradient, gradient_gram, moments; empty: what the "
            "methods need");
  set.integer("examples", examples, {1, 1e12}, "examples a task");
  set.choice("labels", labels, {"true", "sampled", "exact"}, "whose labels the gradients are of");
  set.real("temperature", temperature, {1e-3, 1e6},
           "gradients are of the loss of output / temperature; above 1, fitted examples count for more");
  set.choice("split", split, {"train", "val"}, "where the examples are from");
  set.integer("batch", batch, {1, 1e9}, "examples a pass");
  set.integer("first", first, {0, 1e12},
              "the number of the first example, along an order that the seed draws: parts that begin at different "
              "numbers can be added up (`amalgam stats add`)");
  set.integer("checkpoint_every", checkpoint_every, {0, 1e12},
              "progress is saved after so many examples; 0: only when the program is asked to stop");
  set.bytes("memory", memory, "that sums may take at a time (4GiB); more are collected in several passes; 0: no limit");
  set.flag("strict", strict, "a parameter that is merged and has no statistic is an error");
  collector.declare(set);
}

void EvaluateSpec::declare(OptionSet& set) {
  set.texts("splits", splits, "val, test, train");
  set.integer("batch", batch, {1, 1e9}, "examples a pass");
  set.integer("examples", examples, {0, 1e12},
              "examples of each split, drawn by the seed, the same for every row; 0: all");
  set.flag("predictions", predictions, "what each model says of each example is kept, too");
}

void ReportSpec::declare(OptionSet& set) {
  set.text("title", title, "the page's headline; default: the recipe's name");
  set.text("reference", reference,
           "the row that the others are compared with where there are predictions; default: one of regmean, or else of "
           "average");
}

void Recipe::declare(OptionSet& set) {
  set.text("name", name, "the run's folder is runs/<name>");
  set.integer("seed", seed, {0, 9e15}, "of every random draw");
  set.text("device", device, "auto | cpu | cuda | cuda:1");
  set.text("output", output, "of every task that says nothing else");
  set.node("data", data, "data sections by name");
  set.section("base", base, "the model that every expert was fine-tuned from");
  set.texts("private", private_patterns, "parameter name patterns that are never merged");
  set.sections("tasks", tasks, "one expert each");
  set.section("statistics", statistics, "what is collected");
  set.node("merge", merge_node, "the rows: a method each");
  set.node("donors", donors_node, "rows, with `weights`: each task's expert merged into each other task's");
  set.integer("adapter_rank", adapter_rank, {0, 1e6},
              "of the merged adapters, where every expert is one; 0: the largest of the experts'");
  set.section("evaluate", evaluate, "what is scored");
  set.section("report", report, "the page");
}

std::vector<YAML::Node> settings_of(const MergeRow& row) {
  std::vector<YAML::Node> all = {YAML::Clone(row.options)};
  for (const auto& [option, values] : row.search) {
    std::vector<YAML::Node> longer;
    for (const auto& node : all)
      for (const auto& value : values) {
        auto next = YAML::Clone(node);
        next[option] = value;
        longer.push_back(next);
      }
    all = std::move(longer);
  }
  return all;
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
