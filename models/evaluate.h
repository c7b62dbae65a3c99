#pragma once

#include <ATen/ATen.h>

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

/// What a model says of each example of a split, in the split's order, on the CPU. Batches may be of several lengths T
/// (`trim_padding`): shorter ones are filled up to the longest, with predictions 0 and targets -100, or NaN of values.
struct Predictions {
  /// cross_entropy: the class with the largest output, int64 [N] or [N, T]; binary_cross_entropy: 1 where the logit is
  /// above 0, else 0, int64 [N] or [N, K]; mean_squared_error: the output, float32 [N, …].
  at::Tensor prediction;
  at::Tensor target;  ///< as the data have it
  at::Tensor loss;    ///< of each example, float32 [N]
};

/// Runs the model over the source from its start, in evaluation mode, and leaves it in that mode.
/// @param predictions  where not null, filled with what the score is made of
/// @throws InputError for what `check_loss`, `fitting_metric` or `example_losses` refuse, or a source without a target;
///         an ExampleError's position is in the source
Score evaluate(ModelRunner& model, BatchSource& source, const LossSpec& loss, const std::string& metric,
               Progress& progress, Predictions* predictions = nullptr);

}  // namespace amalgam
