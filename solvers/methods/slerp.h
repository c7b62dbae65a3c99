#pragma once

#include "solvers/methods/method.h"

namespace amalgam {

/// Spherical linear interpolation of two tensors as flat vectors, of any norms:
///   (sin((1 − t) φ) a + sin(t φ) b) / sin φ,  cos φ = ⟨a, b⟩ / (‖a‖ ‖b‖).
/// Where |cos φ| > 0.9995 (nearly parallel or antipodal: sin φ carries little) or one of them is zero it is the linear
/// (1 − t) a + t b. At t = 0 and 1 it is a and b, to the bit. φ is computed in float64.
at::Tensor slerp(const at::Tensor& a, const at::Tensor& b, double t);

/// Parameter by parameter the `slerp` of two experts, from the first task (t = 0) to the second (t = 1) in the recipe's
/// order. Task weights shift t: the second has the share α₂ t / (α₁ (1 − t) + α₂ t), which is t where they are equal.
/// Buffers are the mean by the same shares.
/// Experts fine-tuned from one base are mostly within the linear zone.
/// @source Shoemake 1985; per tensor, with the threshold of 0.9995, as in mergekit, which gives a zero tensor an angle
///         of 90 degrees where this interpolates linearly
class Slerp final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;
  std::vector<double> buffer_weights(const MergeInput& input, const std::string& name) const override;

 protected:
  void declare_options(OptionSet& set) override;

 private:
  double t_ = 0.5;
};

}  // namespace amalgam
