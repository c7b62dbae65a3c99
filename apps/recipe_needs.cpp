#include "apps/recipe_needs.h"

#include "core/error.h"

namespace amalgam {

void check_needed_kinds(const Recipe& recipe, const std::string& row,
                        const std::vector<std::optional<std::set<StatisticKind>>>& given) {
  std::set<StatisticKind> collected;
  for (const auto& word : recipe.statistics.kinds) collected.merge(kinds_from_word(word));
  const auto require_kind = [&](const std::string& where, size_t task, StatisticKind kind) {
    const auto& spec = recipe.tasks[task];
    require_input(given[task] || collected.empty() || collected.contains(kind),
                  "{}: the row needs the statistic '{}' of task '{}', and `statistics.kinds` leaves it out; add it "
                  "there, or leave `kinds` out: then what the rows need is collected",
                  where, name_of(kind), spec.name);
    require_input(!given[task] || given[task]->contains(kind),
                  "{}: the row needs the statistic '{}', which {} does not hold (tasks.{}.statistics); give a file "
                  "that does, or leave it out: then the task's statistics are collected",
                  where, name_of(kind), spec.statistics, spec.name);
  };
  for (const auto& [where, needing] : all_rows(recipe)) {
    if (!row.empty() && where != "merge." + row) continue;
    for (const StatisticKind kind : needs_of(*needing).statistics)
      for (size_t task = 0; task < recipe.tasks.size(); ++task) require_kind(where, task, kind);
  }
}

}  // namespace amalgam
