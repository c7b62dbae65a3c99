#include "solvers/linear/refinement.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace amalgam {
namespace {

constexpr double kInnerTolerance = 1e-4;  // what float32 reaches without trouble
constexpr double kMargin = 0.5;           // of the tolerance, that the last round aims at

/// One refinement of a batch; letters as in the header.
class Refinement {
 public:
  Refinement(const LinearOperator& op, const LinearOperator& inner, const at::Tensor& rhs, const at::Tensor& initial,
             const Preconditioner* preconditioner, const CgOptions& options)
      : op_(op),
        inner_(inner),
        rhs_(rhs),
        preconditioner_(preconditioner),
        options_(options),
        x_(initial.clone(at::MemoryFormat::Contiguous)),
        image_(at::empty_like(x_)) {
    const at::Tensor rhs_norm = norm(rhs_);
    residual_ = rhs_ - (op_.apply(x_, image_), image_);
    const at::Tensor start_norm = norm(residual_);
    scale_ = at::where(rhs_norm > 0, rhs_norm, start_norm);
    scale_.masked_fill_(scale_ == 0, 1.0);
    relative_ = start_norm / scale_;
    on_host_ = relative_.cpu();
    summaries_.resize(static_cast<size_t>(rhs.size(0)));
    active_.assign(summaries_.size(), true);
    histories_.resize(summaries_.size());
    for (size_t item = 0; item < active_.size(); ++item) histories_[item].push_back(relative(item));
    update_active({});
  }

  Solution run() {
    while (std::find(active_.begin(), active_.end(), true) != active_.end() && used_ < options_.iterations &&
           !out_of_time())
      round();
    return finish();
  }

 private:
  static at::Tensor norm(const at::Tensor& batch) {
    return at::linalg_vector_norm(batch, 2, at::IntArrayRef{1, 2}, false, at::kDouble);
  }
  double relative(size_t item) const { return on_host_.const_data_ptr<double>()[item]; }
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }
  bool out_of_time() const { return options_.time_limit > 0 && seconds() > options_.time_limit; }

  void round() {
    const at::Tensor length = at::where(active_on_device(), relative_ * scale_, at::zeros_like(relative_));
    const at::Tensor shape = length.view({-1, 1, 1});
    const at::Tensor unit = at::where(shape > 0, residual_ / shape, at::zeros_like(residual_));
    CgOptions inner = options_;
    inner.iterations = options_.iterations - used_;
    inner.tolerance = std::max(kInnerTolerance, std::min(1.0, kMargin * options_.tolerance / largest_active()));
    if (options_.time_limit > 0) inner.time_limit = std::max(options_.time_limit - seconds(), 1e-3);
    const at::Tensor target = unit.to(inner_.options());
    const Solution step = solve(inner_, target, at::zeros_like(target), preconditioner_, inner);
    take(step.x.to(at::kDouble) * shape);
    used_ += step.history.size(0) - 1;
    const std::vector<double> before(on_host_.const_data_ptr<double>(),
                                     on_host_.const_data_ptr<double>() + on_host_.numel());
    on_host_ = relative_.cpu();
    record(step, before);
    update_active(before);
  }

  /// Adds a correction where it makes the residual smaller.
  void take(const at::Tensor& correction) {
    const at::Tensor next = x_ + correction;
    op_.apply(next, image_);
    const at::Tensor next_residual = rhs_ - image_, next_relative = norm(next_residual) / scale_;
    const at::Tensor better = next_relative < relative_, better_item = better.view({-1, 1, 1});
    x_ = at::where(better_item, next, x_);
    residual_ = at::where(better_item, next_residual, residual_);
    relative_ = at::where(better, next_relative, relative_);
  }

  at::Tensor active_on_device() const {
    at::Tensor mask = at::empty({static_cast<int64_t>(active_.size())}, at::kBool);
    for (size_t item = 0; item < active_.size(); ++item) mask.data_ptr<bool>()[item] = active_[item];
    return mask.to(rhs_.device());
  }

  double largest_active() const {
    double largest = 0;
    for (size_t item = 0; item < active_.size(); ++item)
      if (active_[item]) largest = std::max(largest, relative(item));
    return largest;
  }

  void record(const Solution& step, const std::vector<double>& before) {
    const auto steps = step.history.accessor<double, 2>();
    for (size_t item = 0; item < active_.size(); ++item) {
      if (!active_[item]) continue;
      const ItemSummary& inner = step.items[item];
      ItemSummary& summary = summaries_[item];
      if (summary.iterations == 0) summary.condition = inner.condition;
      summary.iterations += inner.iterations;
      summary.restarts += inner.restarts;
      summary.why = inner.why;
      for (int64_t i = 1; i <= inner.iterations; ++i)
        histories_[item].push_back(before[item] * steps[i][static_cast<int64_t>(item)]);
      histories_[item].back() = relative(item);
    }
  }

  /// An item goes on while it misses the tolerance and the last round at least halved its residual.
  void update_active(const std::vector<double>& before) {
    for (size_t item = 0; item < active_.size(); ++item) {
      if (!active_[item]) continue;
      const bool finite = std::isfinite(relative(item));
      const bool gains = before.empty() || relative(item) < 0.5 * before[item];
      active_[item] = finite && gains && relative(item) > options_.tolerance;
      if (finite && !gains && relative(item) > options_.tolerance && summaries_[item].why == "tolerance reached")
        summaries_[item].why = "a round of refinement no longer halves the residual: solve in float64";
    }
  }

  Solution finish() {
    Solution solution{x_, summaries_, {}};
    size_t longest = 1;
    for (const auto& history : histories_) longest = std::max(longest, history.size());
    solution.history = at::empty({static_cast<int64_t>(longest), rhs_.size(0)}, at::kDouble);
    auto values = solution.history.accessor<double, 2>();
    for (size_t item = 0; item < histories_.size(); ++item) {
      ItemSummary& summary = solution.items[item];
      summary.residual = relative(item);
      summary.converged = summary.residual <= options_.tolerance;
      if (summary.converged)
        summary.why = "tolerance reached";
      else if (summary.why.empty() || summary.why == "tolerance reached")
        summary.why = out_of_time() ? "time limit" : "iteration limit";
      for (size_t i = 0; i < longest; ++i)
        values[static_cast<int64_t>(i)][static_cast<int64_t>(item)] =
            histories_[item][std::min(i, histories_[item].size() - 1)];
    }
    return solution;
  }

  const LinearOperator &op_, &inner_;
  const at::Tensor& rhs_;
  const Preconditioner* preconditioner_;
  const CgOptions& options_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  at::Tensor x_, image_, residual_;  // float64 [L, out, in]
  at::Tensor scale_, relative_;      // float64 [L]
  at::Tensor on_host_;               // relative_ on the host
  std::vector<ItemSummary> summaries_;
  std::vector<bool> active_;
  std::vector<std::vector<double>> histories_;
  int64_t used_ = 0;
};

}  // namespace

Solution solve_refined(const LinearOperator& op, const LinearOperator& inner, const at::Tensor& rhs,
                       const at::Tensor& initial, const Preconditioner* preconditioner, const CgOptions& options) {
  check_operand(op, rhs, "rhs");
  check_operand(op, initial, "initial");
  TORCH_CHECK(
      op.options().dtype() == at::kDouble && inner.options().dtype() == at::kFloat && op.sizes() == inner.sizes(),
      "solve_refined: a float64 operator and the same in float32");
  TORCH_CHECK(rhs.isfinite().all().item<bool>() && initial.isfinite().all().item<bool>(),
              "solve_refined: the right-hand side or the start holds a value that is not finite");
  return Refinement(op, inner, rhs, initial, preconditioner, options).run();
}

}  // namespace amalgam
