#include "solvers/methods/mats.h"

#include "solvers/linear/null_space.h"
#include "solvers/linear/preconditioner.h"
#include "solvers/methods/layer_factors.h"
#include "solvers/methods/vector_fisher.h"

namespace amalgam {
namespace {

const RegisterMethod<Mats> registered("mats", "Fisher matching with Kronecker factors, by conjugate gradients",
                                      "Tam, Bansal & Raffel 2023 (MaTS)");

/// B + δ tr(B)/n I, in place: [L, n, n].
void damp(at::Tensor& matrices, double damping) {
  at::Tensor diagonal = matrices.diagonal(0, -2, -1);
  diagonal.add_(diagonal.mean(-1, true) * damping);
}

/// M without its part in the projector's range: (I − Π) M (I − Π).
at::Tensor restricted(const at::Tensor& matrices, const at::Tensor& projector) {
  const at::Tensor half = matrices - projector.bmm(matrices);
  return half - half.bmm(projector);
}

/// Directions with less than 1e-6 of the largest energy, meant over the tasks, are below what sums of float32 products
/// can tell: they become exactly unseen, so that the solution keeps the start there and the residual is of what is
/// seen.
void drop_unseen(std::vector<KroneckerTerm>& terms) {
  const TraceFactors mean = trace_factors(terms);
  const at::Tensor right = null_space_projector(mean.input), left = null_space_projector(mean.output);
  for (KroneckerTerm& term : terms) {
    if (right.defined()) term.input = restricted(term.input, right);
    if (left.defined()) term.output = restricted(term.output, left);
  }
}

/// Scales every item's B_m so that the mean eigenvalue of K is 1: the solution stays, and float32 neither over- nor
/// underflows where gradients are tiny. An item without any say stays zero.
void balance(std::vector<KroneckerTerm>& terms) {
  at::Tensor mean;  // [L]
  for (const KroneckerTerm& term : terms) {
    const at::Tensor part = traces(term.input) * traces(term.output) * term.weight;
    mean = mean.defined() ? mean + part : part;
  }
  mean.div_(terms.front().input.size(1) * terms.front().output.size(1));
  const at::Tensor factor = at::where(mean > 0, mean.reciprocal(), at::ones_like(mean)).view({-1, 1, 1});
  for (KroneckerTerm& term : terms) term.output.mul_(factor);
}

/// Σ α B (W_m − W*) A: [L, rows, columns].
at::Tensor right_hand_side(const MergeInput& input, const LayerBatch& batch, const std::vector<KroneckerTerm>& terms,
                           const at::Tensor& reference) {
  at::Tensor rhs = at::zeros_like(reference);
  for (size_t m = 0; m < terms.size(); ++m) {
    const at::Tensor change = batch.gather(*input.experts[m].tensors, reference.scalar_type()) - reference;
    rhs.baddbmm_(terms[m].output.bmm(change), terms[m].input, 1.0, terms[m].weight);
  }
  return rhs;
}

std::vector<LayerReport> report_items(const Solution& solution) {
  const at::Tensor history = solution.history.t().contiguous();  // [L, iterations + 1]
  std::vector<LayerReport> items;
  for (size_t item = 0; item < solution.items.size(); ++item) {
    const ItemSummary& summary = solution.items[item];
    const double* curve = history.data_ptr<double>() + static_cast<int64_t>(item) * history.size(1);
    LayerReport& report = items.emplace_back();
    report.solver = "conjugate gradients";
    report.iterations = summary.iterations;
    report.residual = summary.residual;
    report.converged = summary.converged;
    report.why = summary.why;
    report.history.assign(curve, curve + summary.iterations + 1);
  }
  return items;
}

}  // namespace

Mats::Mats() {
  init_["method"] = "task_arithmetic";
  init_["scale"] = "0.3";  // as text: yaml-cpp writes a double with 17 digits
}

void Mats::declare_options(OptionSet& set) {
  set.choice("factors", factors_, {"kronecker", "kronecker_reduced"},
             "what stands for the Fisher information of a layer: K-FAC in its form expand, or reduce");
  set.real("off_diagonal", off_diagonal_, {0, 1}, "factor of both factors' off-diagonal elements, λ");
  set.real("damping", damping_, {0, 1e9}, "added to B, relative to its mean diagonal, δ");
  set.choice("normalise", normalise_, {"none", "rows", "trace", "fisher"},
             "none: A by rows, B by examples; rows: B by rows too; trace: by tr(A) tr(B); fisher: to the trace of the "
             "layer's diagonal Fisher");
  cg_.declare(set);
  set.choice("preconditioner", preconditioner_, preconditioner_names(), "of the conjugate gradients");
  set.choice("precision", precision_, {"float32", "float64"},
             "that the system is solved in; float32 halves time and memory, and may miss the tolerance");
  set.choice("vectors", vectors_, {"average", "dense"},
             "norms, scales and lone biases: averaged, or matched by their dense Fisher matrix (gradient_gram)");
  set.node("init", init_, "the start: zero, base, expert:<task>, or a method");
}

void Mats::configure(const std::string& where) { start_ = std::make_unique<Start>(init_, where + ".init"); }

MethodRequirements Mats::requirements() const {
  MethodRequirements requirements = start_->requirements();
  requirements.layers = true;
  requirements.negative_weights = false;
  requirements.vectors = vectors_ == "dense";
  if (requirements.vectors) requirements.statistics.insert(StatisticKind::kGradientGram);
  for (const StatisticKind kind : kinds_from_word(factors_)) requirements.statistics.insert(kind);
  if (normalise_ == "fisher") requirements.statistics.insert(StatisticKind::kSquaredGradient);
  return requirements;
}

KroneckerForm Mats::form() const {
  return factors_ == "kronecker_reduced" ? KroneckerForm::kReduce : KroneckerForm::kExpand;
}

void Mats::plan(const MergeInput& input) { start_->plan(input); }

at::Tensor Mats::scale(const ExpertInput& expert, const LayerBatch& batch, const KroneckerTerm& factors,
                       at::Device device) const {
  if (normalise_ == "none") return at::ones({batch.items()}, factors.input.options());
  if (normalise_ == "rows") {
    const auto examples = static_cast<double>(expert.statistics->header().examples());
    const auto per_row = [&](const LayerMatrix& layer) {
      const auto rows = static_cast<double>(expert.statistics->rows(layer.layer(), form()));
      return at::full({layer.groups()}, examples / rows, at::kDouble);
    };
    return batch.stack(per_row, at::kDouble);
  }
  const at::Tensor product = traces(factors.input) * traces(factors.output);  // [L]
  const at::Tensor target =
      normalise_ == "trace"
          ? at::ones_like(product)
          : batch.stack([&](const LayerMatrix& layer) { return summed_fisher(expert, layer, device); }, at::kDouble);
  return at::where(product > 0, target / product, at::zeros_like(product));
}

std::vector<KroneckerTerm> Mats::terms(const MergeInput& input, const LayerBatch& batch, at::ScalarType dtype,
                                       const Checkpoint& checkpoint) const {
  std::vector<KroneckerTerm> terms;
  for (const ExpertInput& expert : input.experts) {
    checkpoint();
    const auto input_gram = [&](const LayerMatrix& layer) { return input_factor(expert, layer, input.device, form()); };
    const auto output_gram = [&](const LayerMatrix& layer) {
      return output_factor(expert, layer, input.device, form());
    };
    KroneckerTerm factors{expert.weight, batch.stack(output_gram, at::kDouble), batch.stack(input_gram, at::kDouble)};
    factors.output.mul_(scale(expert, batch, factors, input.device).view({-1, 1, 1}));
    scale_off_diagonal(factors.input, off_diagonal_);
    scale_off_diagonal(factors.output, off_diagonal_);
    damp(factors.output, damping_);
    terms.push_back(std::move(factors));
  }
  drop_unseen(terms);
  balance(terms);
  for (KroneckerTerm& term : terms) {
    term.output = term.output.to(dtype);
    term.input = term.input.to(dtype);
  }
  return terms;
}

GroupResult Mats::merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) {
  if (!group.parameters.empty())
    return merge_vectors(input, group.parameters, {normalise_ == "trace", damping_}, *start_, checkpoint);
  const at::ScalarType dtype = precision_ == "float64" ? at::kDouble : at::kFloat;
  const LayerBatch batch(input, group.layers);
  const at::Tensor reference = batch.reference(dtype);  // W* [L, rows, columns]
  const at::Tensor start = start_->matrices(input, group, batch, dtype, checkpoint) - reference;

  const KroneckerSum op(terms(input, batch, dtype, checkpoint));
  const at::Tensor rhs = right_hand_side(input, batch, op.kronecker_terms(), reference);
  const auto preconditioner = make_preconditioner(preconditioner_, op);
  CgOptions options = cg_;
  options.at_check = [&](int64_t) { checkpoint(); };
  const Solution solution = solve(op, rhs, start, preconditioner.get(), options);

  at::Tensor merged = reference + solution.x;
  GroupResult result{{}, {}, batch.report(report_items(solution))};
  std::vector<at::Tensor> say;
  for (const KroneckerTerm& term : op.kronecker_terms())
    say.push_back(traces(term.input) * traces(term.output) * term.weight);
  batch.settle_unheard(say, merged, result.reports);
  result.matrices = batch.split(merged);
  return result;
}

}  // namespace amalgam
