#pragma once

#include <string>

#include "solvers/layer_matrix.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// How the matrices C_m are made ready, in this order: `normalise`, `off_diagonal` λ, `pooling`, `shrinkage`, `damping`
/// δ. The last three make of B, which few gradients tell, a better estimate (solvers/methods/output_estimate.h).
struct FactorOptions {
  std::string factors = "kronecker";     ///< or "kronecker_reduced", "available"
  double off_diagonal = 0.9;             ///< measured, as `damping`: docs/ablations.md
  std::string off_diagonal_of = "both";  ///< or "inputs", "outputs": the factors that λ scales
  double pooling = 0.0;                  ///< share of the tasks' common B in each
  std::string shrinkage = "none";        ///< or "oas"
  double damping = 0.1;
  std::string normalise = "trace";  ///< or "none", "rows", "outputs", "fisher"

  /// All of it, as a text: settings that share it share the factors.
  std::string text() const;
  KroneckerForm form() const {
    return factors == "kronecker_reduced" ? KroneckerForm::kReduce : KroneckerForm::kExpand;
  }
};

/// What an expert knows of a layer: K-FAC factors A ⊗ B, or inputs alone, A ⊗ I, or a diagonal.
enum class LayerKnowledge { kKronecker, kInputs, kDiagonal, kNothing };

/// The most that an expert's statistics hold of a layer; of `kronecker` and `kronecker_reduced` these factors or
/// nothing.
LayerKnowledge knowledge_of(const FactorOptions& options, const ExpertInput& expert, const LayerMatrix& layer);

}  // namespace amalgam
