#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apps/recipe.h"
#include "stats/statistics.h"

namespace amalgam {

/// What rows need of the statistics must be collected, or be in the files that are given.
/// @param row    the name of one under `merge`, checked alone; empty: all rows, those of donors among them
/// @param given  by task: the kinds that its file holds; nothing where its statistics are collected
/// @throws InputError naming the row, the task and what is missing
void check_needed_kinds(const Recipe& recipe, const std::string& row,
                        const std::vector<std::optional<std::set<StatisticKind>>>& given);

}  // namespace amalgam
