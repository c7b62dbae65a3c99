#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "models/loss.h"

namespace amalgam {

/// How well outputs fit their targets: a function of sums over batches, so that no output is kept. With tp_k the
/// targets of class k that are right, p_k the outputs of class k, t_k the targets of class k, s their number:
///
///   accuracy    the share of targets that are right. cross_entropy: the class with the largest output is the target.
///               binary_cross_entropy: the logit is above 0 where the target is above 1/2, and only there; of [N, K]
///               each label is a target, so that it is the mean over labels of their accuracies.
///   f1          2 tp_1 / (p_1 + t_1) of class 1: of two classes, or of binary labels, all labels of [N, K] together; 0
///               where there is neither an output nor a target of that class
///   macro_f1    of cross_entropy: the mean of 2 tp_k / (p_k + t_k) over the classes that occur among outputs or
///               targets
///   matthews    R_K = (s Σ tp_k − Σ p_k t_k) / √((s² − Σ p_k²) (s² − Σ t_k²)) over all classes, the correlation of
///               outputs and targets as indicators of classes; of two classes Matthews' coefficient; 0 where all
///               outputs, or all targets, are of one class
///   perplexity  of cross_entropy: exp of the mean of −log softmax(f)_y over the targets that count, without label
///               smoothing and whatever the loss' `targets`; lower is better, and 1 is the best
///   r_squared   of mean_squared_error: 1 − Σ (f − y)² / Σ (y − ȳ)², ȳ the mean of each component over the split; below
///               0 where the mean itself would do better
///   pearson     of mean_squared_error: the correlation of f and y over the split, the mean over components; 0 for a
///               component whose outputs are all the same
///
/// Where higher is better 1 is the best, and figures read as shares; where lower is better they do not.
/// @source Gorodkin 2004 (R_K); Matthews 1975
struct Metric {
  std::string name;
  bool higher_is_better;
  bool normalisable;                ///< cannot be negative, and higher is better: may be divided by the expert's
  std::vector<std::string> losses;  ///< that it goes with
  /// Of one batch, on its device, in float64; of every batch the same shape. Nothing is read back to the host. The
  /// batch is one that `example_losses` takes.
  at::Tensor (*sums)(LossSpec::Kind loss, const at::Tensor& output, const at::Tensor& target);
  /// @param sums   of all batches, on the CPU
  /// @param count  targets that count
  double (*value)(const at::Tensor& sums, double count);

  /// Greater is better: the value, or its negative.
  double merit(double figure) const { return higher_is_better ? figure : -figure; }
};

/// The metrics that a recipe may name.
const std::vector<std::string>& metric_names();

/// @param where  path of the metric for messages: "tasks.left.metric"
/// @throws InputError naming the nearest metric for an unknown one
const Metric& find_metric(const std::string& name, const std::string& where = "metric");
/// @throws InputError also for a metric that does not go with the loss
const Metric& fitting_metric(const std::string& name, const LossSpec& loss, const std::string& where = "metric");

}  // namespace amalgam
