#pragma once

#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// PCB-Merging (parameter competition balancing): every element of every expert's change gets a score, from its size
/// within the expert and from its agreement with the other experts; the best are kept and averaged by their score.
///
///   d̃_m     sign(d_m) · |d_m| clamped to its quantiles [c, 1 − c]: with n elements those at places ⌊c n⌋ and
///           ⌊(1 − c) n⌋ − 1 of |d_m| in ascending order
///   u_m     (|d̃_m| − least) / (largest − least), from 0 to 1; n_m = sign(d_m) u_m
///   S_m     exp(M (u_m² − 1)) · Σ_j α_j tanh(n_m n_j), j over all experts, m included
///   s_m     (S_m − t) / (max S_m − t) where S_m is at or above the threshold t, the one at place ⌊(1 − r) n⌋ of S_m in
///           ascending order; else 0
///   merged  θ0 + λ Σ α_m s_m d̃_m / max(Σ α_m s_m, 1e-12)
///
/// Quantiles, extremes and threshold are those of each expert's whole change, over all parameters that are merged so:
/// four passes over the experts before the merge, with memory for one parameter of each. M counts the tasks with a
/// weight other than zero. The factor exp(−M) of every score changes no s_m and keeps exp from overflowing. Where all
/// |d_m| are equal u_m is 0, and where all scores are equal s_m is 1. Scores are float32, also where experts are stored
/// in float64.
/// @source Du et al. 2024, Parameter Competition Balancing for Model Merging: r from 0.05 to 0.2, λ 1.2. The authors'
///         code differs: it clamps at c = 0.01 or 0.0001, and takes tanh(d_m Σ_j d_j) of the changes as they are, which
///         is almost linear for small ones; the sum of normalised products here is the paper's, which does not depend
///         on the changes' scale
class Pcb final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  void plan(const MergeInput& input) override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

 protected:
  void declare_options(OptionSet& set) override;

 private:
  /// Of one expert's whole change.
  struct Extent {
    double least = 0.0, largest = 0.0;         // of |d̃|
    double threshold = 0.0, best_score = 0.0;  // of S
  };
  at::Tensor merge_piece(const MergeInput& input, const std::string& name) const;
  /// S of some elements, one an expert, float32.
  std::vector<at::Tensor> scores(const std::vector<at::Tensor>& changes, const std::vector<double>& weights) const;

  double density_ = 0.05, clamp_ = 0.01, scale_ = 1.2;
  std::vector<Extent> extents_;  // one a task that has a say
};

}  // namespace amalgam
