#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <string>

#include "models/evaluate.h"

namespace amalgam {

/// Whose predictions a file holds, in its metadata.
struct PredictionsOf {
  std::string row, task, split, metric;
  std::string loss;  ///< the loss' name, which says what is predicted
};

/// Writes `prediction`, `target` and `loss` of each example (`Predictions`) to a safetensors file: aside, synced,
/// renamed. The metadata say whose they are, and under `digest` the digest of the three tensors.
/// @throws InputError if the file cannot be written
void write_predictions(const std::filesystem::path& path, const Predictions& predictions, const PredictionsOf& of);

/// How many targets of each example are right, and how many there are: what an accuracy is made of.
struct RightTargets {
  at::Tensor right, count;  ///< float64 [N]
};

/// @param loss  the loss' name
/// @throws InputError where predictions are neither right nor wrong
RightTargets right_targets(const Predictions& predictions, const std::string& loss);

/// @throws InputError if the file is damaged, or holds no predictions of classes or labels
RightTargets read_right_targets(const std::filesystem::path& path);

}  // namespace amalgam
