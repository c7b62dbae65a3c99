#pragma once

#include <ATen/ATen.h>

#include <functional>

#include "core/batch.h"
#include "models/loss.h"

namespace amalgam {

/// Makes sure that the loss of a batch is the sum of the losses of its examples, which every statistic takes for
/// granted: runs each example alone and compares its loss with the one it has in the batch.
/// @param run    a forward pass
/// @param batch  a few examples, on the model's device
/// @throws InputError with both losses if they differ by more than rounding does; for a model that does not run on one
/// example; for what the loss refuses
void require_separate_examples(const std::function<at::Tensor(const Batch&)>& run, const Batch& batch,
                               const LossSpec& loss);

}  // namespace amalgam
