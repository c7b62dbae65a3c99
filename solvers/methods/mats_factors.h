#pragma once

#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "solvers/linear/kronecker_sum.h"
#include "solvers/linear/linear_operator.h"
#include "solvers/methods/factor_options.h"
#include "solvers/methods/layer_batch.h"

namespace amalgam {

/// The system Σ α_m C_m W = Σ α_m C_m W_m of a batch of layers, made ready: float64, scaled so that the mean eigenvalue
/// of Σ α_m C_m is 1, without the directions whose energy, meant over the tasks' factors by their traces, is below 1e-6
/// of the largest (they are below what sums of float32 products can tell, and become exactly unseen). Of outputs this
/// is so only where nothing is damped: damping sees them all.
///
/// Layers beside one another that are fed the same tensor have one A, stored once, where they are large.
class MatsSystem {
 public:
  /// @param layers  of one shape; these and `input` must outlive this
  MatsSystem(const MergeInput& input, const std::vector<LayerMatrix>& layers, const FactorOptions& options,
             const Checkpoint& checkpoint);

  const LayerBatch& batch() const { return batch_; }

  /// Σ α_m C_m in float64, or its copy in float32.
  std::unique_ptr<LinearOperator> whole(at::ScalarType dtype) const;
  /// Σ α_m C_m (W_m − W*): float64 [L, rows, columns].
  at::Tensor right_hand_side(const at::Tensor& reference) const;
  /// α_m tr(C_m) [L], one an expert: positive where it has a say.
  std::vector<at::Tensor> say() const;
  /// Of each expert's A before λ, [L]; where it is not known NaN.
  const std::vector<at::Tensor>& effective_rank() const { return effective_rank_; }
  /// How many A are stored of an expert.
  int64_t stored_inputs() const { return input_of_item_.empty() ? sizes_[0] : std::ssize(owner_layer_); }
  /// Notes in which layers a factor had to be made positive (solvers/linear/jitter.h).
  void note_jitter(std::vector<LayerReport>& reports) const;
  /// Whether every expert of a positive weight has Kronecker factors, so that what no task sees is known.
  bool all_kronecker() const;
  /// The part of x that no task sees; undefined where there is none, or where it is not known.
  at::Tensor unseen_part(const at::Tensor& x) const;
  /// Whether the experts with a positive weight are one or two, and all have Kronecker factors.
  bool has_closed_form() const;

 private:
  /// α C of one expert: a Kronecker term, or a diagonal [L, rows, columns].
  struct Part {
    KroneckerTerm term;
    at::Tensor diagonal;
  };

  Part read(const ExpertInput& expert, LayerKnowledge knowledge);
  void estimate_outputs();
  at::Tensor stack_inputs(const ExpertInput& expert) const;  // [S, columns, columns]
  at::Tensor of_items(const at::Tensor& stored) const;       // [S, ...] -> [L, ...]
  at::Tensor target_trace(const ExpertInput& expert, const Part& part, const at::Tensor& trace) const;
  at::Tensor trace_of(const Part& part) const;  // tr(C) [L]
  void share_inputs();
  NullSpace drop_unseen();
  void steady(Part& part, const NullSpace& of_stored);
  void balance();
  std::unique_ptr<LinearOperator> operator_of(const std::vector<const Part*>& parts, at::ScalarType dtype) const;

  const MergeInput& input_;
  LayerBatch batch_;
  FactorOptions options_;
  std::array<int64_t, 3> sizes_;
  std::vector<int64_t> input_of_item_;  // empty: each item has its own A
  std::vector<int64_t> owner_layer_;    // the layers whose A are stored, one after the other
  std::vector<Part> parts_;             // one an expert
  std::vector<at::Tensor> effective_rank_;
  std::vector<at::Tensor> jitter_;  // of each expert, relative: [L] on the CPU
  NullSpace unseen_;
};

}  // namespace amalgam
