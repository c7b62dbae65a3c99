#pragma once

#include <map>
#include <string>
#include <vector>

#include "solvers/search/adam.h"
#include "solvers/search/entropy_descent.h"
#include "solvers/search/stepwise_search.h"

namespace amalgam {

/// Adam on the entropy of predictions (solvers/search/entropy_descent.h) over the logits x of one mask of the model's
/// parameters, shared by the tasks:
///   θ_p = θ0_p + r_p ⊙ Σ_m scale α_m d_mp,   ∂L/∂r_p = ∂L/∂θ_p ⊙ Σ_m scale α_m d_mp,
/// r_p a draw of the relaxed mask, divided by its mean (solvers/search/relaxed_mask.h). x starts at 0; each step draws
/// a mask of its own.
///
/// Holds five times the parameters on the input's device, whatever the number of tasks: base, sum, x and Adam's two
/// means; while a step runs the draw, the merged model and its gradient too. The state that it keeps is three times
/// their size.
class MaskDescent final : public StepwiseSearch {
 public:
  /// @param input  outlives this
  /// @param names  the parameters
  MaskDescent(const MergeInput& input, const std::vector<std::string>& names, double scale,
              const DescentOptions& options, double temperature);

  bool is_done() const override { return descent_.is_done(); }
  int64_t steps_done() const override { return descent_.steps(); }
  int64_t most_steps() const override { return descent_.options().steps; }
  std::string note() const override { return descent_.note(); }
  void step(const Checkpoint& checkpoint) override;
  NamedTensors state() const override;
  void resume(const NamedTensors& state) override;

  SearchReport report() const { return descent_.report(); }
  /// r by name, in the parameters' shapes: of the mean mask σ(x), or of the draw that the next step would make.
  NamedTensors masks(bool drawn) const;

 private:
  struct Part {
    TensorInfo stored;
    at::Tensor base, sum;  // of the parameter's shape, as the logits
    at::Tensor logits;
    AdamState adam;
  };
  at::Tensor draw(const std::string& name, const Part& part) const;

  const MergeInput& input_;
  std::vector<std::string> names_;
  double temperature_;
  EntropyDescent descent_;
  std::map<std::string, Part> parts_;
  NamedTensors rest_;
};

}  // namespace amalgam
