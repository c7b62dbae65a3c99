#include "solvers/search/cma_es_constants.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

namespace amalgam {
namespace {

/// (Σ w)² / Σ w²
double effective_size(const std::vector<double>& weights, size_t begin, size_t end) {
  double sum = 0, squares = 0;
  for (size_t i = begin; i < end; ++i) {
    sum += weights[i];
    squares += weights[i] * weights[i];
  }
  return squares > 0 ? sum * sum / squares : 0.0;
}

void set_rates(CmaEsConstants& constants, double n, bool separable) {
  const double effective = constants.effective;
  const double faster = separable ? (n + 2) / 3 : 1.0;
  constants.step_rate = (effective + 2) / (n + effective + 5);
  constants.step_damping = 1 + 2 * std::max(0.0, std::sqrt((effective - 1) / (n + 1)) - 1) + constants.step_rate;
  constants.path_rate = (4 + effective / n) / (n + 4 + 2 * effective / n);
  constants.rank_one_rate = std::min(1.0, faster * 2 / ((n + 1.3) * (n + 1.3) + effective));
  constants.rank_mu_rate = std::min(1 - constants.rank_one_rate, faster * 2 * (0.25 + effective + 1 / effective - 2) /
                                                                     ((n + 2) * (n + 2) + effective));
  constants.expected_norm = std::sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));
}

/// The positive ones to the sum 1; the negative ones so that they neither outweigh the rest nor can make the covariance
/// indefinite (equations 50 to 53).
void scale_weights(CmaEsConstants& constants, double n, double effective_negative) {
  double positive = 0, negative = 0;
  for (const double weight : constants.weights) (weight > 0 ? positive : negative) += std::abs(weight);
  const double rank_one = constants.rank_one_rate, rank_mu = constants.rank_mu_rate;
  const double most = std::min({1 + rank_one / rank_mu, 1 + 2 * effective_negative / (constants.effective + 2),
                                (1 - rank_one - rank_mu) / (n * rank_mu)});
  for (double& weight : constants.weights) weight *= weight > 0 ? 1 / positive : most / negative;
}

}  // namespace

CmaEsConstants cma_es_constants(int64_t dimensions, int64_t population, bool separable) {
  TORCH_CHECK(dimensions >= 1, "CMA-ES needs a dimension");
  TORCH_CHECK(population == 0 || population >= 3, "CMA-ES needs a population of 3 or more, and got ", population);
  const auto n = static_cast<double>(dimensions);
  CmaEsConstants constants;
  constants.population = population > 0 ? population : 4 + static_cast<int64_t>(3 * std::log(n));
  for (int64_t i = 1; i <= constants.population; ++i)
    constants.weights.push_back(std::log((static_cast<double>(constants.population) + 1) / 2) -
                                std::log(static_cast<double>(i)));
  constants.parents = std::ranges::count_if(constants.weights, [](double weight) { return weight > 0; });
  const auto parents = static_cast<size_t>(constants.parents);
  constants.effective = effective_size(constants.weights, 0, parents);
  set_rates(constants, n, separable);
  scale_weights(constants, n, effective_size(constants.weights, parents, constants.weights.size()));
  return constants;
}

}  // namespace amalgam
