#include "solvers/methods/vector_fisher.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "solvers/check.h"
#include "solvers/linear/null_space.h"
#include "solvers/methods/average.h"
#include "solvers/methods/layer_factors.h"

namespace amalgam {
namespace {

double trace_of(const at::Tensor& matrix) { return matrix.trace().item<double>(); }

void prepare(VectorTerm& term, const VectorFisherOptions& options) {
  const double trace = trace_of(term.fisher);
  term.fisher = options.by_trace && trace > 0 ? term.fisher / trace : term.fisher.clone();
  scale_off_diagonal(term.fisher, options.off_diagonal);
  at::Tensor diagonal = term.fisher.diagonal();
  diagonal.add_(diagonal.mean() * options.damping);
}

double relative(const at::Tensor& residual, const at::Tensor& rhs) {
  const double norm = rhs.norm().item<double>();
  return norm > 0 ? residual.norm().item<double>() / norm : 0.0;
}

/// K x = b where K has no null space; nothing where it has.
std::optional<VectorSolution> solve_regular(const at::Tensor& matrix, const at::Tensor& rhs) {
  if (!all_regular(matrix.unsqueeze(0))) return std::nullopt;
  const auto [factor, failed] = at::linalg_cholesky_ex(matrix);
  if (failed.item<int>() != 0) return std::nullopt;
  const at::Tensor x = at::cholesky_solve(rhs.unsqueeze(1), factor).squeeze(1);
  return VectorSolution{x, relative(rhs - matrix.mv(x), rhs), 0};
}

/// By eigendecomposition K = Q Λ Qᵀ: x = Q_s Λ_s⁻¹ Q_sᵀ b in the directions that are seen, the start in the others.
VectorSolution solve_singular(const at::Tensor& matrix, const at::Tensor& rhs, const at::Tensor& start) {
  const auto [values, vectors] = at::linalg_eigh(matrix);  // [n], ascending; [n, n]
  const at::Tensor seen = values > values[-1].clamp_min(0.0) * kNullThreshold;
  const at::Tensor projected = vectors.t().mv(rhs);
  const at::Tensor coefficients =
      at::where(seen, projected / at::where(seen, values, at::ones_like(values)), vectors.t().mv(start));
  const at::Tensor seen_part = vectors.mv(at::where(seen, coefficients, at::zeros_like(coefficients)));
  const at::Tensor residual = vectors.t().mv(rhs - matrix.mv(seen_part)) * seen;
  return {vectors.mv(coefficients), relative(residual, projected * seen), values.numel() - seen.sum().item<int64_t>()};
}

at::Tensor flat_parameter(const TensorSource& source, const std::string& name, at::Device device) {
  return read_parameter(source, name, device).to(at::kDouble).flatten();
}

/// The terms of a parameter; an expert without any say leaves a note.
std::vector<VectorTerm> terms_of(const MergeInput& input, const std::string& name, std::vector<std::string>& notes) {
  std::vector<VectorTerm> terms;
  for (const ExpertInput& expert : input.experts) {
    const at::Tensor vector = flat_parameter(*expert.tensors, name, input.device);
    const at::Tensor fisher = expert.statistics->gradient_gram(name).to(input.device);
    require_input(fisher.dim() == 2 && fisher.size(0) == vector.numel() && fisher.size(1) == vector.numel(),
                  "statistics of task '{}': {}/gradient_gram is no match for the expert's parameter; collect the "
                  "statistics of this expert again",
                  expert.task, name);
    check_finite_statistic(fisher, fmt::format("statistics of task '{}': {}/gradient_gram", expert.task, name));
    if (expert.weight > 0 && !(trace_of(fisher) > 0))
      notes.push_back(fmt::format("task '{}' has no say: its Fisher matrix is zero", expert.task));
    terms.push_back({expert.weight, fisher, vector});
  }
  return terms;
}

}  // namespace

VectorSolution match_vectors(std::vector<VectorTerm> terms, const at::Tensor& reference, const at::Tensor& start,
                             const VectorFisherOptions& options) {
  TORCH_CHECK(!terms.empty(), "there is nothing to match");
  const int64_t n = reference.numel();
  at::Tensor matrix = at::zeros({n, n}, reference.options()), rhs = at::zeros({n}, reference.options());
  for (VectorTerm& term : terms) {
    TORCH_CHECK(term.fisher.sizes() == matrix.sizes() && term.vector.sizes() == rhs.sizes() && start.numel() == n,
                "a Fisher matrix ", term.fisher.sizes(), " of a vector of ", n);
    prepare(term, options);
    matrix.add_(term.fisher, term.weight);
    rhs.add_(term.fisher.mv(term.vector - reference), term.weight);
  }
  auto solution = solve_regular(matrix, rhs);
  if (!solution) solution = solve_singular(matrix, rhs, start - reference);
  solution->merged = reference + solution->merged;
  return *solution;
}

GroupResult merge_vectors(const MergeInput& input, const std::vector<std::string>& parameters,
                          const VectorFisherOptions& options, const Start& start, const Checkpoint& checkpoint) {
  GroupResult result;
  for (const std::string& name : parameters) {
    checkpoint();
    LayerReport report;
    report.layer = name;
    report.solver = "dense Fisher";
    const at::Tensor average = average_parameter(input, name).to(at::kDouble);
    const at::Tensor reference =
        input.base != nullptr ? flat_parameter(*input.base, name, input.device) : average.flatten();
    const std::vector<VectorTerm> terms = terms_of(input, name, report.notes);
    const bool heard = std::any_of(terms.begin(), terms.end(),
                                   [](const VectorTerm& term) { return term.weight > 0 && trace_of(term.fisher) > 0; });
    if (heard) {
      const at::Tensor from = start.parameter(input, name, checkpoint).flatten();
      const VectorSolution solution = match_vectors(terms, reference, from, options);
      report.residual = solution.residual;
      report.why = "solved directly";
      if (solution.unseen > 0)
        report.notes.push_back(
            fmt::format("{} of {} directions are unseen: the start stays there", solution.unseen, reference.numel()));
      result.merged[name] = solution.merged.view_as(average);
    } else {
      report.why = "nothing to solve";
      report.notes.push_back("averaged: no task has a say");
      result.merged[name] = average;
    }
    result.reports.push_back(std::move(report));
  }
  return result;
}

}  // namespace amalgam
