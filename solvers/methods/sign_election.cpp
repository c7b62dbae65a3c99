#include "solvers/methods/sign_election.h"

#include <limits>

namespace amalgam {

at::Tensor elected_sign(const std::vector<at::Tensor>& changes, const std::vector<double>& weights, int zero_sign) {
  TORCH_CHECK(!changes.empty() && changes.size() == weights.size(), "an election of ", changes.size(), " changes with ",
              weights.size(), " weights");
  at::Tensor sum = at::zeros_like(changes.front());
  for (size_t m = 0; m < changes.size(); ++m) sum.add_(changes[m], weights[m]);
  at::Tensor sign = sum.sign_();
  return zero_sign == 0 ? sign : sign.masked_fill_(sign == 0, zero_sign);
}

at::Tensor mean_of_agreeing(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                            const at::Tensor& sign, double floor) {
  at::Tensor sum = at::zeros_like(sign), total = at::zeros_like(sign);
  for (size_t m = 0; m < changes.size(); ++m) {
    const at::Tensor agrees = changes[m].sign() == sign;
    sum.add_(changes[m] * agrees, weights[m]);
    total.add_(agrees.to(sign.scalar_type()), weights[m]);
  }
  // Where nobody agrees the sum is zero, whatever it is divided by.
  const double least = floor > 0 ? floor : std::numeric_limits<float>::min();
  return sum.div_(total.clamp_min_(least));
}

}  // namespace amalgam
