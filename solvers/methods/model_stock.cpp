#include "solvers/methods/model_stock.h"

#include <algorithm>
#include <cmath>

#include "solvers/methods/average.h"
#include "solvers/methods/experts.h"
#include "solvers/methods/pieces.h"

namespace amalgam {
namespace {

const RegisterMethod<ModelStock> registered("model_stock",
                                            "the mean drawn towards the base by the angle between the experts' changes",
                                            "Jang, Yun & Han 2024 (Model Stock)");

/// The changes of the experts with a say, float64, flat.
std::vector<at::Tensor> changes_of(const MergeInput& piece, const std::string& name) {
  const at::Tensor base = read_parameter(*piece.base, name, piece.device).flatten();
  std::vector<at::Tensor> changes;
  for (const ExpertInput& expert : heard_experts(piece))
    changes.push_back((read_parameter(*expert.tensors, name, piece.device).flatten() - base).to(at::kDouble));
  return changes;
}

/// Mean of cos(d_i, d_j) over all pairs of M changes, from ‖Σ u‖² = M + Σ_{i≠j} ⟨u_i, u_j⟩ of unit vectors.
double mean_cosine(const MergeInput& input, const std::string& name, size_t experts) {
  std::vector<double> squares(experts, 0.0);  // ‖d‖²
  for_each_piece(input, name, [&](const MergeInput& piece, int64_t) {
    const std::vector<at::Tensor> changes = changes_of(piece, name);
    for (size_t m = 0; m < experts; ++m) squares[m] += changes[m].dot(changes[m]).item<double>();
  });
  double square = 0.0;  // ‖Σ u‖²
  for_each_piece(input, name, [&](const MergeInput& piece, int64_t) {
    const std::vector<at::Tensor> changes = changes_of(piece, name);
    at::Tensor sum = at::zeros_like(changes.front());
    for (size_t m = 0; m < experts; ++m)
      if (squares[m] > 0) sum.add_(changes[m], 1 / std::sqrt(squares[m]));
    square += sum.dot(sum).item<double>();
  });
  const auto own = static_cast<double>(std::ranges::count_if(squares, [](double value) { return value > 0; }));
  const auto count = static_cast<double>(experts);
  return (square - own) / (count * (count - 1));
}

}  // namespace

double stock_ratio(double cosine, size_t experts) {
  if (cosine <= 0) return 0.0;  // and no denominator of zero
  const auto count = static_cast<double>(experts);
  return std::min(1.0, count * cosine / (1 + (count - 1) * cosine));
}

MethodRequirements ModelStock::requirements() const { return {.base = true, .least_experts = 2}; }

at::Tensor ModelStock::merge_parameter(const MergeInput& input, const std::string& name) {
  const size_t experts = heard_experts(input).size();
  const double ratio = stock_ratio(mean_cosine(input, name, experts), experts);
  return merge_in_pieces(input, name, [&](const MergeInput& piece, int64_t) {
    return read_parameter(*piece.base, name, piece.device).lerp(average_parameter(piece, name), ratio);
  });
}

}  // namespace amalgam
