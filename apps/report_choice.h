#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/report_data.h"

namespace amalgam {

/// What the page speaks of: the merged row that is best on `val`, with its figures of the split that is reported.
struct Choice {
  std::string split;             ///< reported: test where there is one; empty without scores
  std::vector<RowSummary> rows;  ///< of that split
  std::optional<size_t> best;    ///< the row; nothing where no merged row has been scored on every task
  bool chosen_on_val = false;    ///< and reported on another split
};

Choice choose(const RunRecord& run);

/// The base or the experts: rows to compare with, not merged.
bool is_reference(const std::string& row);
/// The splits that have scores: test first, then val, then the others.
std::vector<std::string> splits_of(const RunRecord& run);
/// What rows are compared by (`is_better`): the mean normalised score, or the mean score where there is none. Nothing
/// where a task has no score yet, or where lower is better in some tasks only.
std::optional<double> merit(const RowSummary& row);
/// Both have a merit, and that of `row` is better: higher, or lower where that is better.
bool is_better(const RowSummary& row, const RowSummary& than);
/// Whether lower is better in this task.
bool lower_is_better(const RunRecord& run, const std::string& task);
/// Whether lower is better in every task, and so in their mean.
bool lower_is_better(const RunRecord& run);
bool lower_is_better_somewhere(const RunRecord& run);
/// The row of that name, or null where it is not there or not whole.
const RowSummary* find_row(const std::vector<RowSummary>& rows, const std::string& name);
/// The merged row of the best merit, the first of equals, or null.
const RowSummary* best_merged(const std::vector<RowSummary>& rows);
/// The metric's name where all tasks share it, else "score".
std::string metric_word(const RunRecord& run);

}  // namespace amalgam
