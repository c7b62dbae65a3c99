#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/progress.h"
#include "models/runner.h"

namespace amalgam {

/// How well a model does on a split.
struct Score {
  double value = 0;   ///< the metric
  double loss = 0;    ///< mean over the targets
  int64_t count = 0;  ///< targets: examples, or tokens that are not ignored
};

/// The metric names that a recipe may give: "accuracy" (the share of targets whose class has the largest output;
/// negative targets do not count). In all of them higher is better.
const std::vector<std::string>& metric_names();

/// True for a metric that cannot be negative, so that a score may be divided by the expert's.
/// @throws InputError for an unknown metric
bool is_normalisable(const std::string& metric);

/// Runs the model over the source from its start, in evaluation mode, and leaves it in that mode.
/// @throws InputError for an unknown loss or metric, what `example_losses` refuses, or a source without a target
Score evaluate(ModelRunner& model, BatchSource& source, const std::string& loss, const std::string& metric,
               Progress& progress);

}  // namespace amalgam
