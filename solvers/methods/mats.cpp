#include "solvers/methods/mats.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "solvers/linear/direct.h"
#include "solvers/linear/preconditioner.h"
#include "solvers/linear/refinement.h"
#include "solvers/methods/diagnostics.h"
#include "solvers/methods/vector_fisher.h"

namespace amalgam {
namespace {

const RegisterMethod<Mats> registered("mats", "Fisher matching with Kronecker factors, by conjugate gradients",
                                      "Tam, Bansal & Raffel 2023 (MaTS)");

std::vector<LayerReport> report_items(const Solution& solution, bool direct) {
  const at::Tensor history = solution.history.t().contiguous();  // [L, iterations + 1]
  std::vector<LayerReport> items;
  for (size_t item = 0; item < solution.items.size(); ++item) {
    const ItemSummary& summary = solution.items[item];
    const double* curve = history.data_ptr<double>() + static_cast<int64_t>(item) * history.size(1);
    LayerReport& report = items.emplace_back();
    report.solver = direct ? "closed form" : "conjugate gradients";
    report.iterations = summary.iterations;
    report.residual = summary.residual;
    report.converged = summary.converged;
    report.why = summary.why;
    report.history.assign(curve, curve + std::min(summary.iterations + 1, history.size(1)));
    report.diagnostics.emplace().condition = summary.condition;
    if (summary.restarts > 0)
      report.notes.push_back(
          fmt::format("started again {} time{}: rounding had parted the solver from the true residual",
                      summary.restarts, summary.restarts == 1 ? "" : "s"));
  }
  return items;
}

}  // namespace

Mats::Mats() {
  init_["method"] = "task_arithmetic";
  init_["scale"] = "0.3";  // as text: yaml-cpp writes a double with 17 digits
}

void Mats::declare_options(OptionSet& set) {
  set.choice(
      "factors", factors_.factors, {"kronecker", "kronecker_reduced", "available"},
      "what stands for the Fisher information of a layer: K-FAC in its form expand, or reduce; available: of each "
      "task the most that its statistics hold, K-FAC, the inputs' Gram matrix, or the diagonal");
  set.real("off_diagonal", factors_.off_diagonal, {0, 1},
           "factor of the elements beside the diagonal, of A and B (and of the Fisher matrices of `vectors`), λ; 1: as "
           "they are");
  set.choice("off_diagonal_of", factors_.off_diagonal_of, {"both", "inputs", "outputs"},
             "which factors λ scales: A (inputs), B (outputs), or both");
  set.real("pooling", factors_.pooling, {0, 1},
           "share of what the tasks' B have in common in each, by their traces; 1: all alike");
  set.choice("shrinkage", factors_.shrinkage, {"none", "oas"},
             "oas: B is shrunk towards its mean diagonal by what its examples leave uncertain");
  set.real("damping", factors_.damping, {0, 1e9},
           "added to B (and to the Fisher matrices of `vectors`), relative to the mean diagonal, δ");
  set.choice("normalise", factors_.normalise, {"none", "rows", "trace", "outputs", "fisher"},
             "none: A by rows, B by examples; rows: B by rows too; trace: by tr(A) tr(B); outputs: by tr(B), so that "
             "with damping without bound it is regmean; fisher: to the trace of the layer's diagonal Fisher");
  set.choice("solver", solver_, {"cg", "direct"},
             "cg: conjugate gradients; direct: the closed form, of one or two experts");
  cg_.declare(set);
  set.choice("preconditioner", preconditioner_, preconditioner_names(), "of the conjugate gradients");
  set.choice("precision", precision_, {"float32", "mixed", "float64"},
             "that the system is solved in; mixed: float32 products, refined to a float64 residual; float32: to "
             "float32's, and may miss the tolerance");
  set.choice("vectors", vectors_, {"average", "dense"},
             "norms, scales and lone biases: averaged, or matched by their dense Fisher matrix (gradient_gram)");
  set.node("init", init_, "the start: zero, base, expert:<task>, or a method");
}

void Mats::configure(const std::string& where) {
  start_ = std::make_unique<Start>(init_, where + ".init");
  if (solver_ == "direct") refuse_unused(where);
}

/// Of the solver's options the closed form takes the tolerance alone, to say whether it was met.
void Mats::refuse_unused(const std::string& where) const {
  const Mats defaults;
  std::vector<std::string> unused = cg_.changed();
  std::erase(unused, "tolerance");
  if (preconditioner_ != defaults.preconditioner_) unused.emplace_back("preconditioner");
  if (precision_ != defaults.precision_) unused.emplace_back("precision");
  require_input(unused.empty(), "{}: `solver: direct` does not iterate, and computes in float64; leave `{}` out", where,
                fmt::join(unused, "`, `"));
}

MethodRequirements Mats::requirements() const {
  MethodRequirements requirements = start_->requirements();
  requirements.layers = true;
  requirements.negative_weights = false;
  if (solver_ == "direct") requirements.most_experts = 2;
  requirements.vectors = vectors_ == "dense";
  if (requirements.vectors) requirements.statistics.insert(StatisticKind::kGradientGram);
  if (factors_.factors != "available")
    for (const StatisticKind kind : kinds_from_word(factors_.factors)) requirements.statistics.insert(kind);
  if (factors_.normalise == "fisher") requirements.statistics.insert(StatisticKind::kSquaredGradient);
  return requirements;
}

std::string Mats::why_not(const ExpertInput& expert, const LayerMatrix& layer) const {
  if (factors_.factors != "available") return "";
  const LayerKnowledge knowledge = knowledge_of(factors_, expert, layer);
  if (knowledge == LayerKnowledge::kNothing)
    return fmt::format("task '{}' has no statistic of layer '{}'", expert.task, layer.layer().name);
  const bool of_outputs = factors_.normalise == "rows" || factors_.normalise == "outputs";
  if (of_outputs && knowledge != LayerKnowledge::kKronecker)
    return fmt::format("`normalise: {}` is for Kronecker factors, and task '{}' has none of layer '{}'",
                       factors_.normalise, expert.task, layer.layer().name);
  return "";
}

/// Layers of which the experts know different things are solved apart.
std::string Mats::batch_key(const MergeInput& input, const LayerMatrix& layer) const {
  std::string key;
  for (const ExpertInput& expert : input.experts)
    key += fmt::format("{} ", static_cast<int>(knowledge_of(factors_, expert, layer)));
  return key;
}

std::string Mats::memory_key() const { return "mats, " + factors_.text(); }

void Mats::plan(const MergeInput& input) {
  start_->plan(input);
  for (const ExpertInput& expert : input.experts)
    require_input(
        expert.statistics != nullptr,
        "method 'mats' with `factors: available` needs statistics of every task, and task '{}' has none; name "
        "some in `statistics.kinds`, or give the task a file of statistics",
        expert.task);
}

Solution Mats::solve_system(const MatsSystem& system, const at::Tensor& rhs, const at::Tensor& start,
                            const Checkpoint& checkpoint) const {
  CgOptions options = cg_;
  options.at_check = [&](int64_t) { checkpoint(); };
  if (precision_ == "float32") {
    const auto op = system.whole(at::kFloat);
    const auto preconditioner = make_preconditioner(preconditioner_, *op);
    return solve(*op, rhs.to(at::kFloat), start.to(at::kFloat), preconditioner.get(), options);
  }
  const auto op = system.whole(at::kDouble);
  if (solver_ == "direct") {
    require_input(system.has_closed_form(),
                  "mats: `solver: direct` is for Kronecker factors, and a task has only a diagonal of layer '{}'; take "
                  "`solver: cg`",
                  system.batch().layers().front().layer().name);
    return solve_two_terms(*op, rhs, start, cg_.tolerance);
  }
  if (precision_ == "float64") {
    const auto preconditioner = make_preconditioner(preconditioner_, *op);
    return solve(*op, rhs, start, preconditioner.get(), options);
  }
  const auto inner = system.whole(at::kFloat);
  const auto preconditioner = make_preconditioner(preconditioner_, *inner);
  return solve_refined(*op, *inner, rhs, start, preconditioner.get(), options);
}

GroupResult Mats::merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) {
  if (!group.parameters.empty())
    return merge_vectors(input, group.parameters,
                         {factors_.normalise == "trace", factors_.damping, factors_.off_diagonal}, *start_, checkpoint);
  const auto shared =
      group.remember<MatsSystem>(memory_key(), [&] { return MatsSystem(input, group.layers, factors_, checkpoint); });
  const MatsSystem& system = *shared;
  const LayerBatch& batch = system.batch();
  const at::Tensor reference = batch.reference(at::kDouble);  // W* [L, rows, columns]
  const at::Tensor start = start_->matrices(input, group, batch, at::kDouble, checkpoint) - reference;
  const Solution solution = solve_system(system, system.right_hand_side(reference), start, checkpoint);

  at::Tensor merged = reference + solution.x;
  GroupResult result{{}, {}, batch.report(report_items(solution, solver_ == "direct"))};
  system.note_jitter(result.reports);
  batch.settle_unheard(system.say(), merged, result.reports);
  diagnose(batch, merged, {system.effective_rank(), system.unseen_part(merged), system.all_kronecker()},
           result.reports);
  result.matrices = batch.split(merged);
  return result;
}

}  // namespace amalgam
