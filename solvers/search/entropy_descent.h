#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/options.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// How far a descent on the entropy of predictions goes, and on which inputs.
struct DescentOptions {
  int64_t steps = 500;  ///< at most
  double rate = 1e-3;   ///< Adam's
  int64_t batch = 16;   ///< inputs of each task a step
  std::string split = "val";
  int64_t patience = 0;  ///< 0: all steps are taken

  /// Declares all of them, in this order.
  /// @param moving  what a step moves, for the help of `rate`: "a coefficient"
  void declare(OptionSet& set, const std::string& moving);
};

/// What descents on the entropy of predictions have in common, whatever it is that they move: the objective
///   L(θ) = mean over the tasks of positive weight of the mean entropy of task m's predictions on a batch of inputs,
/// and its course so far. Step t sees batch t of each task, so that a descent which goes on sees what one that was not
/// stopped would.
class EntropyDescent {
 public:
  /// @param input  outlives this, and has a probe
  EntropyDescent(const MergeInput& input, DescentOptions options);

  const DescentOptions& options() const { return options_; }
  bool is_done() const { return steps() >= options_.steps || no_longer_falls(); }
  int64_t steps() const { return static_cast<int64_t>(curve_.size()); }
  /// One line about the last step; empty before the first.
  std::string note() const;
  /// Measure, unit, curve, and why it ended.
  SearchReport report() const;

  /// Looks at the next step's batches: L goes into the course.
  /// @param model       all that a merged model has in the place of an expert's shared tensors, in their dtypes
  /// @param parameters  to give the gradient by
  /// @return ∂L/∂θ_p by name, float64 where the parameter is stored so, else float32
  NamedTensors next_gradient(const NamedTensors& model, const std::vector<std::string>& parameters,
                             const Checkpoint& checkpoint);

  /// The course so far, to be kept: [steps], float64.
  at::Tensor course() const;
  /// Goes on from a kept one, `entropies` of a search's state.
  /// @throws InputError if there is none
  void resume(const NamedTensors& state);

 private:
  bool no_longer_falls() const;

  const MergeInput* input_;
  DescentOptions options_;
  std::vector<std::string> tasks_;
  std::vector<double> curve_;
};

}  // namespace amalgam
