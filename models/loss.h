#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

namespace amalgam {

/// The loss names that a recipe may give: "cross_entropy".
const std::vector<std::string>& loss_names();

/// The loss of each example, [N]: the sum over its targets where it has many. Negative targets are ignored.
/// @param output  [N, C] with `target` int64 [N], or [N, T, C] with `target` int64 [N, T]
/// @throws InputError for a target outside 0 … C-1 (example and value named), shapes that do not fit, or an output that
/// is not finite
at::Tensor example_losses(const std::string& loss, const at::Tensor& output, const at::Tensor& target);

}  // namespace amalgam
