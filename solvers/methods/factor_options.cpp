#include "solvers/methods/factor_options.h"

#include <fmt/format.h>

namespace amalgam {

LayerKnowledge knowledge_of(const FactorOptions& options, const ExpertInput& expert, const LayerMatrix& layer) {
  const Statistics& statistics = *expert.statistics;
  const bool inputs = statistics.has_input_gram(layer.layer(), options.form());
  if (inputs && statistics.has_output_gram(layer.layer(), options.form())) return LayerKnowledge::kKronecker;
  if (options.factors != "available") return LayerKnowledge::kNothing;
  if (inputs) return LayerKnowledge::kInputs;
  const bool diagonal = statistics.has_squared_gradient(layer.layer().weight) &&
                        (!layer.with_bias() || statistics.has_squared_gradient(layer.layer().bias));
  return diagonal ? LayerKnowledge::kDiagonal : LayerKnowledge::kNothing;
}

std::string FactorOptions::text() const {
  return fmt::format("{}, off_diagonal {:a} of {}, pooling {:a}, shrinkage {}, damping {:a}, normalise {}", factors,
                     off_diagonal, off_diagonal_of, pooling, shrinkage, damping, normalise);
}

}  // namespace amalgam
