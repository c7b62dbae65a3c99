#include "solvers/linear/spectrum.h"

#include <algorithm>
#include <limits>

namespace amalgam {

Spectrum Spectrum::leading(int64_t rank) const {
  return {left.narrow(1, 0, rank), values.narrow(0, 0, rank), right.narrow(0, 0, rank)};
}

Spectrum Spectrum::present(int64_t most, double floor) const { return leading(std::min(most, rank(floor))); }

at::Tensor Spectrum::product() const { return (left * values).mm(right); }

int64_t Spectrum::rank(double floor) const {
  if (values.numel() == 0) return 0;
  const auto larger = static_cast<double>(std::max(left.size(0), right.size(1)));
  const double rounding = std::numeric_limits<double>::epsilon() * larger * values.max().item<double>();
  return values.gt(std::max(rounding, floor)).sum().item<int64_t>();
}

at::Tensor Spectrum::polar() const {
  const Spectrum seen = present(values.numel());
  return seen.left.mm(seen.right);
}

Spectrum spectrum_of(const at::Tensor& matrix) {
  TORCH_CHECK(matrix.dim() == 2, "the spectrum of a tensor of ", matrix.dim(), " axes");
  auto [left, values, right] = at::linalg_svd(matrix.to(at::kDouble), /*full_matrices=*/false);
  return {left, values, right};
}

}  // namespace amalgam
