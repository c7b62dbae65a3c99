#include "apps/recipe_chains.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "core/options.h"
#include "solvers/methods/task_part_method.h"

namespace amalgam {
namespace {

/// Whether an option is a method, and not the name of something else.
bool is_method_option(const std::string& method, const std::string& option) {
  if (std::ranges::count(method_names(), method) == 0) return false;  // said when it is made
  return std::ranges::any_of(describe_options(method), [&](const OptionSet::Description& described) {
    return described.name == option && described.type == "anything";
  });
}

/// The row that a text names, as a method's entry; nothing where it names none, or a method.
std::optional<YAML::Node> entry_of_row(const std::vector<MergeRow>& rows, const MergeRow& asking,
                                       const std::string& name, const std::string& where) {
  const auto named = std::ranges::find(rows, name, &MergeRow::name);
  if (named == rows.end() || named->name == named->method) return std::nullopt;
  require_input(named->name != asking.name, "{}: a row cannot start from itself", where);
  require_input(named->search.empty() && named->earlier.empty(),
                "{}: '{}' is found by a search, or by several methods, so it is no start; give its options", where,
                named->name);
  YAML::Node entry = YAML::Clone(named->options);
  entry["method"] = named->method;
  return entry;
}

}  // namespace

void inline_rows(std::vector<MergeRow>& rows) {
  const auto inline_options = [&](const MergeRow& row, const std::string& method, YAML::Node options) {
    for (const char* key : {"init", "inner"}) {
      const YAML::Node option = options[key];
      if (!option.IsDefined() || !option.IsScalar() || !is_method_option(method, key)) continue;
      if (auto entry = entry_of_row(rows, row, option.Scalar(), fmt::format("merge.{}.{}", row.name, key)))
        options[key] = *entry;
    }
  };
  const auto inline_method = [&](const MergeRow& row, std::string& method, YAML::Node& options) {
    if (auto entry = entry_of_row(rows, row, method, fmt::format("merge.{}.then", row.name))) {
      method = (*entry)["method"].Scalar();
      entry->remove("method");
      options.reset(*entry);
    }
  };
  for (auto& row : rows) {
    for (size_t i = 1; i < row.earlier.size(); ++i) inline_method(row, row.earlier[i].method, row.earlier[i].options);
    if (!row.earlier.empty()) inline_method(row, row.method, row.options);
  }
  for (auto& row : rows)
    for (const MergeStage& stage : stages_of(row)) inline_options(row, stage.method, stage.options);
}

void check_stages(const MergeRow& row) {
  const auto where = "merge." + row.name;
  if (row.earlier.empty()) return;
  for (const MergeStage& stage : stages_of(row))
    require_input(!make_method(stage.method, stage.options, where)->requirements().adapters,
                  "{}: '{}' merges factors of adapters, which are changes from the base: it has no `then`, and is none",
                  where, stage.method);
  for (const MergeStage& stage : row.earlier) {
    const auto method = make_method(stage.method, stage.options, where);
    require_input(!method->requirements().searches(),
                  "{}.then: '{}' is found by a search, so it is no start; give its options", where, stage.method);
    require_input(!keeps_task_parts(*method), "{}.then: '{}' keeps parts of tasks, which would be lost; let it be last",
                  where, stage.method);
  }
}

}  // namespace amalgam
