#pragma once

#include "solvers/methods/method.h"

namespace amalgam {

/// SCE (select, calculate, erase), each parameter by itself:
///
///   select     d̃_m = d_m at the τ of those elements in which the experts differ, the ones with the largest variance
///              over the experts (at least one); else 0
///   calculate  η_m = α_m mean(d̃_m²) / Σ_j α_j mean(d̃_j²)
///   erase      s = sign of Σ α_m d̃_m, plus where that is zero
///   merged     θ0 + Σ η_m d̃_m / max(Σ η_m, 1e-6), both sums over the experts whose d̃_m has the sign s and is not zero
///
/// Where the experts differ in no element there is nothing to select by: all elements are kept, so that one expert, or
/// copies of one, are merged to that expert. Of equal variances, in float32, the earlier element counts as larger.
/// @source Wan et al. 2024, FuseChat. `density` τ is mergekit's `select_topk`, with its default of 1, where nothing is
///         left out; the paper selects less, and where the experts are one mergekit then keeps nothing. mergekit
///         counts all experts alike where Σ mean(d̃²) is below 1e-6, which a small τ makes likelier; here η is by the
///         changes however small they are
class Sce final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

 protected:
  void declare_options(OptionSet& set) override;

 private:
  double density_ = 1.0;  ///< τ
};

}  // namespace amalgam
