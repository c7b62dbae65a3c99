#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "core/tensor_source.h"
#include "models/loss.h"
#include "models/runner.h"

namespace amalgam {

/// Whether predictions under this loss have an entropy: those of classes and of labels have, those of numbers have not.
bool has_entropy(LossSpec::Kind loss);

/// The entropy of what a model predicts of each example, [N], in nats, half precision computed in float32. f the
/// output:
///
///   cross_entropy         −Σ_c p_c log p_c, p = softmax(f); of f [N, T, C] the mean over the tokens that count
///   binary_cross_entropy  −p log p − (1 − p) log(1 − p), p = σ(f); of f [N, K] the mean over labels
///
/// @param target  tells which tokens of [N, T] count: those that are not negative. No label is looked at
/// @throws ExampleError for an output that is not finite, naming the example
/// @throws InputError for a loss without an entropy, or shapes that do not fit
at::Tensor prediction_entropies(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target);

struct EntropyGradient {
  double value = 0.0;     ///< mean over the batch's examples
  NamedTensors gradient;  ///< of the value by the parameters asked for, in their dtypes, on the model's device
};

/// One pass forward and back, in evaluation mode. What the output does not depend on has a gradient of zeros.
/// @param by  names of floating parameters
/// @throws as `prediction_entropies`
EntropyGradient entropy_gradient(ModelRunner& model, const Batch& batch, const LossSpec& loss,
                                 const std::vector<std::string>& by);

}  // namespace amalgam
