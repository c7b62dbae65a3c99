#include "solvers/methods/karcher.h"

#include <cmath>

#include "solvers/methods/experts.h"
#include "solvers/methods/pieces.h"

namespace amalgam {
namespace {

const RegisterMethod<Karcher> registered("karcher", "the experts' mean on the sphere, tensor by tensor",
                                         "Grove & Karcher 1973; mergekit");

constexpr double kNoDirection = 1e-12;  // of a sum of unit vectors: what rounding leaves where they cancel
constexpr double kNoExtent = 1e-15;     // of the largest eigenvalue of their products: what rounding leaves of none

/// T at u: the weighted sum of the tangents from u to each u_i, as long as the arcs.
at::Tensor tangent(const at::Tensor& u, const std::vector<at::Tensor>& units, const std::vector<double>& weights) {
  at::Tensor sum = at::zeros_like(u);
  for (size_t i = 0; i < units.size(); ++i) {
    const double cosine = u.dot(units[i]).item<double>();
    const at::Tensor across = units[i] - u * cosine;
    const double sine = across.norm().item<double>();
    if (sine > kNoDirection) sum.add_(across, weights[i] * std::atan2(sine, cosine) / sine);
  }
  return sum;
}

/// ⟨θ_i, θ_j⟩ of the experts with a say, float64, [M, M].
at::Tensor products_of(const MergeInput& input, const std::string& name, int64_t experts) {
  at::Tensor products = at::zeros({experts, experts}, at::kDouble);
  for_each_piece(input, name, [&](const MergeInput& piece, int64_t) {
    std::vector<at::Tensor> flat;
    for (const ExpertInput& expert : heard_experts(piece))
      flat.push_back(read_parameter(*expert.tensors, name, piece.device).to(at::kDouble).flatten());
    for (int64_t i = 0; i < experts; ++i)
      for (int64_t j = 0; j <= i; ++j)
        products[i][j] += flat[static_cast<size_t>(i)].dot(flat[static_cast<size_t>(j)]).cpu();
  });
  return products.tril() + products.tril(-1).t();
}

/// Vectors that know each other only by their products: as coordinates in the space that they span.
struct Coordinates {
  std::vector<at::Tensor> vectors;  // one each, [rank]
  at::Tensor shares;                // [M, rank]: Σ_k shares[i][k] x_k of vector i sum to the vector of coordinates x
};

/// @param products  ⟨u_i, u_j⟩, [M, M]
Coordinates coordinates_of(const at::Tensor& products) {
  const auto [values, vectors] = at::linalg_eigh(products);  // ascending
  const at::Tensor kept = (values > kNoExtent * values[-1]).nonzero().flatten();
  const at::Tensor lengths = values.index_select(0, kept).sqrt(), directions = vectors.index_select(1, kept);
  return {(directions * lengths).unbind(0), directions / lengths};
}

}  // namespace

KarcherMean karcher_mean(const std::vector<at::Tensor>& units, const std::vector<double>& weights, int64_t iterations,
                         double tolerance) {
  TORCH_CHECK(!units.empty() && units.size() == weights.size(), "a Karcher mean needs one weight a direction");
  KarcherMean mean;
  at::Tensor sum = at::zeros_like(units.front());
  for (size_t i = 0; i < units.size(); ++i) sum.add_(units[i], weights[i]);
  const double norm = sum.norm().item<double>();
  mean.direction = norm > kNoDirection ? sum / norm : units.front();
  while (true) {
    const at::Tensor step = tangent(mean.direction, units, weights);
    mean.residual = step.norm().item<double>();
    if (mean.residual < tolerance || mean.iterations == iterations) return mean;
    mean.direction = mean.direction * std::cos(mean.residual) + step * (std::sin(mean.residual) / mean.residual);
    mean.direction.div_(mean.direction.norm());
    ++mean.iterations;
  }
}

void Karcher::declare_options(OptionSet& set) {
  set.integer("iterations", iterations_, {1, 10000}, "steps at most");
  set.real("tolerance", tolerance_, {0, 1}, "stop where the mean would move by less, in radians");
}

at::Tensor Karcher::merge_parameter(const MergeInput& input, const std::string& name, LayerReport& report) const {
  const auto experts = heard_experts(input);
  const at::Tensor products = products_of(input, name, std::ssize(experts));
  const at::Tensor norms = products.diagonal().sqrt(),
                   places = norms.nonzero().flatten();  // of those that are not zero
  double total = 0.0, norm_sum = 0.0, heard = 0.0;      // Σ α, Σ α ‖θ‖, Σ α of what is not zero
  std::vector<double> weights;
  for (size_t m = 0; m < experts.size(); ++m) {
    const auto norm = norms[static_cast<int64_t>(m)].item<double>();
    total += experts[m].weight;
    norm_sum += experts[m].weight * norm;
    if (norm == 0) continue;
    heard += experts[m].weight;
    weights.push_back(experts[m].weight);
  }
  at::Tensor factors = at::zeros_like(norms);  // of the experts
  if (!weights.empty()) {
    for (double& weight : weights) weight /= heard;
    const at::Tensor own = norms.index_select(0, places);
    const Coordinates units = coordinates_of(products.index_select(0, places).index_select(1, places) / own.outer(own));
    const KarcherMean mean = karcher_mean(units.vectors, weights, iterations_, tolerance_);
    factors.index_copy_(0, places, units.shares.mv(mean.direction) / own * (norm_sum / total));
    report.iterations = mean.iterations;
    report.residual = mean.residual;
    report.converged = mean.residual < tolerance_;
    report.why = report.converged ? "tolerance reached" : "iteration limit";
  }
  return merge_in_pieces(input, name, [&](const MergeInput& piece, int64_t) {
    const auto of_piece = heard_experts(piece);
    at::Tensor sum = at::zeros_like(read_parameter(*of_piece.front().tensors, name, piece.device), at::kDouble);
    for (size_t m = 0; m < of_piece.size(); ++m)
      sum.add_(read_parameter(*of_piece[m].tensors, name, piece.device),
               factors[static_cast<int64_t>(m)].item<double>());
    return sum;
  });
}

GroupResult Karcher::merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) {
  TORCH_CHECK(group.layers.empty(), name(), " merges parameters, not layers");
  GroupResult result;
  for (const std::string& parameter : group.parameters) {
    checkpoint();
    LayerReport& report = result.reports.emplace_back();
    report.layer = parameter;
    report.solver = "Karcher mean";
    report.why = "every expert is zero here";
    result.merged[parameter] = merge_parameter(input, parameter, report);
  }
  return result;
}

}  // namespace amalgam
