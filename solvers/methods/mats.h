#pragma once

#include <memory>
#include <string>
#include <vector>

#include "solvers/linear/conjugate_gradient.h"
#include "solvers/methods/mats_factors.h"
#include "solvers/methods/method.h"
#include "solvers/methods/names_tasks.h"
#include "solvers/methods/start.h"

namespace amalgam {

/// MaTS: the W that solves Σ α_m C_m W = Σ α_m C_m W_m for every layer's [weight | bias], C_m = A_m ⊗ B_m, A_m and B_m
/// the Kronecker factors of expert m's Fisher information. By batched conjugate gradients, layers of one shape
/// together, from a start that matters where the operator is singular; of one or two experts in closed form by request,
/// which is float64's.
///
/// The factors are made ready in this order: `normalise` scales C_m; `off_diagonal` λ scales the elements of both (or
/// of one, `off_diagonal_of`) beside the diagonal; `damping` δ adds δ tr(B)/dim(B) I to B. With λ = 1 and all B_m equal
/// it is RegMean, and so it is for δ → ∞; undamped, an output without any gradient stays at the start. It is solved for
/// the change from the base (the average where there is none), so that the tolerance is relative to what the experts
/// changed. An expert whose factors are zero in a layer has no say there; where that is all of them the layer is
/// averaged; both are reported. With `factors: available` experts may know different things of a layer: Kronecker
/// factors, inputs alone (B = I), or the diagonal of the Fisher information (δ then adds to it, relative to its mean).
///
/// `vectors: dense` merges what belongs to no such layer by its whole Fisher matrix (vector_fisher.h).
/// @source Tam, Bansal & Raffel 2023, Merging by Matching Models in Task Parameter Subspaces (λ 1, normalise rows, no
///         preconditioner, 100 steps); damping and `normalise: trace` are ours
class Mats final : public MergeMethod, public NamesTasks {
 public:
  Mats();

  MethodRequirements requirements() const override;
  std::string why_not(const ExpertInput& expert, const LayerMatrix& layer) const override;
  std::string batch_key(const MergeInput& input, const LayerMatrix& layer) const override;
  std::string memory_key() const override;
  void check_tasks(const std::vector<ExpertInput>& experts) const override { start_->check_tasks(experts); }
  void plan(const MergeInput& input) override;
  GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  void refuse_unused(const std::string& where) const;
  Solution solve_system(const MatsSystem& system, const at::Tensor& rhs, const at::Tensor& start,
                        const Checkpoint& checkpoint) const;

  FactorOptions factors_;
  CgOptions cg_;
  std::string solver_ = "cg";
  std::string preconditioner_ = "kronecker_trace";
  std::string precision_ = "float64";
  std::string vectors_ = "average";
  YAML::Node init_;
  std::unique_ptr<Start> start_;
};

}  // namespace amalgam
