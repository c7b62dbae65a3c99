#include "solvers/methods/interference.h"

#include <cmath>
#include <limits>

namespace amalgam {

Interference::Interference(const std::vector<at::Tensor>& changes, const std::vector<double>& weights) {
  TORCH_CHECK(!changes.empty() && changes.size() == weights.size(), "interference needs one weight a change");
  std::vector<at::Tensor> rows;
  for (size_t m = 0; m < changes.size(); ++m) rows.push_back(changes[m] * std::sqrt(weights[m]));
  stacked_ = at::cat(rows, 0);
  by_columns_ = stacked_.size(1) <= stacked_.size(0);
  if (by_columns_) {
    gram_ = stacked_.t().mm(stacked_);
    product_ = at::zeros_like(changes[0]);
    for (size_t m = 0; m < changes.size(); ++m) product_.addmm_(changes[m], rows[m].t().mm(rows[m]));
    return;
  }
  std::vector<at::Tensor> targets;
  for (size_t m = 0; m < changes.size(); ++m) targets.push_back(changes[m].mm(rows[m].t()));
  targets_ = at::cat(targets, 1);
  gram_ = stacked_.mm(stacked_.t());
  product_ = targets_.mm(stacked_);
}

at::Tensor Interference::gradient(const at::Tensor& change) const {
  const at::Tensor half = by_columns_ ? change.mm(gram_) : change.mm(stacked_.t()).mm(stacked_);
  return (half - product_).mul_(2);
}

at::Tensor Interference::minimiser(double ridge) const {
  const auto [values, vectors] = at::linalg_eigh(gram_);
  const double rounding = std::numeric_limits<double>::epsilon() * static_cast<double>(gram_.size(0)),
               added = ridge * values.sum().item<double>() / static_cast<double>(stacked_.size(1));
  const at::Tensor inverse =
      at::where(values > rounding * values.max(), (values + added).reciprocal(), at::zeros_like(values));
  const at::Tensor within = ((by_columns_ ? product_ : targets_).mm(vectors) * inverse).mm(vectors.t());
  return by_columns_ ? within : within.mm(stacked_);
}

}  // namespace amalgam
