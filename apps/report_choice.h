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
/// What rows are compared by, higher is better: the mean normalised score, or the mean score where there is none.
/// Nothing where a task has no score yet.
std::optional<double> merit(const RowSummary& row);
/// The row of that name, or null where it is not there or not whole.
const RowSummary* find_row(const std::vector<RowSummary>& rows, const std::string& name);
/// The merged row of the highest merit, the first of equals, or null.
const RowSummary* best_merged(const std::vector<RowSummary>& rows);
/// The metric's name where all tasks share it, else "score".
std::string metric_word(const RunRecord& run);

}  // namespace amalgam
