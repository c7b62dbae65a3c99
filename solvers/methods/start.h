#pragma once

#include <memory>
#include <string>
#include <vector>

#include "solvers/methods/layer_batch.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// Where an iterative method starts: `zero`, `average`, `base`, `expert:<task>`, another method's name, or such a
/// method with options (`{method: task_arithmetic, scale: 0.3}`).
class Start {
 public:
  /// @throws InputError for a text that is none of these, a method given `apply_to` or `except`, or one that runs the
  /// models
  Start(const YAML::Node& entry, const std::string& where);

  MethodRequirements requirements() const;
  /// @throws InputError if an expert that is named, by the start or by its method, is not among these
  void check_tasks(const std::vector<ExpertInput>& experts) const;
  void plan(const MergeInput& input);

  /// [L, rows, columns].
  at::Tensor matrices(const MergeInput& input, const MergeGroup& group, const LayerBatch& batch, at::ScalarType dtype,
                      const Checkpoint& checkpoint) const;
  /// Of a parameter that is merged by itself: float64, the parameter's shape, on the device. A method that merges
  /// layers only starts there from what such a method leaves such a parameter at, the average.
  at::Tensor parameter(const MergeInput& input, const std::string& name, const Checkpoint& checkpoint) const;

 private:
  enum class Kind { kZero, kBase, kExpert, kMethod };

  Kind kind_ = Kind::kMethod;
  std::string task_, where_;
  std::unique_ptr<MergeMethod> method_;
};

}  // namespace amalgam
