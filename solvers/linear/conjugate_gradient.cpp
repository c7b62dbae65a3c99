#include "solvers/linear/conjugate_gradient.h"

namespace amalgam {
namespace {

/// What an item is doing. Kept on the device as int8 [L].
enum Status : int8_t { kRunning, kConverged, kNoCurvature, kNotFinite, kIndefinitePreconditioner };

const char* describe(Status status) {
  switch (status) {
    case kRunning:
      return "iteration limit";
    case kConverged:
      return "tolerance reached";
    case kNoCurvature:
      return "stopped at a direction of no positive curvature: the operator is not positive definite there";
    case kNotFinite:
      return "stopped before a value that is not finite";
    case kIndefinitePreconditioner:
      return "stopped: the preconditioner is not positive definite";
  }
  return "";
}

at::Tensor per_item(const at::Tensor& scalars, const at::Tensor& like) {  // [L] -> [L, 1, 1]
  return scalars.to(like.scalar_type()).view({-1, 1, 1});
}

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
    int64_t iteration = 0;
    for (; iteration < options_.iterations; ++iteration) {
      if (iteration % options_.check_every == 0) {
        if (options_.at_check) options_.at_check(iteration);
        if (!running().any().item<bool>()) break;  // the loop's only look at the device
      }
      step(iteration);
    }
    if (preconditioner_ != nullptr) restore_null_part();
    return finish(iteration);
  }

 private:
  at::Tensor running() const { return status_ == static_cast<int64_t>(kRunning); }  // bool [L]

  void set_status(const at::Tensor& where, Status status) { status_.masked_fill_(where, static_cast<int64_t>(status)); }

  /// ⟨a, b⟩ of each item: float64 [L].
  at::Tensor dot(const at::Tensor& a, const at::Tensor& b) {
    at::mul_out(product_, a, b);
    return product_.sum({1, 2}, false, at::kDouble);
  }

  const at::Tensor& precondition(const at::Tensor& residual) {
    if (preconditioner_ == nullptr) return residual;
    preconditioner_->apply(residual, z_);
    return z_;
  }

  void start() {
    const int64_t items = rhs_.size(0);
    const auto scalars = rhs_.options().dtype(at::kDouble);
    x_ = initial_.clone(at::MemoryFormat::Contiguous);
    k_p_ = at::empty_like(x_);
    candidate_ = at::empty_like(x_);
    product_ = at::empty_like(x_);
    if (preconditioner_ != nullptr) z_ = at::empty_like(x_);
    status_ = at::full({items}, static_cast<int64_t>(kRunning), rhs_.options().dtype(at::kChar));
    iterations_ = at::zeros({items}, rhs_.options().dtype(at::kLong));
    history_ = at::empty({options_.iterations + 1, items}, scalars);

    op_.apply(x_, k_p_);
    r_ = rhs_ - k_p_;
    const at::Tensor rhs_norm = dot(rhs_, rhs_).sqrt(), start_norm = dot(r_, r_).sqrt();
    // What residuals are relative to: ‖b‖; where b is zero the start's residual; where that is zero too, 1.
    scale_ = at::where(rhs_norm > 0, rhs_norm, start_norm);
    scale_.masked_fill_(scale_ == 0, 1.0);
    residual_ = start_norm / scale_;
    history_[0].copy_(residual_);
    set_status(residual_ <= options_.tolerance, kConverged);
    set_status(residual_.isfinite().logical_not(), kNotFinite);

    const at::Tensor& z = precondition(r_);
    r_z_ = dot(r_, z);
    set_status(running().logical_and(r_z_ <= 0), kIndefinitePreconditioner);
    p_ = z.clone();
  }

  void step(int64_t iteration) {
    op_.apply(p_, k_p_);
    const at::Tensor curvature = dot(p_, k_p_);  // [L], as all scalars below
    const at::Tensor alpha = r_z_ / curvature;

    at::addcmul_out(candidate_, r_, per_item(alpha, r_), k_p_, -1.0);
    const at::Tensor next_residual = dot(candidate_, candidate_).sqrt() / scale_;
    const at::Tensor was_running = running();
    set_status(was_running.logical_and(curvature <= 0), kNoCurvature);
    set_status(running().logical_and(next_residual.isfinite().logical_not()), kNotFinite);
    const at::Tensor moves = running(), moves_item = moves.view({-1, 1, 1});

    // A frozen item takes its own old values, so that not a bit of it changes, whatever alpha is.
    at::where_out(r_, moves_item, candidate_, r_);
    at::addcmul_out(candidate_, x_, per_item(alpha, x_), p_);
    at::where_out(x_, moves_item, candidate_, x_);
    residual_ = at::where(moves, next_residual, residual_);
    iterations_.add_(moves);
    history_[iteration + 1].copy_(residual_);
    set_status(moves.logical_and(residual_ <= options_.tolerance), kConverged);

    const at::Tensor& z = precondition(r_);
    const at::Tensor next_r_z = dot(r_, z);
    set_status(running().logical_and(next_r_z <= 0), kIndefinitePreconditioner);
    at::addcmul_out(p_, z, per_item(next_r_z / r_z_, p_), p_);
    r_z_ = next_r_z;
  }

  void restore_null_part() {
    const at::Tensor part = op_.null_part(initial_ - x_);
    if (part.defined()) x_.add_(part);
  }

  Solution finish(int64_t iterations) {
    op_.apply(x_, k_p_);
    at::sub_out(candidate_, rhs_, k_p_);
    const at::Tensor residual = (dot(candidate_, candidate_).sqrt() / scale_).cpu();
    const at::Tensor status = status_.cpu(), counts = iterations_.cpu();

    Solution solution{x_, {}, history_.slice(0, 0, iterations + 1).cpu()};
    for (int64_t item = 0; item < residual.size(0); ++item) {
      const auto outcome = static_cast<Status>(status.data_ptr<int8_t>()[item]);
      ItemSummary summary{counts.data_ptr<int64_t>()[item], residual.data_ptr<double>()[item], outcome == kConverged,
                          describe(outcome)};
      // Rounding parts the recurrence from the truth; a small factor of it is no reason to doubt the answer.
      if (summary.converged && !(summary.residual <= 10 * options_.tolerance)) {
        summary.converged = false;
        summary.why = "the recurrence reached the tolerance, the true residual did not: solve in float64";
      }
      solution.items.push_back(std::move(summary));
    }
    return solution;
  }

  const LinearOperator& op_;
  const at::Tensor &rhs_, &initial_;
  const Preconditioner* preconditioner_;
  const CgOptions& options_;

  at::Tensor x_, r_, z_, p_, k_p_, candidate_, product_;  // [L, out, in]
  at::Tensor r_z_, residual_, scale_;                     // float64 [L]
  at::Tensor status_, iterations_;                        // int8 [L], int64 [L]
  at::Tensor history_;                                    // float64 [iterations + 1, L]
};

}  // namespace

void CgOptions::declare(OptionSet& set) {
  set.integer("iterations", iterations, {0, 100000}, "conjugate gradient steps at most; 0 keeps the start");
  set.real("tolerance", tolerance, {0, 1}, "stop where the residual is this share of the right-hand side");
  set.integer("check_every", check_every, {1, 100000}, "steps between two looks at whether all have converged");
}

Solution solve(const LinearOperator& op, const at::Tensor& rhs, const at::Tensor& initial,
               const Preconditioner* preconditioner, const CgOptions& options) {
  check_operand(op, rhs, "rhs");
  check_operand(op, initial, "initial");
  TORCH_CHECK(options.iterations >= 0 && options.check_every >= 1 && options.tolerance >= 0,
              "CgOptions: iterations and tolerance are not negative, check_every is at least 1");
  const at::Tensor finite = at::stack({rhs.isfinite().all(), initial.isfinite().all()}).cpu();
  TORCH_CHECK(finite[0].item<bool>(), "conjugate gradients: the right-hand side holds a value that is not finite");
  TORCH_CHECK(finite[1].item<bool>(), "conjugate gradients: the start holds a value that is not finite");
  return BatchedCg(op, rhs, initial, preconditioner, options).run();
}

}  // namespace amalgam
