#include "solvers/search/relaxed_mask.h"

#include <limits>

#include "core/random.h"

namespace amalgam {
namespace {

/// Keeps the logit of a draw of 0 finite.
double margin_of(at::ScalarType dtype) {
  return dtype == at::kDouble ? std::numeric_limits<double>::epsilon()
                              : static_cast<double>(std::numeric_limits<float>::epsilon());
}

/// Never zero: a mask that is, is left as it is.
at::Tensor mean_of(const at::Tensor& mask) {
  return mask.mean().clamp_min_(static_cast<double>(std::numeric_limits<float>::min()));
}

}  // namespace

at::Tensor relaxed_mask(const at::Tensor& logits, const at::Tensor& draws, double temperature) {
  return at::logit(draws, margin_of(draws.scalar_type())).add_(logits).div_(temperature).sigmoid_();
}

at::Tensor rescaled(const at::Tensor& mask) { return mask / mean_of(mask); }

at::Tensor logit_slopes(const at::Tensor& mask, const at::Tensor& slopes, double temperature) {
  const at::Tensor mean = mean_of(mask);
  const at::Tensor common = (mask * slopes).mean() / mean;
  return (slopes - common).mul_(mask * (1 - mask)).div_(mean * temperature);
}

at::Tensor mask_draws(uint64_t seed, const std::string& parameter, uint64_t step, const at::Tensor& like) {
  const at::TensorOptions options = at::TensorOptions().dtype(like.scalar_type()).device(at::kCPU);
  return at::rand(like.sizes(), RandomStream(seed, "concrete\n" + parameter).generator(step), options)
      .to(like.device());
}

}  // namespace amalgam
