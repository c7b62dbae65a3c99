#include "solvers/methods/slerp.h"

#include <cmath>

#include "solvers/methods/experts.h"
#include "solvers/methods/pieces.h"

namespace amalgam {
namespace {

const RegisterMethod<Slerp> registered("slerp", "spherical interpolation between two experts, tensor by tensor",
                                       "Shoemake 1985; mergekit");

constexpr double kNearlyParallel = 0.9995;  // |cos φ|, mergekit's

/// ⟨a, a⟩, ⟨b, b⟩ and ⟨a, b⟩, summed in float64 over pieces.
class Products {
 public:
  void add(const at::Tensor& a, const at::Tensor& b) {
    const at::Tensor flat_a = a.flatten().to(at::kDouble), flat_b = b.flatten().to(at::kDouble);
    aa_ += flat_a.dot(flat_a).item<double>();
    bb_ += flat_b.dot(flat_b).item<double>();
    ab_ += flat_a.dot(flat_b).item<double>();
  }

  /// The factors of a and b.
  std::pair<double, double> factors(double t) const {
    const double norms = std::sqrt(aa_) * std::sqrt(bb_);
    const double cosine = norms > 0 ? ab_ / norms : 1.0;
    if (std::abs(cosine) > kNearlyParallel) return {1 - t, t};
    const double angle = std::acos(cosine), part = angle * t;
    return {std::sin(angle - part) / std::sin(angle), std::sin(part) / std::sin(angle)};
  }

 private:
  double aa_ = 0.0, bb_ = 0.0, ab_ = 0.0;
};

}  // namespace

at::Tensor slerp(const at::Tensor& a, const at::Tensor& b, double t) {
  Products products;
  products.add(a, b);
  const auto [of_a, of_b] = products.factors(t);
  return a * of_a + b * of_b;
}

MethodRequirements Slerp::requirements() const { return {.least_experts = 2, .most_experts = 2}; }

void Slerp::declare_options(OptionSet& set) {
  set.real("t", t_, {0, 1}, "where between the first task (0) and the second (1)");
}

std::vector<double> Slerp::buffer_weights(const MergeInput& input, const std::string& /*name*/) const {
  std::vector<double> weights;
  double share = 1 - t_;  // of the first that has a say
  for (const ExpertInput& expert : input.experts) {
    weights.push_back(expert.weight * share);
    if (expert.weight != 0) share = t_;
  }
  return weights;
}

at::Tensor Slerp::merge_parameter(const MergeInput& input, const std::string& name) {
  const auto experts = heard_experts(input);
  const double first = experts[0].weight * (1 - t_), second = experts[1].weight * t_;
  const auto read = [&](const MergeInput& piece) {
    const auto two = heard_experts(piece);
    return std::pair(read_parameter(*two[0].tensors, name, piece.device),
                     read_parameter(*two[1].tensors, name, piece.device));
  };
  Products products;
  for_each_piece(input, name, [&](const MergeInput& piece, int64_t) {
    const auto [a, b] = read(piece);
    products.add(a, b);
  });
  const auto [of_a, of_b] = products.factors(second / (first + second));
  return merge_in_pieces(input, name, [&, of_a = of_a, of_b = of_b](const MergeInput& piece, int64_t) {
    const auto [a, b] = read(piece);
    return a * of_a + b * of_b;
  });
}

}  // namespace amalgam
