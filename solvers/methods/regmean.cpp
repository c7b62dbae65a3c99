#include "solvers/methods/regmean.h"

#include <fmt/format.h>

#include "solvers/linear/kronecker_sum.h"
#include "solvers/methods/layer_batch.h"
#include "solvers/methods/layer_factors.h"

namespace amalgam {
namespace {

const RegisterMethod<RegMean> registered("regmean", "least squares on every expert's own layer inputs",
                                         "Jin et al. 2023");

constexpr double kLeastRidge = 1e-12, kMostRidge = 1e-2;  // relative, where the ridge has to be raised

struct RidgeSolution {
  at::Tensor x;               // [L, rows, columns]
  std::vector<double> ridge;  // the relative ridge that each item took
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
  const at::Tensor on_host = relative.cpu();
  return {at::where(good_item, x, at::zeros_like(x)),
          {on_host.data_ptr<double>(), on_host.data_ptr<double>() + on_host.numel()}};
}

/// What does not depend on λ and the ridge: variants that differ in these alone read the statistics once.
struct Sums {
  at::Tensor gram;              // Σ s A  [L, columns, columns]
  at::Tensor change;            // Σ s (W − W*) A  [L, rows, columns]
  at::Tensor diagonal;          // Σ s (W − W*) diag(A)  [L, rows, columns]
  std::vector<at::Tensor> say;  // s tr(A) of each expert  [L]
};

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
    if (solution.ridge[item] > ridge)
      report.notes.push_back(
          fmt::format("the ridge was raised to {:.0e}: the Gram matrix is singular", solution.ridge[item]));
  }
  return items;
}

}  // namespace

MethodRequirements RegMean::requirements() const {
  MethodRequirements requirements{.statistics = {StatisticKind::kInputGram}, .layers = true};
  if (weights_ == "gradient") requirements.statistics.insert(StatisticKind::kOutputGram);
  return requirements;
}

void RegMean::declare_options(OptionSet& set) {
  set.real("off_diagonal", off_diagonal_, {0, 1}, "factor of the Gram matrices' off-diagonal elements, λ");
  set.real("ridge", ridge_, {0, 1}, "added to the summed Gram matrix, relative to its mean diagonal");
  set.choice("weights", weights_, {"uniform", "gradient"},
             "uniform: the tasks' weights; gradient: these times the trace of the layer's output gradients");
}

GroupResult RegMean::merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) {
  const LayerBatch batch(input, group.layers);
  const at::Tensor reference = batch.reference(at::kDouble);  // W* [L, rows, columns]
  const auto sums = group.remember<Sums>("regmean, weights " + weights_, [&] {
    Sums fresh{at::zeros({batch.items(), batch.columns(), batch.columns()}, reference.options()),
               at::zeros_like(reference),
               at::zeros_like(reference),
               {}};
    for (const ExpertInput& expert : input.experts) {
      checkpoint();
      at::Tensor gram =
          batch.stack([&](const LayerMatrix& layer) { return input_factor(expert, layer, input.device); }, at::kDouble);
      if (weights_ == "gradient")
        gram.mul_(batch.stack(
            [&](const LayerMatrix& layer) {
              return traces(output_factor(expert, layer, input.device)).view({-1, 1, 1});
            },
            at::kDouble));
      gram.mul_(expert.weight);
      const at::Tensor change = batch.gather(*expert.tensors, at::kDouble) - reference;
      fresh.gram.add_(gram);
      fresh.change.baddbmm_(change, gram);
      fresh.diagonal.addcmul_(change, gram.diagonal(0, -2, -1).unsqueeze(1));
      fresh.say.push_back(traces(gram));
    }
    return fresh;
  });
  at::Tensor sum = sums->gram.clone();  // Σ s Ã
  scale_off_diagonal(sum, off_diagonal_);
  const at::Tensor rhs = sums->diagonal.lerp(sums->change, off_diagonal_);  // Σ s (W − W*) Ã

  const RidgeSolution solution = solve_right(sum, rhs, ridge_);
  at::Tensor merged = reference + solution.x;
  GroupResult result{{}, {}, batch.report(report_items(solution, sum, rhs, ridge_))};
  batch.settle_unheard(sums->say, merged, result.reports);
  result.matrices = batch.split(merged);
  return result;
}

}  // namespace amalgam
