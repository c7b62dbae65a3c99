#pragma once

#include <string>

#include "solvers/methods/method.h"

namespace amalgam {

/// The W nearest to every expert's outputs on its own inputs: argmin Σ s_m ‖(W − W_m) a‖², over [weight | bias]. It is
/// solved for the change from a reference W* (the base; the average where there is none):
///   W = W* + (Σ s_m (W_m − W*) Ã_m) (Σ s_m Ã_m + ρ I)⁻¹,  Ã = λ A + (1 − λ) diag(A),
/// so that W* stays where no input ever came. s_m = α_m, or α_m tr(B_m) (`weights: gradient`); ρ is `ridge` times the
/// mean diagonal of the sum. By Cholesky in float64; where the sum has no factor the ridge is raised tenfold, and the
/// report says so.
/// @source Jin et al. 2023, Dataless Knowledge Fusion by Merging Weights of Language Models
class RegMean final : public MergeMethod {
 public:
  MethodRequirements requirements() const override;
  std::string memory_key() const override;
  GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) override;

 protected:
  void declare_options(OptionSet& set) override;

 private:
  double off_diagonal_ = 1.0;  ///< λ
  double ridge_ = 1e-6;
  std::string weights_ = "uniform";  ///< or "gradient"
};

}  // namespace amalgam
