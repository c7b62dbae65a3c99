#include "solvers/linear/conjugate_gradient.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "solvers/linear/cg_kernels.h"
#include "solvers/linear/lanczos.h"

namespace amalgam {
namespace {

/// What an item is doing. Kept on the device as int8 [L].
enum Status : int8_t {
  kRunning,
  kConverged,
  kNegativeCurvature,
  kNoCurvature,
  kNotFinite,
  kIndefinitePreconditioner,
  kOutOfReach,
  kDiverged,
  kTimeLimit,
  kRounding
};

const char* describe(Status status) {
  switch (status) {
    case kRunning:
      return "iteration limit";
    case kConverged:
      return "tolerance reached";
    case kNegativeCurvature:
      return "stopped at a direction of negative curvature: the operator is not positive definite";
    case kNoCurvature:
      return "stopped at a direction of no curvature: the operator is singular, and the right-hand side has a part "
             "outside its range";
    case kNotFinite:
      return "stopped before a value that is not finite";
    case kIndefinitePreconditioner:
      return "stopped: the preconditioner is not positive definite";
    case kOutOfReach:
      return "stopped: what is left of the right-hand side lies where the operator sees nothing";
    case kDiverged:
      return "diverged, and the start is kept: the operator is not positive definite in this precision; solve in "
             "float64, or with damping";
    case kTimeLimit:
      return "time limit";
    case kRounding:
      return "the recurrence reached the tolerance, the true residual did not: rounding is in the way; solve in "
             "float64, or with damping";
  }
  return "";
}

constexpr double kMostDrift = 0.1;     // of the recurrence's residual from the true one, relative to that
constexpr double kMostOverlap = 0.1;   // cosine of a direction with K times the one before it
constexpr double kSlack = 1e-6;        // relative, of the tolerance: what putting the null part back may cost
constexpr size_t kLanczosSteps = 300;  // coefficients kept

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
  at::Tensor is(Status status) const { return status_ == static_cast<int64_t>(status); }  // bool [L]
  at::Tensor running() const { return is(kRunning); }
  void set_status(const at::Tensor& where, Status status) { status_.masked_fill_(where, static_cast<int64_t>(status)); }
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
    lanczos_steps_ = at::zeros_like(iterations_);

    op_.apply(x_, k_p_);
    r_ = (rhs_ - k_p_).contiguous();
    const at::Tensor rhs_norm = dot(rhs_.contiguous(), rhs_.contiguous(), everyone()).sqrt();
    const at::Tensor start_norm = dot(r_, r_, everyone()).sqrt();
    // What residuals are relative to: ‖b‖; where b is zero the start's residual; where that is zero too, 1.
    scale_ = at::where(rhs_norm > 0, rhs_norm, start_norm);
    scale_.masked_fill_(scale_ == 0, 1.0);
    residual_ = start_norm / scale_;
    history_.push_back(residual_);
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
    history_.push_back(residual_);
    moved_.push_back(moves);
    set_status(moves.logical_and(residual_.isfinite().logical_not()), kNotFinite);
    set_status(running().logical_and(residual_ > most_), kDiverged);
    set_status(running().logical_and(residual_ <= options_.tolerance), kConverged);

    const at::Tensor& z = precondition(r_);
    const at::Tensor next_r_z = dot(r_, z, running());
    set_status(running().logical_and(next_r_z.isfinite().logical_not()), kNotFinite);
    judge_preconditioner(next_r_z);
    const at::Tensor beta = next_r_z / r_z_;
    remember(alpha, beta, moves);
    turn(p_, z, beta, running());
    r_z_ = next_r_z;
  }

  void remember(const at::Tensor& alpha, const at::Tensor& beta, const at::Tensor& moves) {
    if (alphas_.size() >= kLanczosSteps) return;
    alphas_.push_back(alpha);
    betas_.push_back(beta);
    lanczos_steps_.add_(moves.logical_and(restarts_ == 0));
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
    Solution solution{x_, {}, own_steps()};
    for (int64_t item = 0; item < counts.numel(); ++item) {
      auto outcome = static_cast<Status>(status.const_data_ptr<int8_t>()[item]);
      const double truth = residual.const_data_ptr<double>()[item];
      if (outcome == kConverged && !(truth <= options_.tolerance * (1 + kSlack))) outcome = kRounding;
      solution.items.push_back({counts.const_data_ptr<int64_t>()[item], truth, outcome == kConverged, describe(outcome),
                                restarts.const_data_ptr<int64_t>()[item], std::nullopt});
    }
    estimate_conditions(solution);
    return solution;
  }

  /// The history by each item's own steps: one that waited while others moved has no steps there.
  at::Tensor own_steps() const {
    const at::Tensor all = at::stack(history_).cpu();  // [steps + 1, L]
    if (moved_.empty()) return all;
    const at::Tensor moved = at::stack(moved_).cpu();  // [steps, L]
    at::Tensor own = all.clone();
    const auto from = all.accessor<double, 2>();
    const auto moves = moved.accessor<bool, 2>();
    auto to = own.accessor<double, 2>();
    int64_t longest = 1;
    for (int64_t item = 0; item < all.size(1); ++item) {
      int64_t next = 1;
      for (int64_t step = 0; step < moved.size(0); ++step)
        if (moves[step][item]) to[next++][item] = from[step + 1][item];
      longest = std::max(longest, next);
      for (; next < all.size(0); ++next) to[next][item] = to[next - 1][item];
    }
    return own.slice(0, 0, longest);
  }

  void estimate_conditions(Solution& solution) const {
    if (alphas_.empty()) return;
    const at::Tensor alpha = at::stack(alphas_, 1).cpu(), beta = at::stack(betas_, 1).cpu();  // [L, steps]
    const at::Tensor steps = lanczos_steps_.cpu();
    for (size_t item = 0; item < solution.items.size(); ++item) {
      const auto row = static_cast<int64_t>(item);
      const auto count = static_cast<size_t>(steps.const_data_ptr<int64_t>()[item]);
      const auto values = [&](const at::Tensor& of) {
        return std::span<const double>(of.const_data_ptr<double>() + row * of.size(1), count);
      };
      solution.items[item].condition = condition_estimate(values(alpha), values(beta));
    }
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
  at::Tensor iterations_, restarts_, lanczos_steps_;      // int64 [L]
  std::vector<at::Tensor> history_, alphas_, betas_;      // float64 [L] each
  std::vector<at::Tensor> moved_;                         // bool [L], one a step
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
