#pragma once

#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// The Karcher mean of directions on the unit sphere, and how it was found.
struct KarcherMean {
  at::Tensor direction;    ///< u, float64 and flat, of norm 1
  int64_t iterations = 0;  ///< steps taken
  double residual = 0.0;   ///< ‖T‖ at u, in radians: 0 where Σ a_i dist(u, u_i)² has its minimum
};

/// argmin over unit vectors of Σ a_i dist(u, u_i)², by u ← cos‖T‖ u + sin‖T‖ T/‖T‖ with
///   T = Σ a_i (φ_i / sin φ_i) (u_i − cos φ_i u),  cos φ_i = ⟨u, u_i⟩,
/// from the normalised Σ a_i u_i (from u_0 where that is zero). A u_i antipodal to u has no direction to go in and does
/// not count in that step. Of two it is their spherical interpolation, in one step.
/// @param units    u_i, float64, flat, of norm 1; at least one
/// @param weights  a_i, of sum 1
KarcherMean karcher_mean(const std::vector<at::Tensor>& units, const std::vector<double>& weights, int64_t iterations,
                         double tolerance);

/// Parameter by parameter (Σ a_i ‖θ_i‖) u, u the Karcher mean of the directions θ_i/‖θ_i‖, a_i = α_i / Σ α, in float64.
/// All of it happens in the space that the experts span, of which their scalar products tell everything.
/// A zero tensor has no direction and only pulls the norm down; where all are zero the result is. Every parameter is
/// reported with steps and ‖T‖.
/// @source Grove & Karcher 1973; per tensor with 10 iterations or 1e-5 as in mergekit
class Karcher final : public MergeMethod {
 public:
  GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) override;

 protected:
  void declare_options(OptionSet& set) override;

 private:
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name, LayerReport& report) const;

  int64_t iterations_ = 10;
  double tolerance_ = 1e-5;
};

}  // namespace amalgam
