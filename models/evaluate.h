#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/progress.h"
#include "models/loss.h"
#include "models/runner.h"

namespace amalgam {

/// How well a model does on a split.
struct Score {
  double value = 0;   ///< the metric
  double loss = 0;    ///< mean over the targets that count; with the loss' `targets: mean`, over the examples
  int64_t count = 0;  ///< targets that count: examples, tokens that are not ignored, components of a target
};

/// The metrics that a recipe may name. In all of them higher is better, and 1 is the best.
///   accuracy   the share of targets that are right. cross_entropy: the class with the largest output is the target.
///              binary_cross_entropy: the logit is above 0 where the target is above 1/2, and only there; of [N, K]
///              each label is a target, so that it is the mean over labels of their accuracies.
///   r_squared  of mean_squared_error: 1 − Σ (f − y)² / Σ (y − ȳ)², ȳ the mean of each component over the split; below
///   0
///              where the mean itself would do better
const std::vector<std::string>& metric_names();

/// True for a metric that cannot be negative, so that a score may be divided by the expert's.
/// @throws InputError for an unknown metric
bool is_normalisable(const std::string& metric);

/// @param where  path of the metric for messages: "tasks.left.metric"
/// @throws InputError for an unknown metric, or one that does not go with the loss
void check_metric(const std::string& metric, const LossSpec& loss, const std::string& where);

/// Runs the model over the source from its start, in evaluation mode, and leaves it in that mode.
/// @throws InputError for what `check_loss`, `check_metric` or `example_losses` refuse, or a source without a target
Score evaluate(ModelRunner& model, BatchSource& source, const LossSpec& loss, const std::string& metric,
               Progress& progress);

}  // namespace amalgam
