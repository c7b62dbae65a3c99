#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/random.h"
#include "core/tensor_source.h"
#include "solvers/search/cma_es_constants.h"

namespace amalgam {

struct CmaEsOptions {
  int64_t population = 0;             ///< points a generation; 0: 4 + ⌊3 ln n⌋
  double step = 0.3;                  ///< σ at the start: a third of how far off the best point may be
  bool separable = false;             ///< a diagonal covariance: time and memory of n, not n²
  int64_t evaluations = 1000;         ///< the budget: no generation begins that would go past it
  int64_t spent = 0;                  ///< of the budget, before the first generation
  int64_t patience = 0;               ///< generations without a better point after which to stop; 0: no such limit
  std::optional<double> target = {};  ///< stop at a value that is this low
};

/// What a generation found, of its own values.
struct CmaEsGeneration {
  double best = 0.0, median = 0.0;
};

/// Covariance matrix adaptation evolution strategy: minimises f: Rⁿ → R from its values alone, through points that it
/// is asked for and whose values it is told. Of the values only their order is used, so that f and any increasing
/// function of f are searched alike.
///
/// A generation samples x_k = m + σ C^{1/2} z_k, z_k ~ N(0, I), and with y = C^{1/2} z, best value first,
///   m ← m + σ Σ_{i≤μ} w_i y_i
///   p_σ ← (1 − c_σ) p_σ + √(c_σ (2 − c_σ) μ_eff) Σ_{i≤μ} w_i z_i,   σ ← σ exp(c_σ/d_σ (‖p_σ‖ / E‖N(0, I)‖ − 1))
///   p_c ← (1 − c_c) p_c + h_σ √(c_c (2 − c_c) μ_eff) Σ_{i≤μ} w_i y_i
///   C ← (1 + c_1 (1 − h_σ) c_c (2 − c_c) − c_1 − c_μ Σ w_i) C + c_1 p_c p_cᵀ + c_μ Σ_i w_i° y_i y_iᵀ,
/// w° = w where w ≥ 0, else w n / ‖z‖²; h_σ is 0 while ‖p_σ‖ is large. C^{1/2} is the symmetric root, so that a run
/// does not depend on the signs of eigenvectors.
///
/// Draws depend on the seed, the generation and the place in it alone: asked again, it asks the same. All of it is
/// float64 on the CPU. There are no restarts.
/// It stops at the target, when the budget or the patience is spent, and by the criteria of the tutorial: the best
/// values of 10 + ⌈30 n/λ⌉ generations are equal, or within 1e-12 of one another and of the last generation's; σ √C_ii
/// and σ p_c are below 1e-12 of the first σ; 0.2 σ √C_ii added to m_i leaves it as it is; the condition of C is above
/// 1e14; σ √C grew by more than 1e4; the best and the median values of the last fifth of the generations, at least 120
/// + 30 n/λ, did not improve from their first to their last third.
/// @source Hansen 2016, The CMA Evolution Strategy: A Tutorial (arXiv:1604.00772), appendix A; the criteria to stop:
/// appendix B.3
class CmaEs {
 public:
  /// @param start  [n], m at the start; C is the identity
  /// @throws c10::Error if `start` is no vector or not finite, or if an option is out of range
  CmaEs(const at::Tensor& start, const CmaEsOptions& options, uint64_t seed);

  /// Goes on from what `state` gave, with the same options and seed: to the same points, bit by bit.
  /// @throws InputError if the state is not of such a search
  CmaEs(const NamedTensors& state, const CmaEsOptions& options, uint64_t seed);

  /// The points of the generation that is next, [population, n].
  at::Tensor ask() const;
  /// @param values  of the points that `ask` gives, in their order. One that is not finite counts as the worst
  void tell(const std::vector<double>& values);

  /// Why there is no use in another generation; empty while there is.
  const std::string& why_stopped() const { return why_stopped_; }

  const at::Tensor& mean() const { return mean_; }              ///< m [n]
  double step() const { return step_; }                         ///< σ
  const at::Tensor& covariance() const { return covariance_; }  ///< C [n, n], or its diagonal [n]
  const at::Tensor& best_point() const { return best_point_; }  ///< [n], of all that were told; m before the first
  double best_value() const { return best_value_; }             ///< infinite before the first
  int64_t evaluations() const { return generations() * constants_.population; }
  int64_t generations() const { return static_cast<int64_t>(history_.size()); }
  const std::vector<CmaEsGeneration>& history() const { return history_; }
  const CmaEsConstants& constants() const { return constants_; }

  /// All that a search which goes on needs, for a file.
  NamedTensors state() const;

 private:
  void read_state(const NamedTensors& state);
  at::Tensor draws() const;                          // z [population, n]
  at::Tensor shaped(const at::Tensor& draws) const;  // y = z C^{1/2} [population, n]
  void remember(const at::Tensor& y, const std::vector<double>& values, const std::vector<int64_t>& order);
  void update(const at::Tensor& z, const at::Tensor& y);
  void adapt_covariance(const at::Tensor& z, const at::Tensor& y, bool stalled);
  void take_root();
  std::string reason_to_stop() const;
  std::string reason_in_values() const;
  std::string reason_in_numbers() const;

  CmaEsOptions options_;
  CmaEsConstants constants_;
  RandomStream random_;
  at::Tensor mean_, covariance_, step_path_, path_;  // m, C, p_σ, p_c
  double step_ = 0.0;
  at::Tensor root_, scales_;  // C^{1/2} as C, and the square roots of its eigenvalues [n]
  at::Tensor best_point_;
  double best_value_ = 0.0;
  int64_t best_generation_ = 0;                              // how many generations there were when it was found
  double spread_ = std::numeric_limits<double>::infinity();  // of the values of the last generation
  std::vector<CmaEsGeneration> history_;
  std::string why_stopped_;
};

}  // namespace amalgam
