#include "solvers/methods/gram_solve.h"

#include <fmt/format.h>

#include "solvers/linear/kronecker_sum.h"
#include "solvers/linear/null_space.h"
#include "solvers/methods/diagnostics.h"
#include "solvers/methods/layer_factors.h"

namespace amalgam {
namespace {

constexpr double kLeastRidge = 1e-12, kMostRidge = 1e-2;  // relative, where the ridge has to be raised

struct RidgeSolution {
  at::Tensor x;               // [L, rows, columns]
  std::vector<double> ridge;  // the relative ridge that each item took
  std::vector<bool> failed;   // no ridge was enough, though S is not zero
};

/// X (S + ρ mean(diag S) I) = rhs by Cholesky. Items that have no factor are tried again with ten times the ridge;
/// where `kMostRidge` is not enough (S is zero) X is zero.
RidgeSolution solve_right(const at::Tensor& sum, const at::Tensor& rhs, double ridge) {
  const at::Tensor identity = at::eye(sum.size(1), sum.options());
  const at::Tensor mean = sum.diagonal(0, -2, -1).mean(-1).view({-1, 1, 1});
  at::Tensor relative = at::full({sum.size(0)}, ridge, sum.options()), factor, good;
  while (true) {
    const auto [trial, info] = at::linalg_cholesky_ex(sum + identity * (mean * relative.view({-1, 1, 1})));
    factor = trial;
    good = info.eq(0);
    const at::Tensor again = good.logical_not().logical_and_(mean.flatten() > 0).logical_and_(relative < kMostRidge);
    if (!again.any().item<bool>()) break;
    relative = at::where(again, (relative * 10).clamp_min(kLeastRidge), relative);
  }
  const at::Tensor good_item = good.view({-1, 1, 1});
  const at::Tensor x = at::cholesky_solve(rhs.transpose(1, 2), at::where(good_item, factor, identity)).transpose(1, 2);
  const at::Tensor on_host = relative.cpu(), failed = good.logical_not().logical_and_(mean.flatten() != 0).cpu();
  return {at::where(good_item, x, at::zeros_like(x)),
          {on_host.data_ptr<double>(), on_host.data_ptr<double>() + on_host.numel()},
          std::vector<bool>(failed.data_ptr<bool>(), failed.data_ptr<bool>() + failed.numel())};
}

std::vector<LayerReport> report_items(const RidgeSolution& solution, const at::Tensor& sum, const at::Tensor& rhs,
                                      double ridge) {
  const at::Tensor rhs_norm = at::linalg_vector_norm(rhs, 2, at::IntArrayRef{1, 2});
  const at::Tensor error = at::linalg_vector_norm(rhs - solution.x.bmm(sum), 2, at::IntArrayRef{1, 2});
  const at::Tensor residual = at::where(rhs_norm > 0, error / rhs_norm, error).cpu();  // [L]
  std::vector<LayerReport> items;
  for (size_t item = 0; item < solution.ridge.size(); ++item) {
    LayerReport& report = items.emplace_back();
    report.solver = "cholesky";
    report.residual = residual.data_ptr<double>()[item];
    report.why = "solved directly";
    if (solution.failed[item]) {
      report.converged = false;
      report.why = "the summed Gram matrix is not positive, whatever the ridge: collect the statistics again";
      continue;
    }
    if (solution.ridge[item] > ridge)
      report.notes.push_back(
          fmt::format("the ridge was raised to {:.0e}: the Gram matrix is singular", solution.ridge[item]));
  }
  return items;
}

}  // namespace

GramSums::GramSums(const LayerBatch& batch) {
  const auto options = at::TensorOptions(batch.input().device).dtype(at::kDouble);
  reference = batch.reference(at::kDouble);
  gram = at::zeros({batch.items(), batch.columns(), batch.columns()}, options);
  change = at::zeros_like(reference);
  diagonal = at::zeros_like(change);
}

void GramSums::add(const LayerBatch& batch, const ExpertInput& expert, const at::Tensor& own) {
  const at::Tensor moved = batch.gather(expert, at::kDouble) - reference;
  gram.add_(own);
  change.baddbmm_(moved, own);
  diagonal.addcmul_(moved, own.diagonal(0, -2, -1).unsqueeze(1));
  say.push_back(traces(own));
  effective_rank.push_back(amalgam::effective_rank(own));
}

GroupResult solve_gram(const LayerBatch& batch, const GramSums& sums, double off_diagonal, double ridge) {
  at::Tensor sum = sums.gram.clone();
  scale_off_diagonal(sum, off_diagonal);
  const at::Tensor rhs = sums.diagonal.lerp(sums.change, off_diagonal);
  const RidgeSolution solution = solve_right(sum, rhs, ridge);
  at::Tensor merged = sums.reference + solution.x;
  GroupResult result{{}, {}, batch.report(report_items(solution, sum, rhs, ridge))};
  batch.settle_unheard(sums.say, merged, result.reports);
  diagnose(batch, merged, {sums.effective_rank, hardly_seen_part(merged, sum)}, result.reports);
  result.matrices = batch.split(merged);
  return result;
}

}  // namespace amalgam
