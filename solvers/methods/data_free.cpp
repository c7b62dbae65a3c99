#include "solvers/methods/data_free.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "solvers/linear/kronecker_sum.h"
#include "solvers/linear/preconditioner.h"
#include "solvers/methods/interference.h"

namespace amalgam {
namespace {

const RegisterMethod<DataFree> registered("data_free", "regmean or mats with the experts' changes in the place of data",
                                          "Cheng et al. 2025 (WUDI's objective); Jin et al. 2023; Tam et al. 2023");

}  // namespace

std::vector<double> weights_by_norm(const std::vector<at::Tensor>& changes, const std::vector<double>& weights) {
  std::vector<double> normalised;
  for (size_t m = 0; m < changes.size(); ++m) {
    const double square = changes[m].square().sum().item<double>();
    normalised.push_back(square > 0 ? weights[m] / square : 0.0);
  }
  return normalised;
}

void DataFree::declare_options(OptionSet& set) {
  MatrixMethod::declare_options(set);
  set.choice("form", form_, {"regmean", "mats"},
             "regmean: the changes stand for the inputs; mats: for the outputs' gradients too");
  set.choice("normalise", normalise_, {"none", "norm"}, "norm: each task's system is divided by its trace");
  set.real("ridge", ridge_, {0, 1}, "of `form: regmean`: added to the summed system, relative to its mean diagonal");
  set.real("damping", damping_, {0, 1e9}, "of `form: mats`: added to B, relative to its mean diagonal, δ");
  cg_.declare(set);
}

void DataFree::configure(const std::string& where) {
  const DataFree defaults;
  const bool iterates = form_ == "mats";
  std::vector<std::string> unused = iterates ? std::vector<std::string>{} : cg_.changed();
  if (iterates && ridge_ != defaults.ridge_) unused.emplace_back("ridge");
  if (!iterates && damping_ != defaults.damping_) unused.emplace_back("damping");
  require_input(unused.empty(), "{}: `form: {}` has no use for it: leave `{}` out, or take `form: {}`", where, form_,
                fmt::join(unused, "`, `"), iterates ? "regmean" : "mats");
}

at::Tensor DataFree::solve_both(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                                LayerReport& report, const Checkpoint& checkpoint) const {
  const int64_t rows = changes[0].size(0), columns = changes[0].size(1);
  const bool with_outputs = rows <= kMostRows;
  std::vector<KroneckerTerm> terms;
  for (size_t m = 0; m < changes.size(); ++m) {
    const double square = changes[m].square().sum().item<double>();  // tr A = tr B
    if (square == 0) continue;
    KroneckerTerm& term = terms.emplace_back();
    term.weight = weights[m];
    term.input = changes[m].t().mm(changes[m]).unsqueeze(0);
    if (with_outputs) {
      term.output = changes[m].mm(changes[m].t());
      term.output.diagonal().add_(damping_ * square / static_cast<double>(rows));
      term.output = term.output.unsqueeze(0);
    }
    if (normalise_ == "norm") term.weight /= with_outputs ? square * square * (1 + damping_) : square;
  }
  if (terms.empty()) return at::zeros_like(changes[0]);
  if (!with_outputs) report.notes.push_back(fmt::format("{} rows: only the inputs' side is solved for", rows));

  const std::array<int64_t, 3> sizes = {1, rows, columns};
  at::Tensor rhs = at::zeros({1, rows, columns}, changes[0].options()), product = at::empty_like(rhs);
  size_t next = 0;
  for (const at::Tensor& change : changes) {
    if (change.square().sum().item<double>() == 0) continue;
    KroneckerSum(sizes, {terms[next++]}, rhs.options()).apply(change.unsqueeze(0).contiguous(), product);
    rhs += product;
  }
  const KroneckerSum system(sizes, terms, rhs.options());
  CgOptions options = cg_;
  options.at_check = [&](int64_t) { checkpoint(); };
  const Solution solution =
      solve(system, rhs, at::zeros_like(rhs), make_preconditioner("kronecker_trace", system).get(), options);
  const ItemSummary& summary = solution.items[0];
  report.solver = "conjugate gradients";
  report.iterations = summary.iterations;
  report.residual = summary.residual;
  report.converged = summary.converged;
  report.why = summary.why;
  const at::Tensor history = solution.history.flatten().contiguous();
  report.history.assign(history.data_ptr<double>(), history.data_ptr<double>() + history.numel());
  return solution.x[0];
}

at::Tensor DataFree::merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                                   double /*rounding*/, LayerReport& report, const Checkpoint& checkpoint) const {
  if (form_ == "mats") return solve_both(changes, weights, report, checkpoint);
  const Interference objective(changes, normalise_ == "norm" ? weights_by_norm(changes, weights) : weights);
  const at::Tensor merged = objective.minimiser(ridge_);
  const double size = objective.gradient(at::zeros_like(merged)).norm().item<double>();
  const double left = objective.gradient(merged).norm().item<double>();
  report.solver = "eigendecomposition";
  report.residual = size > 0 ? left / size : 0.0;  // of the system without ridge
  report.why = "solved directly";
  return merged;
}

}  // namespace amalgam
