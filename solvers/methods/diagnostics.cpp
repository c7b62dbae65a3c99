#include "solvers/methods/diagnostics.h"

#include <cmath>
#include <limits>

#include "solvers/linear/kronecker_sum.h"

namespace amalgam {
namespace {

/// Σ of squares over each layer's items, on the host.
std::vector<double> squares(const LayerBatch& batch, const at::Tensor& matrices) {
  const at::Tensor of_item = matrices.square().sum({1, 2}, false, at::kDouble).cpu();  // [L]
  std::vector<double> sums;
  for (const at::Tensor& part : batch.split(of_item)) sums.push_back(part.sum().item<double>());
  return sums;
}

double share(double part, double whole) { return whole > 0 ? part / whole : 0.0; }

}  // namespace

at::Tensor effective_rank(const at::Tensor& matrices) {
  const at::Tensor trace = traces(matrices), square = matrices.square().sum({1, 2}, false, at::kDouble);
  return at::where(square > 0, trace * trace / square, at::zeros_like(square));
}

void diagnose(const LayerBatch& batch, const at::Tensor& merged, const SolveFacts& facts,
              std::vector<LayerReport>& reports) {
  const std::vector<double> whole = squares(batch, merged);
  const auto for_each_layer = [&](const auto& write) {
    for (size_t i = 0; i < reports.size(); ++i) write(i, *reports[i].diagnostics);
  };
  for (LayerReport& report : reports)
    if (!report.diagnostics) report.diagnostics.emplace();

  const at::Tensor average = batch.average(merged.scalar_type());
  const std::vector<double> size = squares(batch, average), moved = squares(batch, merged - average);
  for_each_layer([&](size_t i, LayerDiagnostics& of) { of.from_average = std::sqrt(share(moved[i], size[i])); });
  for (const ExpertInput& expert : batch.input().experts) {
    const std::vector<double> apart = squares(batch, merged - batch.gather(*expert.tensors, merged.scalar_type()));
    for_each_layer(
        [&](size_t i, LayerDiagnostics& of) { of.from_expert.push_back(std::sqrt(share(apart[i], size[i]))); });
  }
  for (const at::Tensor& rank : facts.effective_rank) {
    const std::vector<at::Tensor> of_layer = batch.split(rank.cpu());
    for_each_layer(
        [&](size_t i, LayerDiagnostics& of) { of.effective_rank.push_back(of_layer[i].mean().item<double>()); });
  }
  if (!facts.knows_unseen)
    for_each_layer([](size_t, LayerDiagnostics& of) { of.unseen = std::numeric_limits<double>::quiet_NaN(); });
  if (!facts.unseen.defined()) return;
  const std::vector<double> unseen = squares(batch, facts.unseen);
  for_each_layer([&](size_t i, LayerDiagnostics& of) { of.unseen = share(unseen[i], whole[i]); });
}

}  // namespace amalgam
