#pragma once

#include "solvers/methods/coefficient_method.h"
#include "solvers/search/adam.h"
#include "solvers/search/entropy_descent.h"

namespace amalgam {

/// Adam on the entropy of predictions (solvers/search/entropy_descent.h) over the coefficients of a `TaskVectorSum`:
///   ∂L/∂λ_gm = Σ_{p in g} ⟨∂L/∂θ_p, d_mp⟩
/// A step takes one pass forward and back through each task's model, and no graph through the merge.
class CoefficientDescent final : public CoefficientSearch {
 public:
  /// @param input, vectors  outlive this
  /// @param start  [groups, tasks]
  /// @param clamp  0 ≤ λ ≤ 1: what goes out of these bounds counts as the bound and has no slope
  CoefficientDescent(const MergeInput& input, const TaskVectorSum& vectors, const at::Tensor& start,
                     const DescentOptions& options, bool clamp);

  bool is_done() const override { return descent_.is_done(); }
  int64_t steps_done() const override { return descent_.steps(); }
  int64_t most_steps() const override { return descent_.options().steps; }
  std::string note() const override { return descent_.note(); }
  void step(const Checkpoint& checkpoint) override;
  at::Tensor coefficients() const override { return clamp_ ? raw_.clamp(0, 1) : raw_; }
  SearchReport report() const override { return descent_.report(); }
  NamedTensors state() const override;
  void resume(const NamedTensors& state) override;

 private:
  const TaskVectorSum& vectors_;
  EntropyDescent descent_;
  bool clamp_;
  at::Tensor raw_;  // coefficients before they are clamped
  AdamState adam_;
};

}  // namespace amalgam
