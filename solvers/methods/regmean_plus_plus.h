#pragma once

#include <string>

#include "solvers/methods/method.h"

namespace amalgam {

/// RegMean block by block, each block seeing what the merged blocks before it make of the examples. For each block, in
/// the model's order:
///   A_m = the Gram matrices of the inputs of the block's layers, of task m's examples in a model that is merged up to
///         this block and expert m from this block on;
///   W = W* + (Σ α_m (W_m − W*) Ã_m) (Σ α_m Ã_m + ρ I)⁻¹,  Ã = λ A + (1 − λ) diag(A),
/// solved as RegMean does (solvers/methods/gram_solve.h), so that a layer is fitted to the inputs that it will get and
/// not to those that it got in the expert.
///
/// What RegMean leaves aside (embeddings, norms, layers that `apply_to` leaves out) is averaged first, and so are the
/// buffers: all blocks see them merged. Batch norms run on their averaged statistics. Private parameters are each
/// task's own.
///
/// It costs one forward pass over the examples for each block and task of positive weight, where RegMean needs one for
/// each task. The statistics of the experts tell the layers, and which of them can be observed; their sums are not
/// used.
/// @source Nguyen et al. 2025, RegMean++: Enhancing Effectiveness and Generalization of Regression Mean for Model
/// Merging
class RegMeanPlusPlus final : public MergeMethod {
 public:
  MethodRequirements requirements() const override;
  /// `blocks: auto`: the part of the weight's name that ends with its first number (`encoder.layer.3.` of
  /// `encoder.layer.3.attention.query.weight`). A layer whose name has no number, and with `blocks: layer` any layer,
  /// is a block with those that are fed the same tensor: they do not change each other's inputs.
  std::string block_of(const Layer& layer) const override;
  GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) override;

 protected:
  void declare_options(OptionSet& set) override;

 private:
  double off_diagonal_ = 0.95;  ///< λ
  double ridge_ = 1e-6;
  std::string blocks_ = "auto";  ///< or "layer"
};

}  // namespace amalgam
