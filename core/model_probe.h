#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/tensor_source.h"

namespace amalgam {

/// What layers were fed, as sums over rows: the tensors that a statistics file has for its kind `input_gram`, by the
/// names it has for them (stats/statistics.h).
struct InputGramSums {
  NamedTensors sums;                      ///< <layer>/input_gram, <layer>/input_sum, <layer>/rows; on the CPU
  std::map<std::string, int64_t> blocks;  ///< Gram matrices that are not whole -> the width of their blocks
};

/// What a merge method may ask of the models while it merges. A method knows no model: whoever runs it hands this in.
class ModelProbe {
 public:
  virtual ~ModelProbe() = default;

  /// Runs a task's statistics examples through its expert, of which some parameters and buffers are replaced, and adds
  /// up what layers are fed there. Takes one forward pass over the examples; no labels, no gradients.
  ///
  /// @param layers      names in the layer table of the expert's statistics. Of layers that are fed the same tensor the
  ///                    first one holds the sums, as in a statistics file, also where only a later one is asked for
  /// @param replaced    values by name, each of the shape and dtype that the expert has it in; what is not named stays
  ///                    the expert's own, private parameters (heads) too. Batch norms run in evaluation mode, on the
  ///                    statistics in their buffers
  /// @param checkpoint  called after every batch; what it throws travels out
  /// @throws InputError if there is no such task, layer or tensor, or if an output or a sum is not finite
  virtual InputGramSums input_grams(const std::string& task, const std::vector<std::string>& layers,
                                    const NamedTensors& replaced, const std::function<void()>& checkpoint) = 0;
};

}  // namespace amalgam
