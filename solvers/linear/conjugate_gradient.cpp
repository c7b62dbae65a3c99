#include "solvers/linear/conjugate_gradient.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "solvers/linear/cg_kernels.h"
#include "solvers/linear/cg_status.h"
#include "solvers/linear/cg_trace.h"

namespace amalgam {
namespace {

constexpr double kMostDrift = 0.1;    // of the recurrence's residual from the true one, relative to that
constexpr double kMostOverlap = 0.1;  // cosine of a direction with K times the one before it
constexpr double kSlack = 1e-6;       // relative, of the tolerance: what putting the null part back may cost

/// How far the residual may grow, over ‖b‖ or the start's. On positive operators it grows by √κ at most, and a κ above
/// 1/ε is beyond the arithmetic.
double most_growth(at::ScalarType dtype) { return 1 / std::sqrt(dtype == at::kDouble ? 2.2e-16 : 1.2e-7); }

/// Conjugate gradients on a batch. With K = op, P = preconditioner, in an item's own letters:
///   r = b − K x, z = P⁻¹ r, p = z; then
///   α = ⟨r, z⟩ / ⟨p, K p⟩,  x += α p,  r −= α K p,  z = P⁻¹ r,  β = ⟨r, z⟩ / ⟨r, z⟩_before,  p = z + β p
class BatchedCg {
 public:
  BatchedCg(const LinearOperator& op, const at::Tensor& rhs, const at::Tensor& initial,
            const Preconditioner* preconditioner, const CgOptions& options)
      : op_(op), rhs_(rhs), initial_(initial), preconditioner_(preconditioner), options_(options) {
    start();
  }

  Solution run() {
    do {
      iterate();
    } while (resume_unfinished());
    if (preconditioner_ != nullptr) restore_null_part();
    keep_start_where_diverged();
    return finish();
  }

 private:
  at::Tensor is(CgStatus status) const { return status_ == static_cast<int64_t>(status); }  // bool [L]
  at::Tensor running() const { return is(kRunning); }
  void set_status(const at::Tensor& where, CgStatus status) {
    status_.masked_fill_(where, static_cast<int64_t>(status));
  }
  at::Tensor everyone() const { return at::ones_like(status_, at::kBool); }

  const at::Tensor& precondition(const at::Tensor& residual) {
    if (preconditioner_ == nullptr) return residual;
    preconditioner_->apply(residual, z_, items_);
    return z_;
  }

  void start() {
    const int64_t count = rhs_.size(0);
    items_ = all_items(count);
    x_ = initial_.clone(at::MemoryFormat::Contiguous);
    k_p_ = at::zeros_like(x_);
    if (preconditioner_ != nullptr) z_ = at::zeros_like(x_);
    status_ = at::zeros({count}, rhs_.options().dtype(at::kChar));
    iterations_ = at::zeros({count}, rhs_.options().dtype(at::kLong));
    restarts_ = at::zeros_like(iterations_);

    op_.apply(x_, k_p_);
    r_ = (rhs_ - k_p_).contiguous();
    const at::Tensor rhs_norm = dot(rhs_.contiguous(), rhs_.contiguous(), everyone()).sqrt();
    const at::Tensor start_norm = dot(r_, r_, everyone()).sqrt();
    // What residuals are relative to: ‖b‖; where b is zero the start's residual; where that is zero too, 1.
    scale_ = at::where(rhs_norm > 0, rhs_norm, start_norm);
    scale_.masked_fill_(scale_ == 0, 1.0);
    residual_ = start_norm / scale_;
    trace_ = CgTrace(residual_);
    last_true_ = residual_.clone();
    most_ = residual_.clamp_min(1.0) * most_growth(rhs_.scalar_type());
    set_status(residual_ <= options_.tolerance, kConverged);
    set_status(residual_.isfinite().logical_not(), kNotFinite);
    const at::Tensor& z = precondition(r_);
    r_z_ = dot(r_, z, everyone());
    judge_preconditioner(r_z_);
    p_ = z.clone();
  }

  /// Steps until nothing runs, or a limit.
  void iterate() {
    const int64_t check_every = options_.check_every > 0 ? options_.check_every : rhs_.device().is_cpu() ? 1 : 10;
    for (; iteration_ < options_.iterations; ++iteration_) {
      if (iteration_ % check_every == 0) {
        if (options_.at_check) options_.at_check(iteration_);
        if (!look()) return;
      }
      step();
      if (options_.refresh_every > 0 && (iteration_ + 1) % options_.refresh_every == 0) refresh();
    }
  }

  /// The loop's only look at the device. @return whether any item runs on
  bool look() {
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin_;
    if (options_.time_limit > 0 && spent.count() > options_.time_limit) set_status(running(), kTimeLimit);
    const at::Tensor on_host = running().cpu();
    items_.clear();
    for (int64_t item = 0; item < on_host.numel(); ++item)
      if (on_host.const_data_ptr<bool>()[item]) items_.push_back(item);
    return !items_.empty();
  }

  void judge_preconditioner(const at::Tensor& r_z) {
    set_status(running().logical_and(r_z < 0), kIndefinitePreconditioner);
    set_status(running().logical_and(r_z == 0), kOutOfReach);
  }

  void step() {
    op_.apply(p_, k_p_, items_);
    const at::Tensor curvature = dot(p_, k_p_, running());  // [L], as all scalars below
    const at::Tensor alpha = r_z_ / curvature;
    set_status(running().logical_and(alpha.isfinite().logical_not()).logical_and(curvature != 0), kNotFinite);
    set_status(running().logical_and(curvature < 0), kNegativeCurvature);
    set_status(running().logical_and(curvature == 0), kNoCurvature);
    const at::Tensor moves = running();

    const at::Tensor next_residual = advance(x_, r_, p_, k_p_, alpha, moves).sqrt() / scale_;
    residual_ = at::where(moves, next_residual, residual_);
    iterations_.add_(moves);
    set_status(moves.logical_and(residual_.isfinite().logical_not()), kNotFinite);
    set_status(running().logical_and(residual_ > most_), kDiverged);
    set_status(running().logical_and(residual_ <= options_.tolerance), kConverged);

    const at::Tensor& z = precondition(r_);
    const at::Tensor next_r_z = dot(r_, z, running());
    set_status(running().logical_and(next_r_z.isfinite().logical_not()), kNotFinite);
    judge_preconditioner(next_r_z);
    const at::Tensor beta = next_r_z / r_z_;
    trace_.add(residual_, moves, alpha, beta, restarts_);
    turn(p_, z, beta, running());
    r_z_ = next_r_z;
  }

  /// The true residual in place of the recurrence's, and a fresh start where they have parted. Uses k_p_.
  void refresh() {
    const at::Tensor live = running(), live_item = live.view({-1, 1, 1});
    const auto norm = [&](const at::Tensor& v) { return dot(v, v, live).sqrt(); };
    const at::Tensor overlap = dot(p_, k_p_, live).abs() / (norm(p_) * norm(k_p_));
    op_.apply(x_, k_p_, items_);
    const at::Tensor truth = (rhs_ - k_p_).contiguous();
    const at::Tensor drift = norm(truth - r_) / norm(truth);
    r_.copy_(at::where(live_item, truth, r_));
    residual_ = at::where(live, norm(r_) / scale_, residual_);
    restart((drift > kMostDrift).logical_or_(overlap > kMostOverlap).logical_and_(live));
  }

  /// Takes the preconditioned residual as the next direction. ⟨r, z⟩ is renewed in all items that run: their residual
  /// may be new.
  void restart(const at::Tensor& where) {
    const at::Tensor& z = precondition(r_);
    r_z_ = at::where(running(), dot(r_, z, everyone()), r_z_);
    p_.copy_(at::where(where.view({-1, 1, 1}), z, p_));
    restarts_.add_(where);
  }

  at::Tensor true_residual() {
    op_.apply(x_, k_p_);
    r_ = (rhs_ - k_p_).contiguous();
    return dot(r_, r_, everyone()).sqrt() / scale_;
  }

  /// Items that only the recurrence took for finished run on, as long as that pays. @return whether any does
  bool resume_unfinished() {
    const at::Tensor truth = true_residual();
    const at::Tensor resumes =
        is(kConverged).logical_and(truth > options_.tolerance).logical_and_(truth.mul(2) < last_true_);
    last_true_ = truth;
    if (iteration_ >= options_.iterations || !resumes.any().item<bool>()) return false;
    set_status(resumes, kRunning);
    residual_ = at::where(resumes, truth, residual_);
    items_ = all_items(rhs_.size(0));
    restart(resumes);
    return look();
  }

  void keep_start_where_diverged() {
    const at::Tensor diverged = is(kDiverged);
    x_ = at::where(diverged.view({-1, 1, 1}), initial_, x_);
  }

  void restore_null_part() {
    const at::Tensor part = op_.null_part(initial_ - x_);
    if (part.defined()) x_.add_(part);
  }

  Solution finish() {
    const at::Tensor residual = true_residual().cpu(), counts = iterations_.cpu(), restarts = restarts_.cpu(),
                     status = status_.cpu();
    const auto conditions = trace_.conditions();
    Solution solution{x_, {}, trace_.history()};
    for (int64_t item = 0; item < counts.numel(); ++item) {
      auto outcome = static_cast<CgStatus>(status.const_data_ptr<int8_t>()[item]);
      const double truth = residual.const_data_ptr<double>()[item];
      if (outcome == kConverged && !(truth <= options_.tolerance * (1 + kSlack))) outcome = kRounding;
      solution.items.push_back({counts.const_data_ptr<int64_t>()[item], truth, outcome == kConverged, describe(outcome),
                                restarts.const_data_ptr<int64_t>()[item], conditions[static_cast<size_t>(item)]});
    }
    return solution;
  }

  const LinearOperator& op_;
  const at::Tensor &rhs_, &initial_;
  const Preconditioner* preconditioner_;
  const CgOptions& options_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();

  std::vector<int64_t> items_;                            // that ran at the last look
  int64_t iteration_ = 0;                                 // of the batch
  at::Tensor x_, r_, z_, p_, k_p_;                        // [L, out, in]
  at::Tensor r_z_, residual_, scale_, last_true_, most_;  // float64 [L]
  at::Tensor status_;                                     // int8 [L]
  at::Tensor iterations_, restarts_;                      // int64 [L]
  CgTrace trace_;
};

}  // namespace

void CgOptions::declare(OptionSet& set) {
  set.integer("iterations", iterations, {0, 100000}, "conjugate gradient steps at most; 0 keeps the start");
  set.real("tolerance", tolerance, {0, 1}, "stop where the residual is this share of the right-hand side");
  set.real("time_limit", time_limit, {0, OptionSet::kInfinity},
           "seconds after which the layers that are solved together stop where they are; 0: none");
  set.integer(
      "check_every", check_every, {0, 100000},
      "steps between two looks at whether all have converged; 0: 1 on a CPU, where a look is free, 10 on a GPU");
}

std::vector<std::string> CgOptions::changed() const {
  const CgOptions defaults;
  std::vector<std::string> names;
  if (iterations != defaults.iterations) names.emplace_back("iterations");
  if (tolerance != defaults.tolerance) names.emplace_back("tolerance");
  if (time_limit != defaults.time_limit) names.emplace_back("time_limit");
  if (check_every != defaults.check_every) names.emplace_back("check_every");
  return names;
}

Solution solve(const LinearOperator& op, const at::Tensor& rhs, const at::Tensor& initial,
               const Preconditioner* preconditioner, const CgOptions& options) {
  check_operand(op, rhs, "rhs");
  check_operand(op, initial, "initial");
  TORCH_CHECK(options.iterations >= 0 && options.check_every >= 0 && options.tolerance >= 0 &&
                  options.refresh_every >= 0 && options.time_limit >= 0,
              "CgOptions: no option is negative");
  const at::Tensor finite = at::stack({rhs.isfinite().all(), initial.isfinite().all()}).cpu();
  TORCH_CHECK(finite[0].item<bool>(), "conjugate gradients: the right-hand side holds a value that is not finite");
  TORCH_CHECK(finite[1].item<bool>(), "conjugate gradients: the start holds a value that is not finite");
  return BatchedCg(op, rhs, initial, preconditioner, options).run();
}

}  // namespace amalgam
