#pragma once

#include <string>
#include <vector>

#include "core/batch.h"
#include "core/layer_table.h"
#include "models/example_layout.h"
#include "models/loss.h"
#include "models/runner.h"

namespace amalgam {

/// What a model shows of itself in one forward pass.
struct ScanResult {
  LayerTable layers;                   ///< in the order of the forward pass, the same for a scripted and a traced model
  std::vector<ExampleLayout> layouts;  ///< of each layer
  std::vector<std::string> unobserved;  ///< "<parameter>: <why>" for each parameter that is in no layer of the table
  /// Whether the model makes other calls where no gradient can be asked for, as nn.MultiheadAttention does: then it
  /// must be tapped with a graph, also by who needs no gradients.
  bool needs_graph = true;
};

/// Finds the layers of a model, and where each has the examples, by running a few examples and looking which rows the
/// loss of each one reaches. The model is left in evaluation mode, else as it was.
///
/// A parameter is observed whole or not at all: one that also meets an operator that is not understood, is used in two
/// different ways, or whose layer mixes examples or does not tell where they are, is listed as unobserved. The one pair
/// of ways that is kept, as two layers, is an embedding that is the output's weight as well. `input_of`
/// joins linear layers, and convolutions of one geometry, that are fed the same tensors.
///
/// @param examples  at least two different examples (the first three are used), with targets
/// @throws InputError if there are fewer than two examples, if no layer can be observed, if the model mixes examples
/// (models/example_probe.h), or for what the loss refuses
ScanResult scan_layers(ModelRunner& runner, const Batch& examples, const LossSpec& loss);

}  // namespace amalgam
