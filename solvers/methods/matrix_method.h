#pragma once

#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// A method that merges the changes d_m of matrices in a way of its own, and averages the others:
///   θ0 + scale · merge(d_1, …, d_M; α)   of a matrix,
///   θ0 + scale · (θ̄ − θ0)               of another parameter, θ̄ the weighted mean,
/// over the experts of positive weight. A matrix is a parameter of two axes, as in the reference codes, embeddings
/// among them; what has more (a convolution's kernel) is one only with `convolutions: matrix`, as [out, the rest]. All
/// in float64, with the changes of all experts in memory.
class MatrixMethod : public MergeMethod {
 public:
  MethodRequirements requirements() const override;
  GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) final;

 protected:
  void declare_options(OptionSet& set) override;

  /// The merged change of one matrix: float64 [rows, columns].
  /// @param changes   d_m of the M experts, at least one: float64 [rows, columns], finite
  /// @param weights   α_m > 0
  /// @param rounding  about the largest singular value of what rounding an expert to its dtype adds to d_m: directions
  ///                  of smaller ones are no expert's. (An adapter that is folded into float32 weights has a change of
  ///                  full rank, most of it such.)
  /// @param report    is shown where a `solver` is named in it
  virtual at::Tensor merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                                   double rounding, LayerReport& report, const Checkpoint& checkpoint) const = 0;

 private:
  bool is_matrix(const at::Tensor& parameter) const;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name, LayerReport& report,
                             const Checkpoint& checkpoint) const;

  double scale_ = 1.0;
  std::string convolutions_ = "average";  ///< or "matrix"
};

/// α_m d_m.
std::vector<at::Tensor> weighted(const std::vector<at::Tensor>& changes, const std::vector<double>& weights);
/// Σ α_m d_m.
at::Tensor weighted_sum(const std::vector<at::Tensor>& changes, const std::vector<double>& weights);
/// ‖α‖: how many times the rounding of one change that of Σ α_m d_m is.
double length_of(const std::vector<double>& weights);

}  // namespace amalgam
