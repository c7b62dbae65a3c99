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

/// How good a merged model is on what options are chosen on.
struct ProbeScore {
  /// Over the tasks, of their metrics; each divided by its expert's where the metric can be divided. NaN where the
  /// merged model has an output that is not finite: such a model is the worst.
  double mean = 0.0;
  bool lower_is_better = false;
};

/// Some inputs of a task.
struct ProbeBatch {
  std::string split;      ///< "val", "test", "train"
  int64_t examples = 16;  ///< the split's, where it has fewer
  uint64_t number = 0;  ///< of the batch, along an endless order: every example once, then again in another order, …
  uint64_t seed = 0;    ///< of that order
};

/// How sure a task's predictions are, and which way they become surer.
struct ProbeEntropy {
  double value = 0.0;     ///< the mean over the examples of the entropy of what is predicted, in nats
  NamedTensors gradient;  ///< of the value by each parameter asked for, in its dtype, on the models' device
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

  /// Scores tasks on their `val`, with labels, by their metrics: each task's expert with these parameters and buffers
  /// replaced. What another split holds is never looked at.
  /// @param tasks  whose experts are merged
  /// @param replaced, checkpoint  as above
  /// @throws InputError if there is no such task, or if an output of an expert itself is not finite
  virtual ProbeScore score(const std::vector<std::string>& tasks, const NamedTensors& replaced,
                           const std::function<void()>& checkpoint) = 0;

  /// The entropy of a task's predictions on some inputs, whose labels are not looked at: its expert with these
  /// parameters and buffers replaced, in evaluation mode. One pass forward and back.
  /// @param by  the names of the parameters to give the gradient by
  /// @param replaced, checkpoint  as above
  /// @throws InputError if the task's predictions have no entropy, or if an output is not finite
  virtual ProbeEntropy entropy(const std::string& task, const NamedTensors& replaced,
                               const std::vector<std::string>& by, const ProbeBatch& batch,
                               const std::function<void()>& checkpoint) = 0;
};

}  // namespace amalgam
