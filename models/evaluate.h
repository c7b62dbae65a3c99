#pragma once

#include <cstdint>
#include <string>

#include "core/batch.h"
#include "core/progress.h"
#include "models/loss.h"
#include "models/runner.h"

namespace amalgam {

/// How well a model does on a split.
struct Score {
  double value = 0;   ///< the metric (models/metric.h)
  double loss = 0;    ///< mean over the targets that count; with the loss' `targets: mean`, over the examples
  int64_t count = 0;  ///< targets that count: examples, tokens that are not ignored, components of a target
};

/// Runs the model over the source from its start, in evaluation mode, and leaves it in that mode.
/// @throws InputError for what `check_loss`, `fitting_metric` or `example_losses` refuse, or a source without a target
Score evaluate(ModelRunner& model, BatchSource& source, const LossSpec& loss, const std::string& metric,
               Progress& progress);

}  // namespace amalgam
