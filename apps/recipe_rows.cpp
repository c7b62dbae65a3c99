#include "apps/recipe_rows.h"

#include <algorithm>
#include <set>

#include "apps/recipe_chains.h"
#include "core/error.h"
#include "core/options.h"
#include "solvers/methods/task_part_method.h"

namespace amalgam {
namespace {

const std::vector<std::string> kReservedRows = {"base", "expert"};

/// Reads one key of a node that holds others, too.
void read_key(OptionSet& set, const YAML::Node& node, const std::string& key, const std::string& where) {
  YAML::Node only;
  only[key] = node[key];
  set.read(only, where);
}

int64_t read_integer(const YAML::Node& node, const std::string& key, OptionSet::Range range, const std::string& where) {
  int64_t value = 0;
  OptionSet set;
  set.integer(key, value, range, "");
  read_key(set, node, key, where);
  return value;
}

void read_search(MergeRow& row, const YAML::Node& node, const std::string& where) {
  require_input(node.IsMap() && node.size() > 0, "{}.search: expected options with lists of values", where);
  for (const auto& option : node) {
    const auto name = option.first.Scalar();
    require_input(option.second.IsSequence() && option.second.size() > 0, "{}.search.{}: expected a list of values",
                  where, name);
    row.search.emplace_back(name, std::vector<YAML::Node>(option.second.begin(), option.second.end()));
  }
}

/// Splits a row's node into what all rows have and the method's own options.
MergeRow read_one(const YAML::Node& node, const std::string& where) {
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
      } else if (key == "seed") {
        row.seed = read_integer(node, key, {0, 9e15}, where);
      } else if (key == "reset_batch_norms") {
        row.reset_batch_norms = read_integer(node, key, {0, 1e12}, where);
      } else if (key == "router") {
        row.router = read_integer(node, key, {0, 1e9}, where);
      } else if (key == "search") {
        read_search(row, entry.second, where);
      } else if (key != "method" && key != "seeds" && key != "then") {
        row.options[key] = YAML::Clone(entry.second);
      }
    }
  }
  return row;
}

/// A row of one method, or of several by `then`.
MergeRow read_row(const YAML::Node& node, const std::string& where) {
  MergeRow row = read_one(node, where);
  std::string name = row.method, place = where;
  for (YAML::Node next = node; next.IsMap() && next["then"].IsDefined();) {
    next.reset(next["then"]);
    require_input(row.search.empty(), "{0}.search: this method's result is another's start; search in the last `then`",
                  place);
    place += ".then";
    MergeRow then = read_one(next, place);
    require_input(
        then.name.empty() && !then.seed && then.reset_batch_norms == 0 && then.router == 0 &&
            !(next.IsMap() && next["seeds"].IsDefined()),
        "{}: `name`, `seed`, `seeds`, `reset_batch_norms` and `router` are the whole row's; give them beside the first "
        "method",
        place);
    row.earlier.push_back({row.method, row.options});
    row.method = then.method;
    row.options.reset(then.options);
    row.search = std::move(then.search);
    name += ", then " + then.method;
  }
  if (row.name.empty()) row.name = name;
  return row;
}

}  // namespace

YAML::Node with_seeds(const YAML::Node& list) {
  YAML::Node rows(YAML::NodeType::Sequence);
  if (!list.IsDefined() || list.IsNull()) return rows;
  require_list(list, "merge");
  for (size_t i = 0; i < list.size(); ++i) {
    if (!list[i].IsMap() || !list[i]["seeds"].IsDefined()) {
      rows.push_back(list[i]);
      continue;
    }
    const auto where = fmt::format("merge[{}]", i);
    const auto name = read_row(list[i], where).name;
    std::vector<int64_t> seeds;
    OptionSet set;
    set.integers("seeds", seeds, {0, 9e15}, "");
    read_key(set, list[i], "seeds", where);
    require_input(!seeds.empty() && std::set(seeds.begin(), seeds.end()).size() == seeds.size(),
                  "{}.seeds: expected different seeds, for example [0, 1, 2]", where);
    require_input(!list[i]["seed"].IsDefined(), "{}.seeds: there is `seed` too; give one of them", where);
    for (const int64_t seed : seeds) {
      YAML::Node row = YAML::Clone(list[i]);
      row.remove("seeds");
      row["name"] = fmt::format("{}, seed {}", name, seed);
      row["seed"] = seed;
      rows.push_back(row);
    }
  }
  return rows;
}

std::vector<MergeRow> read_rows(const YAML::Node& list) {
  require_list(list, "merge");
  std::vector<MergeRow> rows;
  std::set<std::string> names(kReservedRows.begin(), kReservedRows.end());
  for (size_t i = 0; i < list.size(); ++i) {
    auto row = read_row(list[i], fmt::format("merge[{}]", i));
    require_input(names.insert(row.name).second,
                  "merge: there are two rows of the name '{}' ({}); give one of them another `name`", row.name,
                  "base and expert are always there");
    require_input(row.router == 0 || names.insert(routed_name(row.name)).second,
                  "merge: the row '{}' has the name of what a router makes of another row; give it another", row.name);
    rows.push_back(std::move(row));
  }
  inline_rows(rows);
  for (const auto& row : rows) {
    make_method(row.method, row.options, "merge." + row.name);  // options are checked here, before any work
    require_input(row.router == 0 || keeps_task_parts(row),
                  "merge.{}.router: '{}' makes one model of all tasks, so there is nothing to choose; routers are for "
                  "methods that keep a part for each task, as `twin` and `tall` do",
                  row.name, row.method);
    check_stages(row);
    for (const auto& [option, values] : row.search)
      for (const auto& value : values) {
        auto options = YAML::Clone(row.options);
        options[option] = value;
        make_method(row.method, options, fmt::format("merge.{}.search", row.name));
      }
  }
  return rows;
}

std::string routed_name(const std::string& row) { return row + ", routed"; }

std::vector<std::string> scored_names(const YAML::Node& entry) {
  const MergeRow row = read_row(entry, "merge");
  if (row.router == 0) return {row.name};
  return {row.name, routed_name(row.name)};
}

std::vector<DonorRow> read_donors(const YAML::Node& list) {
  std::vector<DonorRow> donors;
  if (!list.IsDefined() || list.IsNull()) return donors;
  require_list(list, "donors");
  std::set<std::string> names;
  for (size_t i = 0; i < list.size(); ++i) {
    const auto where = fmt::format("donors[{}]", i);
    YAML::Node node = YAML::Clone(list[i]);
    DonorRow donor;
    if (node.IsMap() && node["weights"].IsDefined()) {
      OptionSet set;
      set.reals("weights", donor.weights, {0, 1e6}, "of the donor");
      read_key(set, node, "weights", where);
      require_input(!donor.weights.empty(), "{}.weights: give at least one weight of the donor", where);
      node.remove("weights");
    }
    donor.merge = read_row(node, where);
    require_input(donor.merge.reset_batch_norms == 0 && donor.merge.router == 0 && !donor.merge.seed &&
                      !(node.IsMap() && node["seeds"].IsDefined()),
                  "{}: `reset_batch_norms`, `router`, `seed` and `seeds` are for rows of `merge`", where);
    require_input(donor.merge.earlier.empty(), "{}.then: a donor's row has one method", where);
    require_input(donor.merge.search.empty(), "{}.search: a donor's row searches its `weights` alone", where);
    require_input(names.insert(donor.merge.name).second, "donors: there are two rows of the name '{}'",
                  donor.merge.name);
    require_input(!make_method(donor.merge.method, donor.merge.options, where)->requirements().searches(),
                  "{}: '{}' searches by all tasks' examples, and a donor's row is of two; give a method that merges "
                  "without a search",
                  where, donor.merge.method);
    donors.push_back(std::move(donor));
  }
  return donors;
}

std::vector<MergeStage> stages_of(const MergeRow& row) {
  std::vector<MergeStage> stages = row.earlier;
  stages.push_back({row.method, row.options});
  return stages;
}

std::vector<MergeStage> tried_stages(const MergeRow& row) {
  std::vector<MergeStage> stages = row.earlier;
  for (const YAML::Node& options : settings_of(row)) stages.push_back({row.method, options});
  return stages;
}

MethodRequirements needs_of(const MergeRow& row) {
  MethodRequirements all;
  for (const MergeStage& stage : tried_stages(row)) {
    const auto needs = make_method(stage.method, stage.options, "merge." + row.name)->requirements();
    all.statistics.insert(needs.statistics.begin(), needs.statistics.end());
    all.base_statistics = all.base_statistics || needs.base_statistics;
    all.probe = all.probe || needs.probe;
    all.adapters = all.adapters || needs.adapters;
  }
  return all;
}

YAML::Node written_options(const MergeRow& row, const YAML::Node& chosen) {
  const auto where = "merge." + row.name;
  YAML::Node written = make_method(row.method, chosen, where)->write_options();
  if (row.earlier.empty()) return written;
  const auto with_method = [](const std::string& method, const YAML::Node& options) {
    YAML::Node node;
    node["method"] = method;
    for (const auto& option : options) node[option.first.Scalar()] = option.second;
    return node;
  };
  written.reset(with_method(row.method, written));
  for (auto stage = row.earlier.rbegin(); stage != row.earlier.rend(); ++stage) {
    YAML::Node before = with_method(stage->method, make_method(stage->method, stage->options, where)->write_options());
    before["then"] = written;
    written.reset(before);
  }
  return written;
}

bool keeps_task_parts(const MergeRow& row) {
  return keeps_task_parts(*make_method(row.method, row.options, "merge." + row.name));
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

}  // namespace amalgam
