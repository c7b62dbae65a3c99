#include "solvers/search/coefficient_descent.h"

namespace amalgam {

CoefficientDescent::CoefficientDescent(const MergeInput& input, const TaskVectorSum& vectors, const at::Tensor& start,
                                       const DescentOptions& options, bool clamp)
    : vectors_(vectors), descent_(input, options), clamp_(clamp), raw_(start.clone()) {}

void CoefficientDescent::step(const Checkpoint& checkpoint) {
  at::Tensor slopes =
      vectors_.slopes(descent_.next_gradient(vectors_.model(coefficients()), vectors_.parameters(), checkpoint));
  if (clamp_) slopes.masked_fill_(raw_.lt(0).logical_or(raw_.gt(1)), 0);
  adam_step(raw_, slopes, descent_.options().rate, adam_);
}

NamedTensors CoefficientDescent::state() const {
  NamedTensors state = {{"coefficients", raw_}, {"entropies", descent_.course()}};
  if (adam_.steps > 0) {
    state["mean"] = adam_.mean;
    state["square"] = adam_.square;
  }
  return state;
}

void CoefficientDescent::resume(const NamedTensors& state) {
  EntropyDescent descent = descent_;
  descent.resume(state);
  const at::Tensor raw = kept_tensor(state, "coefficients", raw_);
  if (descent.steps() > 0)
    adam_ = {kept_tensor(state, "mean", raw_), kept_tensor(state, "square", raw_), descent.steps()};
  raw_ = raw;
  std::swap(descent_, descent);
}

}  // namespace amalgam
