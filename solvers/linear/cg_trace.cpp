#include "solvers/linear/cg_trace.h"

#include <algorithm>
#include <span>

#include "solvers/linear/lanczos.h"

namespace amalgam {
namespace {

constexpr size_t kLanczosSteps = 300;  // coefficients kept

}  // namespace

CgTrace::CgTrace(const at::Tensor& residual)
    : residuals_{residual}, lanczos_steps_(at::zeros_like(residual, at::kLong)) {}

void CgTrace::add(const at::Tensor& residual, const at::Tensor& moves, const at::Tensor& alpha, const at::Tensor& beta,
                  const at::Tensor& restarts) {
  residuals_.push_back(residual);
  moved_.push_back(moves);
  if (alphas_.size() >= kLanczosSteps) return;
  alphas_.push_back(alpha);
  betas_.push_back(beta);
  lanczos_steps_.add_(moves.logical_and(restarts == 0));
}

at::Tensor CgTrace::history() const {
  const at::Tensor all = at::stack(residuals_).cpu();  // [steps + 1, L]
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

std::vector<std::optional<double>> CgTrace::conditions() const {
  std::vector<std::optional<double>> conditions(static_cast<size_t>(lanczos_steps_.numel()));
  if (alphas_.empty()) return conditions;
  const at::Tensor alpha = at::stack(alphas_, 1).cpu(), beta = at::stack(betas_, 1).cpu();  // [L, steps]
  const at::Tensor steps = lanczos_steps_.cpu();
  for (int64_t item = 0; item < steps.numel(); ++item) {
    const auto count = static_cast<size_t>(steps.const_data_ptr<int64_t>()[item]);
    const auto values = [&](const at::Tensor& of) {
      return std::span<const double>(of.const_data_ptr<double>() + item * of.size(1), count);
    };
    conditions[static_cast<size_t>(item)] = condition_estimate(values(alpha), values(beta));
  }
  return conditions;
}

}  // namespace amalgam
